"""Panels whose horizontal axis is sparsity: one, or sources and controls beside each other; scales, lines and legends."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeGuard

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.records import estimate_of
from distill_prune.arithmetic import ceil_div
from distill_prune.report.formats import finite, power, said, shown_interval, sparsity
from distill_prune.report.marks import drawn_for, mark_legend, say
from distill_prune.report.scale import bend, knees, most
from distill_prune.report.style import ENTRY, GREY, Arm, arms, rows

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.study import Study

# Inches: one column and both columns of a paper. On a phone a narrow figure fills the screen, and a wide one scrolls.
NARROW, WIDE = 3.25, 6.75
_TICKS = 7
# Inches: room for ticks and axis name, the panel itself, one line of a legend, a line of the heading, the left axis.
_BOTTOM, _HEIGHT, _ROW, _TOP, _LEFT = 0.36, 1.5, 0.142, 0.2, 0.42
# Inches that a letter takes, and a digit of the vertical axis, of which a point takes half.
_LETTER, _BOLD, _DIGIT = 0.062, 0.071, 0.071
# So many bands may lie on each other.
_BANDS = 4

Points = list[tuple[float, Estimate]]


def panels(heading: str, titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with one panel for each title, sharing the vertical axis; the heading stands above them."""
    from matplotlib.figure import Figure

    width = NARROW if len(titles) == 1 else WIDE
    lines = textwrap.wrap(heading, int(width / _BOLD))
    top = _TOP * len(lines) + (0.14 if len(titles) > 1 else 0)
    height = _BOTTOM + _HEIGHT + top
    figure = Figure(figsize=(width, height))
    room, gap = width - _LEFT - 0.08, 0.16
    each = (room - gap * (len(titles) - 1)) / len(titles)
    cells: list[Axes] = []
    for i, title in enumerate(titles):
        place = ((_LEFT + i * (each + gap)) / width, _BOTTOM / height, each / width, _HEIGHT / height)
        axes = figure.add_axes(place, sharey=cells[0] if cells else None)
        axes.tick_params(labelleft=i == 0)
        axes.text(0, 1.02, title, transform=axes.transAxes, color=GREY, va="bottom")
        cells.append(axes)
    # The name of the vertical axis stands where reading starts, and lies flat.
    figure.text(0.0, 0.99, "\n".join(lines), fontweight="bold", va="top", linespacing=1.25)
    return figure, cells


def room_for_numbers(figure: Figure, cells: Sequence[Axes]) -> None:
    """Move the panels to the right where the numbers of the vertical axis need more room than `panels` leaves."""
    axis = cells[0].yaxis
    low, high = sorted(cells[0].get_ylim())
    labels = axis.get_major_formatter().format_ticks([t for t in axis.get_majorticklocs() if low <= t <= high])
    left = 0.09 + max((_DIGIT * (len(label) - label.count(".") / 2) for label in labels), default=0.0)
    width = figure.get_figwidth()
    right = width - 0.08
    share = min(1.0, (right - left) / (right - _LEFT))
    for axes in cells:
        place = axes.get_position()
        x0 = (right - (right - place.x0 * width) * share) / width
        axes.set_position((x0, place.y0, place.width * share, place.height))


def distinct(values: Sequence[float]) -> list[float]:
    """The sparsities in order; of those that a reader cannot tell apart, as layers round differently, the first alone."""
    kept: list[float] = []
    for s in sorted(set(values)):
        if not kept or 1 - kept[-1] > 1.01 * (1 - s):
            kept.append(s)
    return kept


def sparsity_axis(axes: Axes, values: Sequence[float], room: float = 1.1) -> None:
    """Log scale of the weights that remain, dense at the left, ticks labelled by sparsity in percent; `room` at both ends."""
    from matplotlib.ticker import FixedLocator, NullLocator

    levels = distinct(values)
    keep = levels
    if len(levels) > _TICKS:
        step = ceil_div(len(levels) - 1, _TICKS - 1)
        # Counted from the sparsest end, which is always labelled; dense is where the axis starts.
        keep = sorted({levels[0], *levels[: step - 1 : -step]})
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([1 - s for s in keep]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([sparsity(s) for s in keep])
    axes.set_xlim((1 - levels[0]) * room, (1 - levels[-1]) / room)
    axes.set_xlabel("Sparsity (%), log scale of the rest", color=GREY, labelpad=2)


def apart(values: Sequence[float], count: int) -> tuple[list[float], float]:
    """Factors that move `count` neighbours a little apart at each sparsity, and the room that they take at the ends."""
    levels = distinct(values)
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
    first, last = most(points)
    span = (last - first) or (high - low) or abs(high) or 1.0
    below = low if low < first else max(min([low, *bounds]), low - 0.5 * span)
    above = high if high > last else min(max([high, *bounds]), high + 0.5 * span)
    whole = (above - below) or span
    below, above = below - 0.06 * (whole if low < first else span), above + 0.06 * (whole if high > last else span)
    if bent := knees(points, below, above):
        bend(axes, bent, below, above)
    else:
        axes.set_ylim(below, above)


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


def legend_layout(labels: Iterable[str], width: float) -> tuple[int, float]:
    """The columns of a legend on a figure of `width` inches, and the inches that it takes with a little air."""
    written = [label.removeprefix(ENTRY) for label in labels]
    longest = max(map(len, written), default=0)
    columns = max(1, min(5, len(written), int(width / (_LETTER * longest + 0.42))))
    return columns, _ROW * ceil_div(len(written), columns) + 0.06


def write_legend(figure: Figure, handle_of: Mapping[str, Artist], cut: bool = True) -> None:
    """A legend at the foot of a figure, in the room that `legend_layout` tells, with labels as they are written, whatever
    matplotlib makes of their first letter. With `cut` the page leaves it off, whose own legend says the same.
    """
    columns, height = legend_layout(handle_of, figure.get_figwidth())
    written = figure.legend(
        list(handle_of.values()),
        [str(i) for i in range(len(handle_of))],
        loc="lower left",
        bbox_to_anchor=(0.0, 0.0),
        ncols=columns,
        columnspacing=1.2,
        handlelength=2.2,
        handletextpad=0.5,
        borderaxespad=0.1,
        borderpad=0,
        labelspacing=0.25,
    )
    for text, label in zip(written.get_texts(), handle_of, strict=True):
        text.set_text(label.removeprefix(ENTRY))
    if cut:
        mark_legend(written, height)


def legend(figure: Figure, panels: Sequence[Axes], cut: bool = True) -> None:
    """One legend below the panels, in room made for it."""
    handle_of = explained(panels)
    width, tall = figure.get_size_inches()
    _, more = legend_layout(handle_of, width)
    figure.set_size_inches(width, tall + more)
    for axes in panels:
        place = axes.get_position()
        axes.set_position(
            (place.x0, (place.y0 * tall + more) / (tall + more), place.width, place.height * tall / (tall + more))
        )
    write_legend(figure, handle_of, cut)


def interval(estimate: Estimate, scale: float) -> tuple[float, float] | None:
    """The bounds of the interval, in the axis's unit; None where there is none."""
    low, high = estimate["low"], estimate["high"]
    return (low * scale, high * scale) if finite(low) and finite(high) else None


def line(axes: Axes, arm: Arm, points: Points, scale: float, unit: str, among: int = 1) -> list[float]:
    """One arm's means with the band of its 95% intervals; returns the interval bounds that were drawn. Bands of many arms
    `among` which it is are fainter: together they cover no line.

    `unit` says how an estimate is written (formats.estimate), and so whether its interval stays within 0 to 100%.
    """
    points = sorted(((s, shown_interval(e, unit)) for s, e in points), key=lambda p: p[0])
    xs = [1 - s for s, _ in points]
    with drawn_for(axes, arm):
        (means,) = axes.plot(
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
            alpha = (0.05 if arm.thin else 0.11) * min(1.0, _BANDS / among)
            axes.fill_between(band_x, low, high, color=arm.color, alpha=alpha, linewidth=0, zorder=1)
    say(axes, means, [f"{arm.label}, {sparsity(s)}% sparsity: {said(e, unit)}" for s, e in points])
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
