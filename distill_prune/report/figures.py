"""The table of figures, and how one figure becomes a PNG, an SVG file, and an SVG inside the page."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from html import escape
from typing import TYPE_CHECKING, Any

from distill_prune.report import depth, pairs, panels, scans, spectra, surfaces, sweep
from distill_prune.report.axes import NARROW, WIDE
from distill_prune.report.style import METRICS, PAPER, RC

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from distill_prune.pipeline.study import Study

Draw = Callable[["Study"], "tuple[Figure, str] | None"]

# The order of the page. An entry gives a figure and its alternative text, or None where nothing was measured.
PAIRED = ("accuracy", "barrier_test", "trace_per_weight", "trace_invariant", "top_eigenvalue", "disagreement")
LANDSCAPES = {f"landscape_{kind}_{name}": (kind, name) for kind in surfaces.KINDS for name in surfaces.SURFACES}
FIGURES: dict[str, Draw] = {
    "distillation": panels.distillation,
    **{name: partial(sweep.metric, name=name) for name in METRICS},
    "interpolation": panels.interpolation,
    "layerwise": depth.layerwise,
    "between": pairs.between,
    "scan": scans.scan,
    "layer_traces": depth.traces,
    "diagonal": spectra.diagonal,
    "histograms": spectra.histograms,
    "density": spectra.density,
    **{name: partial(surfaces.surface, kind=kind, name=of) for name, (kind, of) in LANDSCAPES.items()},
    "layers": depth.layers,
    **{f"paired_{name}": partial(pairs.paired, name=name) for name in PAIRED},
    "costs": panels.costs,
    "overlap": pairs.overlap,
}


@dataclass(frozen=True)
class Drawing:
    """A figure in both formats, and what it says in words."""

    name: str
    png: bytes
    svg: str
    alt: str

    @property
    def wide(self) -> bool:
        """Whether the figure needs a row of its own, and scrolls sideways on a phone."""
        return width(self.svg) > 72 * (NARROW + WIDE) / 2

    @property
    def inline(self) -> str:
        """The SVG as an HTML element that scales with its column.

        Ids that nothing refers to are dropped, since they repeat from figure to figure; the others carry
        the figure's own salt.
        """
        body = re.sub(r"<metadata>.*?</metadata>", "", self.svg[self.svg.index("<svg") :], flags=re.S)
        used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
        body = re.sub(r' id="([^"]*)"', lambda m: m.group(0) if m.group(1) in used else "", body)
        head, rest = body.split(">", 1)
        view = re.search(r'viewBox="[^"]*"', head)
        assert view is not None
        return (
            f'<svg {view.group(0)} xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'role="img" aria-label="{escape(self.alt, quote=True)}">{rest}'
        )


def width(svg: str) -> float:
    """Of an SVG, in points."""
    view = re.search(r'viewBox="\S+ \S+ (\S+) ', svg)
    assert view is not None
    return float(view.group(1))


def draw(study: Study) -> dict[str, Drawing]:
    """Every figure that the study has numbers for."""
    import matplotlib as mpl

    drawings = {}
    for name, entry in FIGURES.items():
        # The salt makes the ids of an SVG equal from run to run, and different from figure to figure.
        rules: Any = {**RC, "svg.hashsalt": name}
        with mpl.rc_context(rules):
            made = entry(study)
            if made is not None:
                drawings[name] = _render(name, *made)
    return drawings


def _render(name: str, figure: Figure, alt: str) -> Drawing:
    png, svg = io.BytesIO(), io.StringIO()
    figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    # The SVG takes the colour of what it lies on; a PNG is as often shown on dark slides.
    figure.savefig(png, format="png", facecolor=PAPER, metadata={"Software": None})
    return Drawing(name, png.getvalue(), _rounded(svg.getvalue()), alt.strip())


def _rounded(svg: str) -> str:
    """Paths with two decimals of a point: finer than any screen, and half the size."""

    def short(path: re.Match[str]) -> str:
        return re.sub(r"-?\d+\.\d{3,}", lambda n: f"{float(n.group(0)):.2f}".rstrip("0").rstrip("."), path.group(0))

    return re.sub(r' (?:d|x|y|points)="[^"]*"', short, svg)
