"""Panels whose horizontal axis is sparsity: one, or sources and controls beside each other; scales, lines and legends."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeGuard

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.records import estimate_of
from distill_prune.arithmetic import ceil_div
from distill_prune.report.formats import finite, power, sparsity
from distill_prune.report.style import ENTRY, GREY, Arm, arms, rows

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.study import Study

# Inches. A narrow figure stands beside another one; on a phone it fills the column, and a wide one scrolls.
NARROW, WIDE = 4.6, 7.6
# Points. The smallest text: 9 px on a phone, at the widths that the page gives a figure there.
SMALL = {NARROW: 8.5, WIDE: 8.0}
_TICKS = 10
# Inches: room for ticks and axis name, the panel itself, one line of a legend, the heading, the left axis.
_BOTTOM, _HEIGHT, _ROW, _TOP, _LEFT = 0.53, 2.25, 0.17, 0.34, 0.5

Points = list[tuple[float, Estimate]]


def panels(heading: str, titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with one panel for each title, sharing the vertical axis; the heading stands above them."""
    from matplotlib.figure import Figure

    width = NARROW if len(titles) == 1 else WIDE
    figure = Figure(figsize=(width, _BOTTOM + _HEIGHT + _TOP))
    room, gap = width - _LEFT - 0.1, 0.16
    each = (room - gap * (len(titles) - 1)) / len(titles)
    cells: list[Axes] = []
    for i, title in enumerate(titles):
        place = ((_LEFT + i * (each + gap)) / width, 0.2, each / width, 0.6)
        axes = figure.add_axes(place, sharey=cells[0] if cells else None)
        axes.tick_params(labelsize=SMALL[width], labelleft=i == 0)
        axes.text(0, 1.02, title, transform=axes.transAxes, fontsize=SMALL[width], color=GREY, va="bottom")
        cells.append(axes)
    # The name of the vertical axis stands where reading starts, and lies flat.
    figure.text(0.0, 0.99, heading, fontsize=9.5, fontweight="bold", va="top")
    return figure, cells


def sparsity_axis(axes: Axes, values: Sequence[float], room: float = 1.1) -> None:
    """Log scale of the weights that remain, dense at the left, ticks labelled by sparsity in percent; `room` at both ends."""
    from matplotlib.ticker import FixedLocator, NullLocator

    levels = sorted(set(values))
    keep = levels
    alone = axes.get_position().width > 0.6
    most = _TICKS if alone else _TICKS - 3
    if len(levels) > most:
        step = ceil_div(len(levels) - 1, most - 1)
        # Counted from the sparsest end, which is always labelled; dense is where the axis starts.
        keep = sorted({levels[0], *levels[: step - 1 : -step]})
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([1 - s for s in keep]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([sparsity(s) for s in keep])
    axes.set_xlim((1 - levels[0]) * room, (1 - levels[-1]) / room)
    axes.set_xlabel(
        "Sparsity (% of prunable weights; log scale of the rest)", fontsize=SMALL[NARROW if alone else WIDE], color=GREY
    )


def apart(values: Sequence[float], count: int) -> tuple[list[float], float]:
    """Factors that move `count` neighbours a little apart at each sparsity, and the room that they take at the ends."""
    levels = sorted(set(values))
    step = min([1.6, *((1 - a) / (1 - b) for a, b in pairwise(levels))])
    return [step ** (0.7 * ((count - 1) / 2 - i) / count) for i in range(count)], step**0.5 * 1.05


def fit(axes: Axes, points: Sequence[float], bounds: Sequence[float], log: bool) -> None:
    """Fit the vertical axis to the points, and to intervals only as far as they leave the points readable."""
    low, high = min(points), max(points)
    if log:
        axes.set_ylim(
            max(low / 1.6, min([low, *(b for b in bounds if b > 0)]) / 1.1), min(high * 1.6, max([high, *bounds]) * 1.1)
        )
        return
    span = (high - low) or abs(high) or 1.0
    below, above = max(min([low, *bounds]), low - 0.5 * span), min(max([high, *bounds]), high + 0.5 * span)
    axes.set_ylim(below - 0.06 * span, above + 0.06 * span)


def log_scale(axes: Axes, values: Sequence[float]) -> None:
    """A log scale, labelled at 1, 2 and 5 where the values stay within a few decades."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    decades = max(values) / min(values) > 50
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if decades else (1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: power(y)))


def explained(panels: Iterable[Axes]) -> dict[str, Artist]:
    """What a legend of the panels explains, by its label; each label once."""
    handle_of: dict[str, Artist] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        handle_of |= {label: handle for label, handle in zip(labels, handles, strict=True) if label not in handle_of}
    return handle_of


def write_legend(figure: Figure, handle_of: Mapping[str, Artist], **layout: Any) -> None:
    """A legend with labels as they are written, whatever matplotlib makes of their first letter."""
    written = figure.legend(list(handle_of.values()), [str(i) for i in range(len(handle_of))], **layout)
    for text, label in zip(written.get_texts(), handle_of, strict=True):
        text.set_text(label.removeprefix(ENTRY))


def legend(figure: Figure, panels: Sequence[Axes], reserve: int = 0) -> None:
    """One legend below the panels, in room made for at least `reserve` entries so that neighbours are equally tall."""
    handle_of = explained(panels)
    width = figure.get_figwidth()
    longest = max((len(label.removeprefix(ENTRY)) for label in handle_of), default=0)
    columns = max(1, min(5, int(width * 72 / (4.3 * longest + 44)))) if width > NARROW else 3 if longest <= 13 else 2
    below = _BOTTOM + _ROW * ceil_div(max(len(handle_of), reserve), columns) + 0.08
    top = _TOP + (0.14 if len(panels) > 1 else 0)
    height = below + _HEIGHT + top
    figure.set_size_inches(width, height)
    for axes in panels:
        place = axes.get_position()
        axes.set_position((place.x0, below / height, place.width, _HEIGHT / height))
    write_legend(
        figure,
        handle_of,
        loc="upper left",
        bbox_to_anchor=(0.0, (below - _BOTTOM) / height),
        ncols=columns,
        fontsize=SMALL[width],
        columnspacing=1.4,
        handlelength=2.3,
        borderaxespad=0,
        borderpad=0,
        labelspacing=0.3,
    )


def interval(estimate: Estimate, scale: float) -> tuple[float, float] | None:
    """The bounds of the interval, in the axis's unit; None where there is none."""
    low, high = estimate["low"], estimate["high"]
    return (low * scale, high * scale) if finite(low) and finite(high) else None


def line(axes: Axes, arm: Arm, points: Points, scale: float) -> list[float]:
    """One arm's means with the band of its 95 % intervals; returns the interval bounds that were drawn."""
    points = sorted(points, key=lambda p: p[0])
    xs = [1 - s for s, _ in points]
    axes.plot(
        xs,
        [e["mean"] * scale for _, e in points],
        color=arm.color,
        linestyle=arm.dash,
        linewidth=arm.width,
        marker=arm.marker,
        markeredgecolor="white",
        markeredgewidth=0.5,
        label=arm.entry,
        zorder=2.5 if arm.thin else 3,
    )
    sure = [(x, *ends) for x, (_, e) in zip(xs, points, strict=True) if (ends := interval(e, scale))]
    if sure:
        band_x, low, high = zip(*sure, strict=True)
        axes.fill_between(band_x, low, high, color=arm.color, alpha=0.05 if arm.thin else 0.11, linewidth=0, zorder=1)
    return [b for _, low, high in sure for b in (low, high)]


def known(estimate: Estimate | None) -> TypeGuard[Estimate]:
    """Whether there is an estimate, and its mean a number."""
    return estimate is not None and finite(estimate["mean"])


def estimates(study: Study, name: str) -> list[tuple[Arm, Points]]:
    """(sparsity, estimate) pairs of every arm that has some."""
    lines = []
    for arm in arms(study):
        points = [(r["sparsity"], e) for r in rows(study) if r["arm"] == arm.name and known(e := estimate_of(r, name))]
        if points:
            lines.append((arm, points))
    return lines
