"""Figures of a metric against sparsity: means over initialisations with their intervals, and single initialisations."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from distill_prune.analyze.metric import Metric
from distill_prune.analyze.verdict import MATCHING, STABLE, STABLE_BELOW
from distill_prune.report.axes import Points, estimates, fit, known, legend, line, log_scale, panels, sparsity_axis
from distill_prune.report.formats import estimate, finite, sparsity
from distill_prune.report.style import GREY, Arm, arms, metrics, sides

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.study import Study


def metric(study: Study, name: str) -> tuple[Figure, str] | None:
    """The metric `name` against sparsity, and its alternative text; None where it was not measured.

    A dot is one initialisation, a line the mean over initialisations, a band its 95 % interval.
    """
    what = metrics(study)[name]
    lines = estimates(study, name)
    listed = {a.name for a in arms(study)}
    dots = [u for u in study.units if finite(u.get(name)) and finite(u.get("sparsity")) and u["arm"] in listed]
    if not lines and not dots:
        return None
    drawn = [(title, arms) for title, arms in sides(study) if any(_has(a, lines, dots) for a in arms)]
    figure, found = panels(what.heading, [title for title, _ in drawn])
    dense = ((study.summary or {}).get("dense") or {}).get(name)
    values = [e["mean"] * what.scale for _, points in lines for _, e in points] + [u[name] * what.scale for u in dots]
    log = what.log and min(values) > 0
    bounds: list[float] = []
    for axes, (_, shown) in zip(found, drawn, strict=True):
        bounds += _panel(axes, shown, what, lines, dots)
        if dense is not None and known(dense):
            bounds += _dense(axes, what, dense)
        if name == STABLE.metric:
            axes.axhline(
                100 * STABLE_BELOW, color=GREY, linewidth=1, linestyle=(0, (2, 2)), label="stable below 2 points", zorder=1
            )
        sparsity_axis(axes, [s for _, points in lines for s, _ in points] + [u["sparsity"] for u in dots])
    if log:
        log_scale(found[0], values)
    fit(found[0], values + ([100 * STABLE_BELOW] if name == STABLE.metric else []), bounds, log)
    legend(figure, found, reserve=len(arms(study)) + 2)
    return figure, _alt(what, lines, dense)


def _has(arm: Arm, lines: Sequence[tuple[Arm, Points]], dots: Sequence[dict[str, Any]]) -> bool:
    return any(a.name == arm.name for a, _ in lines) or any(u["arm"] == arm.name for u in dots)


def _panel(
    axes: Axes, shown: Sequence[Arm], what: Metric, lines: Sequence[tuple[Arm, Points]], dots: Sequence[dict[str, Any]]
) -> list[float]:
    """The arms of one panel; returns the interval bounds that were drawn."""
    bounds: list[float] = []
    names = {arm.name for arm in shown}
    for arm, points in lines:
        if arm.name in names:
            bounds += line(axes, arm, points, what.scale)
    averaged = {arm.name for arm, _ in lines}
    for arm in shown:
        own = [u for u in dots if u["arm"] == arm.name]
        axes.scatter(
            [1 - u["sparsity"] for u in own],
            [u[what.name] * what.scale for u in own],
            s=7 if arm.name in averaged else 16,
            color=arm.color,
            alpha=0.45 if arm.name in averaged else 0.9,
            linewidths=0,
            zorder=2,
            label=None if arm.name in averaged or not own else f"{arm.label} (single runs)",
        )
    return bounds


def _dense(axes: Axes, what: Metric, dense: dict[str, Any]) -> list[float]:
    mean, sd = dense["mean"] * what.scale, dense.get("sd")
    axes.axhline(mean, color=GREY, linewidth=0.9, zorder=1, label="dense")
    if finite(dense.get("low")) and finite(dense.get("high")):
        axes.axhspan(dense["low"] * what.scale, dense["high"] * what.scale, color=GREY, alpha=0.10, linewidth=0, zorder=0)
    if what.name == MATCHING.metric and sd is not None and finite(sd):
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


def unit_of(what: Metric) -> str:
    """How an estimate of the metric is written (formats.estimate)."""
    return "number" if what.scale == 1 else "percent" if what.unit.startswith("%") else "points"


def _alt(what: Metric, lines: Sequence[tuple[Arm, Points]], dense: Any) -> str:
    unit = unit_of(what)
    parts = [f"{what.heading} against sparsity."]
    if known(dense):
        parts.append(f"Dense: {estimate(dense, unit)['mean']}.")
    for arm, points in lines:
        s, est = max(points, key=lambda p: p[0])
        shown = estimate(est, unit)
        tail = f" (95 % interval {shown['range']})" if shown["range"] and est["n"] >= 2 else ""
        parts.append(f"{arm.label} at {sparsity(s)} % sparsity: {shown['mean']}{tail}.")
    return " ".join(parts)
