"""Contour figures of the loss landscape: loss and error on planes of networks, with the copies marked."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from distill_prune.report.formats import finite, number
from distill_prune.report.multiples import absent, below, multiples
from distill_prune.report.style import GREY, HIGH, INK, LOW, MIDDLE, chosen_levels, shown_arms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.records import Plane
    from distill_prune.study.study import Study

KINDS = {"copies": "the plane through three copies", "directions": "two filter-normalised random directions"}
DATA = {"test": "test set", "train": "train set", "distilled": "distilled set"}
SURFACES = [f"{data}_{what}" for what in ("error", "loss") for data in DATA]
_BANDS = 7


def drawn(study: Study, kind: str, surface: str) -> list[Plane]:
    """The planes that the figure shows: of one initialisation, the first that has any."""
    planes = [p for p in study.planes if p["kind"] == kind and p["surfaces"].get(surface)]
    seed = min((p["seed"] for p in planes), default=None)
    shown = {a.name for a in shown_arms(study, {p["arm"] for p in planes})}
    return [p for p in planes if p["seed"] == seed and p["arm"] in shown]


def surface(study: Study, kind: str, name: str) -> tuple[Figure, str] | None:
    """The surface `name` on the planes of `kind`: a row an arm, a column a level, one colour scale for all of them."""
    planes = drawn(study, kind, name)
    values = [float(v) for p in planes for row in p["surfaces"][name] for v in row if finite(v)]
    if not values:
        return None
    scale = 100 if name.endswith("error") else 1
    levels = chosen_levels({p["level"] for p in planes})
    at = {p["level"]: p["sparsity"] for p in planes}
    arms = shown_arms(study, {p["arm"] for p in planes})
    edges = bands(scale * min(values), scale * max(values), log=scale == 1)
    figure, cells = multiples(
        arms, [(n, at[n]) for n in levels], 1, 2.0 if len(levels) > 2 else 2.6, hspace=0.32, wspace=0.2, bottom=0.92, left=0.4
    )
    filled = None
    for arm in arms:
        for level in levels:
            axes = cells[arm.name, level]
            of_arm = [p for p in planes if p["arm"] == arm.name and p["level"] == level]
            if of_arm:
                filled = _contours(axes, of_arm[0], name, scale, edges) or filled
            else:
                absent(axes)
                axes.set_xticks([])
                axes.set_yticks([])
    data, _, what = name.partition("_")
    unit = "%" if scale == 100 else "nats, log scale" if spaced_by_ratio(edges) else "nats"
    below(figure, f"axes: {planes[0]['unit']}")
    _color_bar(figure, filled, edges, f"{what} on the {DATA[data]} ({unit})")
    sign = "%" if scale == 100 else ""
    ranges = []
    for arm in arms:
        for p in (p for p in planes if p["arm"] == arm.name and p["level"] == levels[-1]):
            low, high = (f(v for row in p["surfaces"][name] for v in row if finite(v)) for f in (min, max))
            ranges.append(f"{arm.label}: {number(scale * low)} to {number(scale * high)}{sign}.")
    return figure, (
        f"{what.capitalize()} on the {DATA[data]} over {KINDS[kind]}, of {len(arms)} arms and {len(levels)} levels. At the "
        "sparsest level, " + " ".join(ranges)
    )


def bands(low: float, high: float, log: bool) -> list[float]:
    """Round edges of at most about nine bands that hold `low` to `high`; spaced by ratio where `log` and the range is wide."""
    if log and low > 0 and high / low > 30:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        steps: Sequence[float] = (1, 2, 5) if last - first < 3 else (1, 3) if last - first < 5 else (1,)
        every = [s * 10.0**e for e in range(first, last + 1) for s in steps]
    else:
        from matplotlib.ticker import MaxNLocator

        if high <= low:
            low, high = low - 0.5, high + 0.5
        every = [float(v) for v in MaxNLocator(_BANDS, steps=[1, 2, 2.5, 5, 10]).tick_values(low, high)]
    inside = [v for v in every if low < v < high]
    below_, above = [v for v in every if v <= low], [v for v in every if v >= high]
    return [*below_[-1:], *inside, *above[:1]]


def spaced_by_ratio(edges: Sequence[float]) -> bool:
    """Whether the bands lie on a log scale."""
    return edges[0] > 0 and edges[-1] / edges[0] > 30


def ramp() -> Any:
    """The sequential colour map of every surface."""
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("surface", [LOW, MIDDLE, HIGH])


def _norm(edges: Sequence[float]) -> Any:
    from matplotlib.colors import BoundaryNorm

    return BoundaryNorm(edges, 256)


def _contours(axes: Axes, plane: Plane, name: str, scale: float, edges: Sequence[float]) -> Any:
    """Filled and labelled contours with the marks of the plane; a point without a finite value stays empty."""
    z = np.array([[float(v) if finite(v) else np.nan for v in row] for row in plane["surfaces"][name]]) * scale
    at, by_ratio = list(edges), spaced_by_ratio(edges)
    if by_ratio:
        # Between grid points the logarithm is what runs straight.
        z, at = np.log10(np.where(z > 0, z, np.nan)), [math.log10(e) for e in edges]
    z = np.ma.masked_invalid(z)
    filled = axes.contourf(plane["x"], plane["y"], z, levels=at, cmap=ramp(), norm=_norm(at))
    inside = [e for e in at[1:-1] if z.min() < e < z.max()]
    if inside:
        lines = axes.contour(plane["x"], plane["y"], z, levels=inside, colors=INK, linewidths=0.5, linestyles="solid")
        axes.clabel(lines, fmt=lambda v: f"{10**v if by_ratio else v:.3g}", inline_spacing=2, colors=INK)
    for x, y, mark in plane["marks"]:
        axes.plot([x], [y], "o", color="white", markeredgecolor=INK, markersize=5.5, markeredgewidth=1.1, zorder=5)
        axes.annotate(
            str(mark).removeprefix("copy "),
            (x, y),
            xytext=(5, 4),
            textcoords="offset points",
            fontweight="bold",
            zorder=6,
        )
    axes.set_aspect("equal")
    axes.grid(False)
    axes.locator_params(nbins=4)
    for edge in ("top", "right"):
        axes.spines[edge].set_visible(True)
    return filled


def _color_bar(figure: Figure, filled: Any, edges: Sequence[float], title: str) -> None:
    tall = figure.get_figheight()
    axes = figure.add_axes((0.05, 0.34 / tall, 0.5, 0.12 / tall))
    bar = figure.colorbar(filled, cax=axes, orientation="horizontal")
    bar.set_ticks(list(filled.levels), labels=[f"{e:g}" for e in edges])
    bar.outline.set_linewidth(0.5)
    axes.tick_params(length=2)
    axes.set_title(title, loc="left", color=GREY, pad=3)
