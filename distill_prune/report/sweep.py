"""Figures of a metric against sparsity: means over initialisations with their intervals, and single initialisations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.metric import Metric
from distill_prune.analyze.records import value
from distill_prune.analyze.verdict import MATCHING, STABLE, STABLE_BELOW
from distill_prune.report.axes import Points, estimates, fit, interval, known, legend, line, log_scale, panels, sparsity_axis
from distill_prune.report.formats import estimate, finite, shown_interval, sparsity
from distill_prune.report.marks import drawn_for
from distill_prune.report.style import GREY, Arm, arms, metrics, sides

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.study import Study


@dataclass(frozen=True)
class Dot:
    """One initialisation; `value` is in the metric's unit."""

    arm: str
    sparsity: float
    value: float


def metric(study: Study, name: str) -> tuple[Figure, str] | None:
    """The metric `name` against sparsity, and its alternative text; None where it was not measured.

    A dot is one initialisation, a line the mean over initialisations, a band its 95% interval.
    """
    what = metrics(study)[name]
    lines = estimates(study, name)
    listed = {a.name for a in arms(study)}
    units = [u for u in study.units if u["arm"] in listed and finite(u.get("sparsity"))]
    dots = [Dot(u["arm"], u["sparsity"], v * what.scale) for u in units if finite(v := value(u, name))]
    if not lines and not dots:
        return None
    drawn = [(title, arms) for title, arms in sides(study) if any(_has(a, lines, dots) for a in arms)]
    figure, cells = panels(what.heading, [title for title, _ in drawn])
    dense = ((study.summary or {}).get("dense") or {}).get(name)
    values = [e["mean"] * what.scale for _, points in lines for _, e in points] + [d.value for d in dots]
    log = what.log and min(values) > 0
    bounds: list[float] = []
    for axes, (_, shown) in zip(cells, drawn, strict=True):
        bounds += _panel(axes, shown, what, lines, dots)
        if known(dense):
            bounds += _dense(axes, what, dense)
        if name == STABLE.metric:
            axes.axhline(
                100 * STABLE_BELOW, color=GREY, linewidth=1, linestyle=(0, (2, 2)), label="stable below 2 points", zorder=1
            )
        sparsity_axis(axes, [s for _, points in lines for s, _ in points] + [d.sparsity for d in dots])
    if log:
        log_scale(cells[0], values)
    fit(cells[0], values + ([100 * STABLE_BELOW] if name == STABLE.metric else []), bounds, log)
    legend(figure, cells)
    return figure, _alt(what, lines, dense)


def _has(arm: Arm, lines: Sequence[tuple[Arm, Points]], dots: Sequence[Dot]) -> bool:
    return any(a.name == arm.name for a, _ in lines) or any(d.arm == arm.name for d in dots)


def _panel(
    axes: Axes, shown: Sequence[Arm], what: Metric, lines: Sequence[tuple[Arm, Points]], dots: Sequence[Dot]
) -> list[float]:
    """The arms of one panel; returns the interval bounds that were drawn."""
    bounds: list[float] = []
    names = {arm.name for arm in shown}
    for arm, points in lines:
        if arm.name in names:
            bounds += line(axes, arm, points, what.scale, unit_of(what))
    averaged = {arm.name for arm, _ in lines}
    for arm in shown:
        of_arm = [d for d in dots if d.arm == arm.name]
        with drawn_for(axes, arm):
            axes.scatter(
                [1 - d.sparsity for d in of_arm],
                [d.value for d in of_arm],
                s=7 if arm.name in averaged else 16,
                color=arm.color,
                alpha=0.45 if arm.name in averaged else 0.9,
                linewidths=0,
                zorder=2,
                label=None if arm.name in averaged or not of_arm else f"{arm.entry} (single runs)",
            )
    return bounds


def _dense(axes: Axes, what: Metric, dense: Estimate) -> list[float]:
    mean, sd = dense["mean"] * what.scale, dense["sd"]
    axes.axhline(mean, color=GREY, linewidth=0.9, zorder=1, label="dense")
    if ends := interval(shown_interval(dense, unit_of(what)), what.scale):
        axes.axhspan(*ends, color=GREY, alpha=0.10, linewidth=0, zorder=0)
    if what.name == MATCHING.metric and finite(sd):
        axes.axhline(
            mean - sd * what.scale,
            color=GREY,
            linewidth=0.9,
            linestyle=(0, (1, 2)),
            label="matching bound",
            zorder=1,
        )
        return [mean, mean - sd * what.scale]
    return [mean]


def unit_of(what: Metric) -> str:
    """How an estimate of the metric is written (formats.estimate)."""
    if what.scale == 1:
        return "number"
    return "percent" if what.unit.startswith("%") else "barrier" if what.group == "barrier" else "points"


def _alt(what: Metric, lines: Sequence[tuple[Arm, Points]], dense: Estimate | None) -> str:
    unit = unit_of(what)
    parts = [f"{what.heading} against sparsity."]
    if known(dense):
        parts.append(f"Dense: {estimate(dense, unit)['mean']}.")
    for arm, points in lines:
        s, est = max(points, key=lambda p: p[0])
        shown = estimate(est, unit)
        tail = f" (95% interval {shown['range']})" if shown["range"] and est["n"] >= 2 else ""
        parts.append(f"{arm.label} at {sparsity(s)}% sparsity: {shown['mean']}{tail}.")
    return " ".join(parts)
