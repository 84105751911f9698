"""The table of figures, and how one figure becomes a PNG, an SVG file, and an SVG inside the page."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from distill_prune.analyze.declared import on_page, tested
from distill_prune.analyze.metric import ACCURACY, BARRIER
from distill_prune.analyze.paired import PAIRED
from distill_prune.letters import printable, printable_lines
from distill_prune.report import (
    against,
    depth,
    fonts,
    layers,
    pairs,
    panels,
    scans,
    spectra,
    surfaces,
    sweep,
    trainings,
    transfer,
)
from distill_prune.report.axes import NARROW, WIDE
from distill_prune.report.forks import drawn
from distill_prune.report.marks import Values, classed, values_of, with_values, without_legend
from distill_prune.report.paint import on_plate, painted
from distill_prune.report.style import METRICS, PAPER, RC
from distill_prune.run.devices import cores

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from distill_prune.study.study import Study

Draw = Callable[["Study"], "tuple[Figure, str] | None"]

_COMPRESSION = 3
"""Of PNG files: 0.7 of the time of 6, and 1.07 of the size."""
# The order of the page. An entry gives a figure and its alternative text, or None where nothing was measured.
LANDSCAPES = {f"landscape_{kind}_{name}": (kind, name) for kind in surfaces.KINDS for name in surfaces.SURFACES}
FIGURES: dict[str, Draw] = {
    "distillation": panels.distillation,
    **{name: partial(sweep.metric, name=name) for name in METRICS},
    "interpolation": panels.interpolation,
    "training": trainings.training,
    "layerwise": depth.layerwise,
    "between": pairs.between,
    "scan": scans.scan,
    "layer_traces": layers.traces,
    "diagonal": spectra.diagonal,
    "histograms": spectra.histograms,
    "density": spectra.density,
    **{name: partial(surfaces.surface, kind=kind, name=of) for name, (kind, of) in LANDSCAPES.items()},
    "layers": layers.layers,
    "transfer": transfer.matrix,
    **{f"paired_{name}": partial(pairs.paired, name=name) for name in PAIRED},
    "costs": panels.costs,
    "overlap": pairs.overlap,
}


def figures_of(study: Study) -> dict[str, Draw]:
    """The table of figures with those of the metrics of plugins."""
    metrics = {m.name: partial(sweep.metric, name=m.name) for m in on_page(study.plugins) if m.group and m.name not in METRICS}
    paired = {f"paired_{m.name}": partial(pairs.paired, name=m.name) for m in tested(study.plugins) if m.name not in PAIRED}
    beside = {f"against_{name}": partial(against.beside, name=name) for name in LEADS} if study.against else {}
    return {**FIGURES, **metrics, **paired, **beside}


LEADS = (ACCURACY, BARRIER)
"""The figures of the question, at the head of the page."""


@dataclass(frozen=True)
class Drawing:
    """A figure in its formats (PDF where asked for), as an element of the page, and what it says in words."""

    name: str
    png: bytes
    svg: str
    alt: str
    values: Values = field(default_factory=dict)
    pdf: bytes = b""
    inline: str = field(init=False)

    def __post_init__(self) -> None:
        element = _element(classed(without_legend(with_values(self.svg, self.values))), self.alt)
        object.__setattr__(self, "inline", element if self.plate else painted(element))

    @property
    def plate(self) -> bool:
        """Whether it lies on a light plate on every screen."""
        return on_plate(self.name)

    @property
    def wide(self) -> bool:
        """Whether the figure needs a row of its own, and scrolls sideways on a phone."""
        return width(self.svg) > 72 * (NARROW + WIDE) / 2


def _element(svg: str, alt: str) -> str:
    """The SVG as an HTML element that scales with its column, in half the characters.

    Ids that nothing refers to are dropped, since they repeat from figure to figure; the others carry
    the figure's own salt. A style that stands more than once becomes a class, named after what it says.
    """
    body = re.sub(r"<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]*)"', lambda m: m.group(0) if m.group(1) in used else "", body)
    body = re.sub(r' d="([^"]*)"', lambda m: f' d="{_relative(m.group(1))}"', body)
    body = re.sub(r">\s+<", "><", re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)).replace("<g/>", "")
    head, rest = body.split(">", 1)
    view = re.search(r'viewBox="[^"]*"', head)
    assert view is not None
    styles, rest = _classes(rest)
    return (
        f'<svg {view.group(0)} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'role="img" aria-label="{escape(alt, quote=True)}">{styles}{rest}'
    )


def _classes(body: str) -> tuple[str, str]:
    """A style element for the styles that stand more than once in an SVG, and the SVG with their classes."""
    often = [style for style, n in Counter(re.findall(r' style="([^"]*)"', body)).items() if n > 1]
    names = {style: f"s{hashlib.sha256(style.encode()).hexdigest()[:8]}" for style in often}
    body = re.sub(r' style="([^"]*)"', lambda m: f' class="{names[m[1]]}"' if m[1] in names else m[0], body)
    rules = "".join(f".{name}{{{style}}}" for style, name in names.items())
    return (f"<style>{rules}</style>" if rules else ""), body


def _relative(path: str) -> str:
    """A path of moves, lines and curves with steps of a tenth of a point in place of places; others are left as they are."""
    tokens = re.findall(r"[A-Za-z]|-?[\d.]+", path)
    if not set(re.sub(r"[^A-Za-z]", "", path)) <= {"M", "L", "Q", "C", "z"}:
        return path
    out: list[str] = []
    at, start, i, last = (0, 0), (0, 0), 0, ""
    while i < len(tokens):
        command = tokens[i]
        i += 1
        if command == "z":
            out.append("z")
            at, last = start, "z"
            continue
        ends = [round(10 * float(t)) for t in tokens[i : i + 2 * _POINTS[command]]]
        i += len(ends)
        steps = [_tenths(v - at[j % 2]) for j, v in enumerate(ends)]
        at = (ends[-2], ends[-1])
        start = at if command == "M" else start
        # After a move, pairs are lines; a command that repeats is left out.
        letter = "" if (command == last != "M") or (command, last) == ("L", "M") else command.lower()
        out.append(letter + "".join(s if (j == 0 and letter) or s[0] == "-" else f" {s}" for j, s in enumerate(steps)))
        last = "L" if (command, last) == ("L", "M") else command
    return "".join(out)


_POINTS = {"M": 1, "L": 1, "Q": 2, "C": 3}


def _tenths(n: int) -> str:
    """n / 10 in as few characters as there are."""
    text = f"{n / 10:.1f}".removesuffix(".0")
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def width(svg: str) -> float:
    """Of an SVG, in points."""
    view = re.search(r'viewBox="\S+ \S+ (\S+) ', svg)
    assert view is not None
    return float(view.group(1))


def draw(study: Study, pdf: bool = False) -> dict[str, Drawing]:
    """Every figure that the study has numbers for; as PDF, too, where asked for: its fonts take as long as all the rest."""
    import matplotlib.backends.backend_agg
    import matplotlib.backends.backend_svg
    import matplotlib.figure  # noqa: F401 - all of them imported once, before forks are made

    entries = figures_of(study)
    drawings = drawn(lambda name: _drawing(name, entries[name], study, pdf), list(entries), cores())
    return {name: drawing for name, drawing in drawings.items() if drawing is not None}


def _drawing(name: str, entry: Draw, study: Study, pdf: bool) -> Drawing | None:
    import matplotlib as mpl

    # The salt makes the ids of an SVG equal from run to run, and different from figure to figure.
    rules: Any = {**RC, "svg.hashsalt": name}
    with mpl.rc_context(rules), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from")  # drawn as a box: no installed font has it
        figure = entry(study)
        return None if figure is None else _render(name, *figure, pdf)


def _render(name: str, figure: Figure, alt: str, pdf: bool) -> Drawing:
    import matplotlib as mpl

    svg, png = _svg(figure), io.BytesIO()
    if others := fonts.families(svg):
        mpl.rcParams["font.sans-serif"] = [fonts.OWN, *others]
        svg = _svg(figure)
    # The SVG takes the colour of what it lies on; a PNG is as often shown on dark slides.
    figure.savefig(png, format="png", facecolor=PAPER, metadata={"Software": None}, pil_kwargs={"compress_level": _COMPRESSION})
    pages = io.BytesIO()
    if pdf:
        figure.savefig(pages, format="pdf", metadata={"CreationDate": None, "Producer": None, "Creator": None})
    return Drawing(name, png.getvalue(), _rounded(svg), printable(alt.strip()), values_of(figure), pages.getvalue())


def _svg(figure: Figure) -> str:
    svg = io.StringIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    return printable_lines(svg.getvalue())


def _rounded(svg: str) -> str:
    """Paths with two decimals of a point: finer than any screen, and half the size."""

    def short(path: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d{3,}", lambda n: f"{float(n.group(0)):.2f}".rstrip("0").rstrip("."), path.group(0))

    return re.sub(r' (?:d|x|y|points)="[^"]*"', short, svg)
