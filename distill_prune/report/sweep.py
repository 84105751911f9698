"""Figures of a metric against sparsity: means over initialisations with their intervals, and single initialisations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.metric import Metric
from distill_prune.analyze.records import value
from distill_prune.analyze.verdict import MATCHING, STABLE, STABLE_BELOW
from distill_prune.report.axes import (
    Points,
    estimates,
    fit,
    interval,
    known,
    legend,
    line,
    log_scale,
    panels,
    room_for_numbers,
    sparsity_axis,
)
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


@dataclass(frozen=True)
class Measured:
    """What a study has of a metric: means by arm, single initialisations, and the dense networks."""

    lines: list[tuple[Arm, Points]]
    dots: list[Dot]
    dense: Estimate | None
    scale: float

    @property
    def values(self) -> list[float]:
        """All that is to be seen, in the metric's unit."""
        return [e["mean"] * self.scale for _, points in self.lines for _, e in points] + [d.value for d in self.dots]

    @property
    def sparsities(self) -> list[float]:
        return [s for _, points in self.lines for s, _ in points] + [d.sparsity for d in self.dots]


def measured(study: Study, what: Metric, listed: Sequence[Arm]) -> Measured:
    """What the study has of a metric, of the arms listed."""
    names = {a.name: a for a in listed}
    units = [u for u in study.units if u["arm"] in names and finite(u.get("sparsity"))]
    dots = [Dot(u["arm"], u["sparsity"], v * what.scale) for u in units if finite(v := value(u, what.name))]
    lines = [(names[a.name], points) for a, points in estimates(study, what.name) if a.name in names]
    return Measured(lines, dots, ((study.summary or {}).get("dense") or {}).get(what.name), what.scale)


def metric(study: Study, name: str) -> tuple[Figure, str] | None:
    """The metric `name` against sparsity, and its alternative text; None where it was not measured.

    A dot is one initialisation, a line the mean over initialisations, a band its 95% interval.
    """
    what = metrics(study)[name]
    of_study = measured(study, what, arms(study))
    if not of_study.values:
        return None
    drawn = [(title, arms) for title, arms in sides(study) if any(_has(a, of_study) for a in arms)]
    figure, cells = panels(what.heading, [title for title, _ in drawn])
    bounds = [b for axes, (_, shown) in zip(cells, drawn, strict=True) for b in panel(axes, shown, what, of_study)]
    finish(cells, what, [of_study], bounds)
    room_for_numbers(figure, cells)
    legend(figure, cells)
    return figure, alt(what, of_study)


def finish(cells: Sequence[Axes], what: Metric, drawn: Sequence[Measured], bounds: Sequence[float]) -> None:
    """The vertical scale that the panels of a figure share, fitted to all values and as far as may be to intervals."""
    values = [v for m in drawn for v in m.values]
    log = what.log and min(values) > 0
    if log:
        log_scale(cells[0], values)
    fit(cells[0], values + ([100 * STABLE_BELOW] if what.name == STABLE.metric else []), bounds, log)


def _has(arm: Arm, m: Measured) -> bool:
    return any(a.name == arm.name for a, _ in m.lines) or any(d.arm == arm.name for d in m.dots)


def panel(axes: Axes, shown: Sequence[Arm], what: Metric, m: Measured) -> list[float]:
    """The arms, the dense networks and the bounds of one panel; returns the interval bounds that were drawn."""
    bounds = _arms(axes, shown, what, m)
    if known(m.dense):
        bounds += _dense(axes, what, m.dense)
    if what.name == STABLE.metric:
        axes.axhline(
            100 * STABLE_BELOW, color=GREY, linewidth=1, linestyle=(0, (2, 2)), label="stable below 2 points", zorder=1
        )
    sparsity_axis(axes, m.sparsities)
    return bounds


def _arms(axes: Axes, shown: Sequence[Arm], what: Metric, m: Measured) -> list[float]:
    """The arms of one panel; returns the interval bounds that were drawn."""
    bounds: list[float] = []
    names = {arm.name for arm in shown}
    for arm, points in m.lines:
        if arm.name in names:
            bounds += line(axes, arm, points, what.scale, unit_of(what), len(names))
    averaged = {arm.name for arm, _ in m.lines}
    for arm in shown:
        of_arm = [d for d in m.dots if d.arm == arm.name]
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


def alt(what: Metric, m: Measured) -> str:
    """The metric in words: the dense networks, and every arm at its sparsest level."""
    unit = unit_of(what)
    parts = [f"{what.heading} against sparsity."]
    if known(m.dense):
        parts.append(f"Dense: {estimate(m.dense, unit)['mean']}.")
    for arm, points in m.lines:
        s, est = max(points, key=lambda p: p[0])
        shown = estimate(est, unit)
        tail = f" (95% interval {shown['range']})" if shown["range"] and est["n"] >= 2 else ""
        parts.append(f"{arm.label} at {sparsity(s)}% sparsity: {shown['mean']}{tail}.")
    return " ".join(parts)
