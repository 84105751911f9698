"""The papers behind what a pipeline uses: those that its modules name under `References:` in their docstrings.

    References:
        | Title, section 2 (First et al., 2020), for what, https://arxiv.org/abs/0000.00000

A paper is known by its title. The place in it, what it is for and the address may be left out.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from distill_prune import recipe as recipes
from distill_prune.analyze import ANALYSES
from distill_prune.artifacts import convex
from distill_prune.data import DATASETS, augment, cutmix, whiten
from distill_prune.distill import METHODS, experts
from distill_prune.models import MODELS
from distill_prune.plan.config import Pipeline
from distill_prune.plan.sections import Stored
from distill_prune.prune import CRITERIA, controls, imp
from distill_prune.training import Recipe

HOME = "https://github.com/distill-prune/distill-prune"
"""The project's address, as its metadata have it."""

_PLACE = r"(?:, (?:sections?|appendix|table|algorithm|equation) [^(]*)?"
_ITEM = re.compile(rf"(?P<title>.+?){_PLACE} \((?P<by>[^()]+?), (?P<year>\d{{4}})\)(?P<rest>.*)")
_ADDRESS = re.compile(r"https?://\S+")


@dataclass(frozen=True)
class Paper:
    """A paper: its title, its authors as "First et al.", the year, its address ("" where none is given), and what it is for.

    `used_by` are the parts of a pipeline that rest on it.
    """

    title: str
    authors: str
    year: int
    url: str = ""
    note: str = ""
    used_by: tuple[str, ...] = field(default=())

    @property
    def identity(self) -> str:
        """What is equal where two references are to one paper."""
        return re.sub(r"\W+", " ", self.title).casefold().strip()

    @property
    def text(self) -> str:
        """One line: authors, year, title, address."""
        return f"{self.authors} ({self.year}). {self.title}." + (f" {self.url}" if self.url else "")


def references(docstring: str | None) -> list[Paper]:
    """The papers that a docstring names. What has no authors and no year is no paper, and is left out."""
    block = inspect.cleandoc(docstring or "").partition("\nReferences:\n")[2]
    lines = [line.strip() for line in block.partition("\n\n")[0].splitlines()]
    items = " ".join(lines).split("| ")[1:]
    return [paper for item in items if (paper := _paper(item)) is not None]


def _paper(item: str) -> Paper | None:
    if (match := _ITEM.match(item)) is None:
        return None
    address = _ADDRESS.search(match["rest"])
    note = _ADDRESS.sub("", match["rest"]).strip(" ,;:.")
    return Paper(match["title"], match["by"], int(match["year"]), address[0].rstrip(".,") if address else "", note)


def papers(*studies: Pipeline) -> list[Paper]:
    """The papers to cite for studies, in the order in which their parts are used: data, networks, distillation, pruning,
    training, analyses. Sets of the store are not among them: what they were made with is theirs to say."""
    cited: dict[str, Paper] = {}
    for use, paper in (pair for study in studies for pair in _cited(study)):
        known = cited.get(paper.identity, paper)
        users = dict.fromkeys((*known.used_by, use))
        cited[paper.identity] = replace(known, url=known.url or paper.url, used_by=tuple(users))
    return [*cited.values()]


def _cited(p: Pipeline) -> Iterator[tuple[str, Paper]]:
    """Each part of a pipeline with each paper of its module."""
    for use, docstring in _modules(p):
        yield from ((use, paper) for paper in references(docstring))
    for use, recipe in _recipes(p):
        words = {recipe.optimizer, *(["label smoothing"] if recipe.label_smoothing else [])}
        named = references(recipes.__doc__)
        yield from ((use, paper) for paper in named if any(word in paper.note for word in words))
        for asked, module in ((recipe.augment != "none", augment), (recipe.cutmix > 0, cutmix)):
            yield from ((use, paper) for paper in references(module.__doc__) if asked)


def _modules(p: Pipeline) -> Iterator[tuple[str, str | None]]:
    """Each part of a pipeline that is a module, with the module's docstring."""
    for source in (p.data, *p.tasks.values()):
        yield f"data {source.name}", DATASETS[source.name].__doc__
        if getattr(source, "transform", "") == "zca":
            yield "transform zca", whiten.__doc__
    methods = [method for method in p.distill.values() if not isinstance(method, Stored)]
    teachers = [p.teacher] if p.distill else []
    for model in (p.model, *teachers, *p.architectures.values()):
        yield f"model {model.name}", MODELS[model.name].__doc__
    for method in methods:
        yield f"method {method.name}", METHODS[method.name].__doc__
    if any(METHODS[method.name].NEEDS_EXPERTS for method in methods):
        yield "experts", experts.__doc__
        if p.experts.convex:
            yield "convex experts", convex.__doc__
    arms = p.arms.values()
    if p.prune.levels:
        yield "pruning", imp.__doc__
        for criterion in (arm.criterion or p.prune.criterion for arm in arms if arm.control is None):
            yield f"criterion {criterion.name}", CRITERIA[criterion.name].__doc__
    if any(arm.control for arm in arms):
        yield "controls", controls.__doc__
    for analysis in (*p.compare, *(["summary"] if p.prune.levels else [])):
        yield f"analysis {analysis}", ANALYSES[analysis].__doc__


def _recipes(p: Pipeline) -> Iterator[tuple[str, Recipe]]:
    """The trainings of a pipeline, by what they are for."""
    if any(METHODS[m.name].NEEDS_EXPERTS for m in p.distill.values() if not isinstance(m, Stored)):
        yield "training of experts", p.experts.recipe
    if p.prune.levels:
        yield "training that prunes", p.prune.recipe
        yield "training that prunes", p.prune.real or p.retrain.recipe
    yield "retraining", p.retrain.recipe


# -- BibTeX

_ARXIV = re.compile(r"https://arxiv\.org/abs/(\d{4}\.\d{4,5})")
_PLAIN = str.maketrans({c: f"\\{c}" for c in "&%$#_"})


def bibtex(cited: Iterable[Paper], version: str) -> str:
    """The papers, and this package before them, as entries of BibTeX. "et al." becomes "and others".

    A surname of several words stays one.
    """
    this = {"author": "{The distill-prune developers}", "title": "{distill-prune}", "version": version, "url": HOME}
    entries, keys = [_entry("software", "distill-prune", this)], set[str]()
    for paper in cited:
        names = re.split(r",? and |, ", paper.authors.removesuffix(" et al."))
        more = ["others"] if paper.authors.endswith(" et al.") else []
        fields = {
            "author": " and ".join([*(f"{{{name}}}" if " " in name else name for name in names), *more]),
            "title": f"{{{paper.title.translate(_PLAIN)}}}",
            "year": str(paper.year),
        }
        if arxiv := _ARXIV.match(paper.url):
            fields |= {"eprint": arxiv[1], "archivePrefix": "arXiv"}
        entries.append(_entry("misc", _key(names[0], paper, keys), fields | ({"url": paper.url} if paper.url else {})))
    return "\n\n".join(entries)


def _entry(kind: str, key: str, fields: dict[str, str]) -> str:
    lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
    return f"@{kind}{{{key},\n{lines}\n}}"


def _key(first: str, paper: Paper, taken: set[str]) -> str:
    """surname, year and the title's first long word, with a letter where that is taken; added to `taken`."""
    word = next((w for w in re.findall(r"[a-z]+", paper.title.casefold()) if len(w) > 3), "")
    base = re.sub(r"[^a-z]", "", first.casefold()) + f"{paper.year}{word}"
    key = next(k for k in (base, *(f"{base}{letter}" for letter in "bcdefgh")) if k not in taken)
    taken.add(key)
    return key
