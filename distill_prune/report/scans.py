"""The figure of a scan over rewinding steps: accuracy and stability against the step, and where they set in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.records import OnsetRow, estimate_of, onset_of
from distill_prune.analyze.verdict import PROPERTIES, STABLE
from distill_prune.report.axes import WIDE, explained, fit, interval, known, legend_layout, write_legend
from distill_prune.report.formats import finite, said, shown_interval, sparsity
from distill_prune.report.marks import drawn_for, say
from distill_prune.report.multiples import grid
from distill_prune.report.style import GREY, INK, METRICS, Arm, arms, chosen_levels
from distill_prune.report.sweep import unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.study import Study


STABLE_LINE, ONSET = "stable below 2 points", "onset: yes at every later k"


def scan(study: Study) -> tuple[Figure, str] | None:
    """Accuracy and test barrier against the rewinding step, a row a level; rings where matching and stability set in."""
    summary = study.summary or {}
    entries, onsets = summary.get("scan") or [], summary.get("onset") or []
    drawn = [p for p in PROPERTIES if any(known(estimate_of(e, p.metric)) for e in entries)]
    if not drawn:
        return None
    steps = list(dict.fromkeys(e["k"] for e in entries))
    levels = chosen_levels({e["level"] for e in entries})
    shown = [a for a in arms(study) if any(e["arm"] == a.name for e in entries)]
    _, legend_height = legend_layout([*(a.entry for a in shown), STABLE_LINE, ONSET], WIDE)
    figure, panels = grid(
        len(levels),
        len(drawn),
        1.5 * len(levels) + 0.4 + 0.5 + legend_height,
        top=0.4,
        bottom=0.5 + legend_height,
        left=0.62,
        wspace=0.14,
        hspace=0.3,
        sharex=True,
        sharey="col",
    )
    for row, level in zip(panels, levels, strict=True):
        at = next(e["sparsity"] for e in entries if e["level"] == level)
        for axes, prop in zip(row, drawn, strict=True):
            for i, arm in enumerate(_at(level, shown, onsets)):
                of_arm = [e for e in entries if e["arm"] == arm.name and e["level"] == level]
                unit = unit_of(METRICS[prop.metric])
                points = [(e["k"], shown_interval(mean, unit)) for e in of_arm if known(mean := estimate_of(e, prop.metric))]
                onset = next((onset_of(o, prop) for o in onsets if o["arm"] == arm.name and o["level"] == level), None)
                _line(axes, arm, points, steps, onset, unit, 0.05 * (i - (len(shown) - 1) / 2))
            if prop is STABLE:
                axes.axhline(2, color=GREY, linewidth=1, linestyle=(0, (2, 2)), label=STABLE_LINE, zorder=1)
        row[0].set_title("dense" if level == 0 else f"{sparsity(at)}% sparse", loc="left", color=GREY, pad=4)
    for axes, prop in zip(panels[0], drawn, strict=True):
        means = [e for r in entries if r["level"] in levels and known(e := estimate_of(r, prop.metric))]
        ends = [100 * end for e in means for end in (e["low"], e["high"]) if finite(end)]
        fit(axes, [100 * e["mean"] for e in means], ends, log=False)
    _finish(figure, panels, [METRICS[p.metric].heading for p in drawn], steps, legend_height)
    return figure, "Accuracy and barrier against the rewinding step k = " + ", ".join(steps) + ". " + " ".join(
        _words(o, a) for a in shown for o in onsets if o["arm"] == a.name and o["level"] in levels
    )


def _at(level: int, shown: Sequence[Arm], onsets: Sequence[OnsetRow]) -> list[Arm]:
    """The arms to draw at a level: dense networks that all share stand once among the onsets, and are drawn once, in grey."""
    dense = [a for a in shown if any(o["arm"] == a.name and o["level"] == 0 for o in onsets)]
    if level or not dense:
        return list(shown)
    return dense if len(dense) > 1 else [replace(dense[0], label="dense networks", color=GREY, marker="o", dash="-")]


def _line(
    axes: Axes,
    arm: Arm,
    points: Sequence[tuple[str, Estimate]],
    steps: Sequence[str],
    onset: str | None,
    unit: str,
    shift: float,
) -> None:
    """Means with their intervals over the steps as written, evenly spaced; a ring around the onset."""
    xs = [steps.index(k) + shift for k, _ in points]
    ys = [100 * e["mean"] for _, e in points]
    label = arm.entry if points else None
    with drawn_for(axes, arm):
        (dots,) = axes.plot(xs, ys, color=arm.color, linestyle=arm.dash, linewidth=arm.width, marker=arm.marker, label=label)
        sure = [(x, *ends) for x, (_, e) in zip(xs, points, strict=True) if (ends := interval(e, 100))]
        if sure:
            at_x, low, high = zip(*sure, strict=True)
            axes.vlines(at_x, low, high, color=arm.color, linewidth=0.9, alpha=0.7)
        for x, y, (k, _) in zip(xs, ys, points, strict=True):
            if k == onset:
                axes.plot(
                    [x], [y], "o", markersize=11, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.1, zorder=4
                )
    say(axes, dots, [f"{arm.label}, k = {k}: {said(e, unit)}" for k, e in points])


def _finish(figure: Figure, panels: Any, titles: Sequence[str], steps: Sequence[str], legend_height: float) -> None:
    from matplotlib.lines import Line2D

    for axes, heading in zip(panels[0], titles, strict=True):
        place, title = axes.get_position(), heading[0].lower() + heading[1:]
        figure.text(place.x0, 1 - 0.12 / figure.get_figheight(), title, fontweight="bold", va="center")
    for axes in panels[-1]:
        axes.set_xticks(range(len(steps)), steps)
        axes.set_xlim(-0.4, len(steps) - 0.6)
    figure.text(
        0.99, (0.1 + legend_height) / figure.get_figheight(), "rewinding step k (evenly spaced)", ha="right", color=GREY
    )
    handle_of = explained(panels.flat)
    ring = Line2D([], [], linestyle="none", marker="o", markersize=9, markerfacecolor="none", markeredgecolor=INK)
    handle_of[ONSET] = ring
    write_legend(figure, handle_of)


def _words(onset: OnsetRow, arm: Arm) -> str:
    def begins(verdict: str, k: str | None) -> str:
        return f"{verdict} from k = {k} on" if k is not None else f"not (decidably) {verdict} at the last k"

    where = "dense" if onset["level"] == 0 else f"at {sparsity(onset['sparsity'])}% sparsity"
    stable, matching = begins("stable", onset["stable_at"]), begins("matching", onset["matching_at"])
    return f"{arm.label}, {where}: {stable}, {matching}."
