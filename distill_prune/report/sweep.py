"""Figures whose horizontal axis is sparsity: a metric by arm, a paired difference, the overlap of masks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distill_prune.report.formats import estimate, finite, sparsity
from distill_prune.report.style import GREY, INK, METRICS, Arm, Metric, arms, rows, sparsities

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.pipeline.study import Study

STABLE = 0.02
_WIDTH = 5.0
_TICKS = 10
# Inches: room for ticks and axis name, the panel itself, one line of a legend.
_BOTTOM, _HEIGHT, _ROW = 0.53, 2.45, 0.165


def _panel(heading: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _BOTTOM + _HEIGHT))
    axes = figure.add_axes((0.105, 0.2, 0.875, 0.7))
    # The name of the vertical axis stands where reading starts, and lies flat.
    axes.set_title(heading, loc="left", fontsize=10, fontweight="bold", pad=9, x=-0.105)
    return figure, axes


def sparsity_axis(axes: Axes, values: Sequence[float]) -> None:
    """Log scale of the weights that remain, dense at the left, ticks labelled by sparsity in percent."""
    from matplotlib.ticker import FixedLocator, NullLocator

    levels = sorted(set(values))
    keep = levels
    if len(levels) > _TICKS:
        step = -(-(len(levels) - 1) // (_TICKS - 1))
        # Counted from the sparsest end, which is always labelled; dense is where the axis starts.
        keep = sorted({levels[0], *levels[: step - 1 : -step]})
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(FixedLocator([1 - s for s in keep]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticklabels([sparsity(s) for s in keep])
    axes.set_xlim((1 - levels[0]) * 1.1, (1 - levels[-1]) / 1.1)
    axes.set_xlabel("Sparsity (% of prunable weights that are zero; log scale of what remains)", fontsize=8, color=GREY)


def _limits(axes: Axes, points: Sequence[float], bounds: Sequence[float], log: bool) -> None:
    """Fit the axis to the points, and to intervals only as far as they leave the points readable."""
    low, high = min(points), max(points)
    if log:
        axes.set_ylim(
            max(low / 1.6, min([low, *(b for b in bounds if b > 0)]) / 1.1), min(high * 1.6, max([high, *bounds]) * 1.1)
        )
        return
    span = (high - low) or abs(high) or 1.0
    below, above = max(min([low, *bounds]), low - 0.5 * span), min(max([high, *bounds]), high + 0.5 * span)
    axes.set_ylim(below - 0.06 * span, above + 0.06 * span)


def _legend(figure: Figure, axes: Axes, reserve: int = 0) -> None:
    """The legend below the panel, in room made for at least `reserve` entries so that neighbours are equally tall."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 3 if max(map(len, labels), default=0) <= 20 else 2
    below = _BOTTOM + _ROW * -(-max(len(labels), reserve) // columns) + 0.08
    height = below + _HEIGHT + 0.34
    figure.set_size_inches(_WIDTH, height)
    axes.set_position((0.105, below / height, 0.875, _HEIGHT / height))
    figure.legend(
        handles,
        labels,
        loc="upper left",
        bbox_to_anchor=(-0.005, (below - _BOTTOM) / height),
        ncols=columns,
        columnspacing=1.6,
        borderaxespad=0,
        borderpad=0,
        labelspacing=0.3,
    )


def _line(axes: Axes, arm: Arm, points: Sequence[tuple[float, dict[str, Any]]], scale: float) -> list[float]:
    """One arm's means with the band of its 95 % intervals; returns the interval bounds that were drawn."""
    points = sorted(points, key=lambda p: p[0])
    xs = [1 - s for s, _ in points]
    axes.plot(
        xs,
        [e["mean"] * scale for _, e in points],
        color=arm.color,
        linestyle=arm.dash,
        marker=arm.marker,
        markeredgecolor="white",
        markeredgewidth=0.5,
        label=arm.label,
        zorder=3,
    )
    sure = [
        (x, e["low"] * scale, e["high"] * scale)
        for x, (_, e) in zip(xs, points, strict=True)
        if finite(e.get("low")) and finite(e.get("high"))
    ]
    if sure:
        band_x, low, high = zip(*sure, strict=True)
        axes.fill_between(band_x, low, high, color=arm.color, alpha=0.11, linewidth=0, zorder=1)
    return [b for _, low, high in sure for b in (low, high)]


def _estimates(study: Study, name: str) -> list[tuple[Arm, list[tuple[float, dict[str, Any]]]]]:
    """(sparsity, estimate) pairs of every arm that has some."""
    found = []
    for arm in arms(study):
        points = [(r["sparsity"], r[name]) for r in rows(study) if r["arm"] == arm.name and _known(r.get(name))]
        if points:
            found.append((arm, points))
    return found


def _known(est: Any) -> bool:
    return isinstance(est, dict) and finite(est.get("mean"))


def metric(study: Study, name: str) -> tuple[Figure, str] | None:
    """The metric `name` against sparsity, and its alternative text; None where it was not measured.

    A dot is one initialisation, a line the mean over initialisations, a band its 95 % interval.
    """
    what = METRICS[name]
    lines = _estimates(study, name)
    dots = [u for u in study.units if finite(u.get(name)) and finite(u.get("sparsity"))]
    if not lines and not dots:
        return None
    figure, axes = _panel(what.heading)
    dense = ((study.summary or {}).get("dense") or {}).get(name)
    bounds: list[float] = []
    for arm, points in lines:
        bounds += _line(axes, arm, points, what.scale)
    drawn = {arm.name for arm, _ in lines}
    for arm in arms(study):
        own = [u for u in dots if u["arm"] == arm.name]
        axes.scatter(
            [1 - u["sparsity"] for u in own],
            [u[name] * what.scale for u in own],
            s=7 if arm.name in drawn else 16,
            color=arm.color,
            alpha=0.45 if arm.name in drawn else 0.9,
            linewidths=0,
            zorder=2,
            label=None if arm.name in drawn or not own else f"{arm.label} (single runs)",
        )
    if dense is not None and _known(dense):
        bounds += _dense(axes, what, dense)
    values = [e["mean"] * what.scale for _, points in lines for _, e in points] + [u[name] * what.scale for u in dots]
    log = what.log and min(values) > 0
    if log:
        from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

        axes.set_yscale("log")
        decades = max(values) / min(values) > 50
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if decades else (1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    _limits(axes, values + ([100 * STABLE] if name == "barrier_test" else []), bounds, log)
    if name == "barrier_test":
        axes.axhline(100 * STABLE, color=GREY, linewidth=1, linestyle=(0, (2, 2)), label="stable below 2 points", zorder=1)
    sparsity_axis(axes, [s for _, points in lines for s, _ in points] + [u["sparsity"] for u in dots])
    _legend(figure, axes, reserve=len(arms(study)) + 2)
    return figure, _alt(what, lines, dense)


def _dense(axes: Axes, what: Metric, dense: dict[str, Any]) -> list[float]:
    mean, sd = dense["mean"] * what.scale, dense.get("sd")
    axes.axhline(mean, color=GREY, linewidth=0.9, zorder=1, label="dense")
    if finite(dense.get("low")) and finite(dense.get("high")):
        axes.axhspan(dense["low"] * what.scale, dense["high"] * what.scale, color=GREY, alpha=0.10, linewidth=0, zorder=0)
    if what.name == "accuracy" and sd is not None and finite(sd):
        axes.axhline(
            mean - sd * what.scale,
            color=GREY,
            linewidth=0.9,
            linestyle=(0, (1, 2)),
            label="matching from here up",
            zorder=1,
        )
        return [mean, mean - sd * what.scale]
    return [mean]


def _alt(what: Metric, lines: Sequence[tuple[Arm, list[tuple[float, dict[str, Any]]]]], dense: Any) -> str:
    unit = "number" if what.scale == 1 else "percent" if what.unit == "%" else "points"
    parts = [f"{what.heading} against sparsity."]
    if _known(dense):
        parts.append(f"Dense: {estimate(dense, unit)['mean']}.")
    for arm, points in lines:
        s, est = max(points, key=lambda p: p[0])
        shown = estimate(est, unit)
        tail = f" (95 % interval {shown['range']})" if shown["range"] and est["n"] >= 2 else ""
        parts.append(f"{arm.label} at {sparsity(s)} % sparsity: {shown['mean']}{tail}.")
    return " ".join(parts)


def paired(study: Study, name: str) -> tuple[Figure, str] | None:
    """Differences from the real arm within initialisations, with 95 % intervals; None where none were taken."""
    what, at = METRICS[name], sparsities(study)
    entries = [
        p
        for p in (study.summary or {}).get("paired") or []
        if p["metric"] == name and _known(p["difference"]) and (p["arm"], p["level"]) in at
    ]
    if not entries:
        return None
    unit = "points" if what.scale == 100 else what.unit
    figure, axes = _panel(f"{what.title}: arm minus {entries[0]['versus']}" + (f" ({unit})" if unit else ""))
    axes.axhline(0, color=INK, linewidth=0.8, zorder=1)
    present = [a for a in arms(study) if any(p["arm"] == a.name for p in entries)]
    points: list[float] = [0.0]
    bounds: list[float] = []
    for i, arm in enumerate(present):
        own = [p for p in entries if p["arm"] == arm.name]
        # Neighbours stand a little apart so that their intervals can be told from each other.
        shift = 1.045 ** (i - (len(present) - 1) / 2)
        xs = [(1 - at[arm.name, p["level"]]) / shift for p in own]
        means = [p["difference"]["mean"] * what.scale for p in own]
        axes.plot(xs, means, linestyle="none", color=arm.color, marker=arm.marker, label=arm.label, zorder=3)
        sure = [
            (x, d["low"] * what.scale, d["high"] * what.scale)
            for x, d in zip(xs, (p["difference"] for p in own), strict=True)
            if finite(d.get("low")) and finite(d.get("high"))
        ]
        if sure:
            bar_x, low, high = zip(*sure, strict=True)
            axes.vlines(bar_x, low, high, color=arm.color, linewidth=1, alpha=0.8, zorder=2)
            bounds += [*low, *high]
        points += means
    _limits(axes, points, bounds, log=False)
    sparsity_axis(axes, [at[p["arm"], p["level"]] for p in entries])
    _legend(figure, axes)
    return (
        figure,
        f"{what.title}: paired differences from {entries[0]['versus']} against sparsity, with 95 % intervals, for "
        + ", ".join(a.label for a in present)
        + ".",
    )


def overlap(study: Study) -> tuple[Figure, str] | None:
    """Intersection over union with the real arm's mask, beside what chance gives; None where not measured."""
    lines = _estimates(study, "iou")
    if not lines:
        return None
    figure, axes = _panel("Overlap with the real arm's mask (intersection over union)")
    values = [e["mean"] for _, points in lines for _, e in points]
    bounds: list[float] = []
    for arm, points in lines:
        bounds += _line(axes, arm, points, 1.0)
    for i, (arm, points) in enumerate(_estimates(study, "chance")):
        points = sorted(points, key=lambda p: p[0])
        xs, means = [1 - s for s, _ in points], [e["mean"] for _, e in points]
        label = None if i else "by chance (dotted, its arm's colour)"
        axes.plot(xs, means, color=arm.color, linewidth=1, linestyle=(0, (1, 2)), label=label, zorder=1)
        values += means
    _limits(axes, values, bounds, log=False)
    axes.set_ylim(max(axes.get_ylim()[0], 0), min(axes.get_ylim()[1], 1.02))
    sparsity_axis(axes, [s for _, points in lines for s, _ in points])
    _legend(figure, axes)
    ends = [(a.label, *max(p, key=lambda q: q[0])) for a, p in lines]
    return figure, "Mask overlap against sparsity. " + " ".join(
        f"{label} at {sparsity(s)} % sparsity: {estimate(e, 'number')['mean']}." for label, s, e in ends
    )
