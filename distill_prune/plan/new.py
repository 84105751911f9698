"""A pipeline for a person's own data: what is there is looked at, and a commented file is written that fits it.

Sizes follow from the data: depth of the network from the pixels, images of a set from the smallest class, batches from the
number of examples, and the size of the study from a ladder (sizes.py), so that it ends in minutes on two cores.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_prune.data import DATASETS, survey
from distill_prune.data.image_file import SUFFIXES, size_of
from distill_prune.data.preparation import Survey
from distill_prune.data.source import Source
from distill_prune.errors import DataError
from distill_prune.letters import printable
from distill_prune.limits import Budget
from distill_prune.plan.catalog import plain
from distill_prune.plan.new_text import commented, text_study, text_values
from distill_prune.plan.sizes import COPIES, EPOCHS, EXPERTS, INNER_STEPS, LADDER, NETS, SECONDS, Fitted, Size, fitted, seconds

SAMPLE = 200
"""Images of a folder whose size and colours are looked at."""
NAMED = 12
"""Classes whose numbers of examples are written."""
_HELD_OUT: Sequence[dict[str, float]] = ({}, {"validation": 0.0}, {"validation": 0.0, "test_share": 0.5})
"""What is held out of the data; less of it where a class has few examples."""


@dataclass(frozen=True)
class Written:
    """A new pipeline file, and what was seen of the data, a sentence a line."""

    text: str
    source: Source
    survey: Survey | None
    seen: Sequence[str]


def new_pipeline(name: str, data: Path, tokenizer: str | None = None) -> Written:
    """The text of a pipeline for the data at a path: arrays (.npz), a folder of images, or tab-separated text.

    Raises:
        DataError: there is nothing that can be read, or it does not hold what it should.
    """
    path = data.expanduser()
    kind, values = _kind(path)
    if kind == "tsv":
        if tokenizer not in (None, "minilm") and not Path(tokenizer).expanduser().is_dir():
            raise DataError(f"there is no tokenizer at '{tokenizer}'", expected="a directory with tokenizer.json or vocab.txt")
        table = text_values(path)
        source = _source(kind, values | table.settings | ({"tokenizer": tokenizer} if tokenizer else {}))
        return Written(text_study(_quoted(name), _flow(source), table), source, None, table.seen)
    if tokenizer is not None:
        raise DataError(f"'{data}' holds no text, which alone takes a tokenizer", got=f"--tokenizer {tokenizer}")
    sides = values.pop("sides", None)
    source = _source(kind, values)
    source, seen, fit = _sized(source, sides if isinstance(sides, int) else None)
    said = _seen(seen)
    return Written(_image_study(name, source, seen, fit, said), source, seen, said)


def _kind(path: Path) -> tuple[str, dict[str, object]]:
    """The data set that a path holds, by its files, and its settings."""
    if not path.exists():
        raise DataError(f"there is no data at '{path}'", expected="a .npz file, a folder of images, or a .tsv file")
    names = {path.name} if path.is_file() else {entry.name for entry in path.iterdir() if not entry.name.startswith(".")}
    values: dict[str, object] = {"path": str(path)}
    if any(name.endswith(".npz") for name in names):
        return "npz", values
    if any(name.endswith((".tsv", ".tsv.gz")) for name in names):
        return "tsv", values
    if path.is_dir():
        return "folder", values | _images(path)
    raise DataError(f"'{path}' is of no kind that is known", expected="a .npz file, a folder of images, or a .tsv file")


def _source(kind: str, values: dict[str, object]) -> Source:
    return DATASETS[kind].Settings.model_validate(values)  # type: ignore[return-value]


def _images(folder: Path) -> dict[str, object]:
    """How a folder's images are read: gray or in colour; and the shorter side of the smallest one, where sizes differ."""
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise DataError(f"'{folder}' holds no images", expected=f"CLASS/* with names that end in {', '.join(SUFFIXES)}")
    sizes = Counter(size_of(file, Budget(folder)) for file in files[:: max(1, len(files) // SAMPLE)])
    read: dict[str, object] = {"channels": 1 if all(gray for *_, gray in sizes) else 3}
    uniform = len({(width, height) for width, height, _ in sizes}) == 1
    return read if uniform else {**read, "sides": min(min(width, height) for width, height, _ in sizes)}


def _sized(source: Source, side: int | None) -> tuple[Source, Survey, Fitted]:
    """The largest size of the ladder that ends in minutes, else the smallest: the data set as it uses it, and what that holds.

    `side` is that of the smallest image where sizes differ.
    """
    whole = _held_out(source if side is None else source.model_copy(update={"size": side}))
    for size in LADDER:
        part = _part(whole[0], whole[1], size)
        seen = _looked(part)
        fit = fitted(size, seen)
        if seconds(fit, seen) <= SECONDS:
            break
    return part, seen, fit


def _held_out(source: Source) -> tuple[Source, Survey]:
    """The data set with its usual parts held out, with smaller ones where a class has too few examples for them."""
    problem: DataError | None = None
    for update in _HELD_OUT:
        if "test_share" not in update or "test_share" in type(source).model_fields:
            some = source.model_copy(update=update)
            try:
                return some, _looked(some)
            except DataError as error:
                problem = problem or error
    assert problem is not None
    raise problem


def _part(source: Source, whole: Survey, size: Size) -> Source:
    """The data set with as many rows and pixels as the size takes. All rows are kept where a class would have none."""
    rows, side = {"rows": sum(whole.splits[:2]), "test_rows": whole.splits[2]}, min(whole.shape[1:])
    fewer = {name: most for name, most in (("rows", size.rows), ("test_rows", size.test_rows)) if rows[name] > most}
    scaled = {"size": size.side} if side > size.side else {}
    part = source.model_copy(update={**fewer, **scaled})
    try:
        _looked(part)
    except DataError:
        return source.model_copy(update=scaled)
    return part


def _looked(source: Source) -> Survey:
    seen = survey(source)
    assert seen is not None  # arrays and folders are looked at without a download
    return seen


def _seen(data: Survey) -> list[str]:
    channels, height, width = data.shape
    colour = "1 channel" if channels == 1 else f"{channels} channels"
    counts = dict(zip(map(printable, data.classes), data.counts, strict=True))
    listed = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    fewest, most = min(counts, key=counts.__getitem__), max(counts, key=counts.__getitem__)
    return [
        f"{sum(data.splits):,} images of {height}x{width} pixels, {colour}, {len(data.classes)} classes",
        f"{data.splits[0]:,} for training, {data.splits[1]:,} held out for choices, {data.splits[2]:,} for test",
        "training images of a class: "
        + (listed if len(counts) <= NAMED else f"{counts[fewest]:,} ({fewest}) to {counts[most]:,} ({most})"),
    ]


def _image_study(name: str, source: Source, data: Survey, fit: Fitted, seen: Sequence[str]) -> str:
    size, classes = fit.size, len(data.classes)
    lanes = f"# Small networks that train alike share their steps, which takes less time.\nlanes: {fit.lanes}\n"
    small = f"batch: {min(64, fit.ipc * classes)}, lr: 0.1, weight_decay: 5e-4, schedule: step, milestones: [0.5]"
    augment = "color_crop_cutout_scale_rotate"
    sparsities = " and ".join(f"{1 - (1 - size.rate) ** level:.0%}" for level in size.compared)
    per_class = f"{fit.ipc} distilled image{'s' * (fit.ipc > 1)} per class"
    return f"""# {printable(name)}: tickets from a few distilled images, beside those from real data and from controls.
{commented(seen)}
#
#   distill-prune plan {name}.yaml     what it makes, and how long that takes on your machine
#   distill-prune run {name}.yaml      make it
#
# Its size was chosen so that two cores finish it in about five minutes. To make it larger, the most useful first:
#   data: more `rows` (leave rows and test_rows out for all), a larger `size` of images
#   prune.real.length, prune.recipe.length     longer training: more accurate networks
#   model.width                                wider networks
#   distill.synthetic.iterations               a better set: look at its accuracy in the report
#   prune.levels and levels                    sparser tickets, and more sparsities that are compared
# `--set model.width=32` tries one for a single run.
title: {_quoted(name)}
question: >-
  Are tickets found on {per_class} as accurate, as stable to SGD noise and as flat as those of real data?
# Six initialisations are the fewest with which a difference can be claimed.
seeds: [0, 1, 2, 3, 4, 5]
{lanes if fit.lanes > 1 else ""}
data: {_flow(source)}
# depth: as often as the images can be halved; a wider network is more accurate and takes longer
model: {{name: convnet, depth: {fit.depth}, width: {size.width}, norm: instance}}

# Teachers on real data, whose trajectories the images are distilled from.
experts:
  count: {EXPERTS}
  recipe: {{length: {EPOCHS}ep, batch: {fit.batch}, lr: 0.1, momentum: 0.0, augment: {augment}}}

distill:
  synthetic: {{name: trajectory, ipc: {fit.ipc}, iterations: {size.iterations}, inner_steps: {INNER_STEPS},
              max_start: {EPOCHS - 1}, inner_lr: 0.05, optimizer: adam, lr_pixels: 0.02, lr_log_lr: 0.01, decay: cosine,
              augment: {augment}}}
  # the control: as many random real images
  subset: {{name: subset, ipc: {fit.ipc}, augment: {augment}}}

prune:
  levels: {size.levels}
  rate: {size.rate}
  # Rewind to initialisation. Where dense networks are unstable (see the barrier in the report) and tickets do not match them,
  # try the weights after some steps: rewind: {{k: 20it}}. A smaller lr makes networks more stable.
  rewind: {{k: 0it}}
  real: &real {{length: {size.steps}it, batch: {fit.batch}, lr: 0.2, momentum: 0.9, schedule: cosine}}
  recipe: {{length: {size.steps}it, {small},
           augment: {augment}}}

arms:
  real: {{images: real}}
  synthetic: {{images: synthetic}}
  subset: {{images: subset}}
  random: {{criterion: {{name: random}}}}

# The dense network and these levels are retrained and compared: {sparsities} sparsity.
levels: {list(size.compared)}

retrain:
  copies: {COPIES}
  recipe: *real

compare:
  accuracy: {{}}
  connectivity: {{points: {size.points}, train_rows: {min(size.train_rows, data.splits[0])}}}
  curvature: {{rows: {min(size.curvature_rows, data.splits[0])}, probes_max: {size.probes}, relative_error: 0.1}}
  overlap: {{}}
  evaluation: {{nets: {NETS}, length: {size.evaluation}it}}
"""


def _flow(source: Source) -> str:
    """A data set as a mapping on one line: what was found, and what is not as usual."""
    written = {"name": source.name, **{n: v for n, v in source if n in source.model_fields_set and n != "name"}}
    return f"{{{', '.join(f'{n}: {_quoted(v) if isinstance(v, str) else plain(v)}' for n, v in written.items())}}}"


def _quoted(text: str) -> str:
    """A text as YAML has it, also within a mapping on one line: quoted where it might be read as something else."""
    return text if re.fullmatch(r"(?!.*(null|true|false)$)[A-Za-z/_~.][\w/.+ -]*(?<! )", text, re.ASCII) else json.dumps(text)
