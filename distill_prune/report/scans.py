"""The figure of a scan over rewinding steps: accuracy and stability against the step, and where they set in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from distill_prune.analyze.verdict import PROPERTIES, STABLE
from distill_prune.report.axes import fit, known
from distill_prune.report.formats import finite, sparsity
from distill_prune.report.multiples import grid
from distill_prune.report.style import GREY, INK, METRICS, Arm, arms, chosen_levels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.study import Study

Record = dict[str, Any]
COLUMNS = tuple(
    (p.metric, METRICS[p.metric].heading[0].lower() + METRICS[p.metric].heading[1:], f"{p.name}_at") for p in PROPERTIES
)
"""Metric, title and the key of an onset."""


def scan(study: Study) -> tuple[Figure, str] | None:
    """Accuracy and test barrier against the rewinding step, a row a level; rings where matching and stability set in."""
    summary = study.summary or {}
    entries, onsets = summary.get("scan") or [], summary.get("onset") or []
    drawn = [c for c in COLUMNS if any(known(e.get(c[0])) for e in entries)]
    if not drawn:
        return None
    steps = list(dict.fromkeys(e["k"] for e in entries))
    levels = chosen_levels({e["level"] for e in entries})
    shown = [a for a in arms(study) if any(e["arm"] == a.name for e in entries)]
    legend_height = 0.17 * -(-(len(shown) + 2) // 3)
    figure, panels = grid(
        len(levels),
        len(drawn),
        1.75 * len(levels) + 0.4 + 0.62 + legend_height,
        top=0.4,
        bottom=0.62 + legend_height,
        left=0.62,
        wspace=0.14,
        hspace=0.3,
        sharex=True,
        sharey="col",
    )
    for row, level in zip(panels, levels, strict=True):
        at = next(e["sparsity"] for e in entries if e["level"] == level)
        for axes, (metric, _, onset) in zip(row, drawn, strict=True):
            for i, arm in enumerate(_at(level, shown, onsets)):
                own = [e for e in entries if e["arm"] == arm.name and e["level"] == level and known(e.get(metric))]
                found: Record = next((o for o in onsets if o["arm"] == arm.name and o["level"] == level), {})
                _line(axes, arm, own, metric, steps, found.get(onset), 0.05 * (i - (len(shown) - 1) / 2))
            if metric == STABLE.metric:
                axes.axhline(2, color=GREY, linewidth=1, linestyle=(0, (2, 2)), label="stable below 2 points", zorder=1)
        row[0].set_title("dense" if level == 0 else f"{sparsity(at)} % sparse", loc="left", fontsize=8.5, color=GREY, pad=4)
    for axes, (metric, _, _) in zip(panels[0], drawn, strict=True):
        means = [e[metric] for e in entries if e["level"] in levels and known(e.get(metric))]
        ends = [100 * e[end] for e in means for end in ("low", "high") if finite(e.get(end))]
        fit(axes, [100 * e["mean"] for e in means], ends, log=False)
    _finish(figure, panels, [title for _, title, _ in drawn], steps, legend_height)
    return figure, "Accuracy and barrier against the rewinding step k = " + ", ".join(steps) + ". " + " ".join(
        _words(o, a) for a in shown for o in onsets if o["arm"] == a.name and o["level"] in levels
    )


def _at(level: int, shown: Sequence[Arm], onsets: Sequence[Record]) -> list[Arm]:
    """The arms to draw at a level: dense networks that all share stand once among the onsets, and are drawn once, in grey."""
    dense = [a for a in shown if any(o["arm"] == a.name and o["level"] == 0 for o in onsets)]
    if level or not dense:
        return list(shown)
    return dense if len(dense) > 1 else [replace(dense[0], label="dense networks", color=GREY, marker="o", dash="-")]


def _line(
    axes: Axes, arm: Arm, own: Sequence[Record], metric: str, steps: Sequence[str], onset: str | None, shift: float
) -> None:
    """Means with their intervals over the steps as written, evenly spaced; a ring around the onset."""
    xs = [steps.index(e["k"]) + shift for e in own]
    ys = [100 * e[metric]["mean"] for e in own]
    axes.plot(
        xs, ys, color=arm.color, linestyle=arm.dash, linewidth=arm.width, marker=arm.marker, label=arm.label if own else None
    )
    sure = [
        (x, e[metric]) for x, e in zip(xs, own, strict=True) if finite(e[metric].get("low")) and finite(e[metric].get("high"))
    ]
    if sure:
        low, high = ([100 * e[end] for _, e in sure] for end in ("low", "high"))
        axes.vlines([x for x, _ in sure], low, high, color=arm.color, linewidth=0.9, alpha=0.7)
    for x, y, e in zip(xs, ys, own, strict=True):
        if e["k"] == onset:
            axes.plot([x], [y], "o", markersize=11, markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.1, zorder=4)


def _finish(figure: Figure, panels: Any, titles: Sequence[str], steps: Sequence[str], legend_height: float) -> None:
    from matplotlib.lines import Line2D

    for axes, title in zip(panels[0], titles, strict=True):
        place = axes.get_position()
        figure.text(place.x0, 1 - 0.12 / figure.get_figheight(), title, fontsize=9.5, fontweight="bold", va="center")
    for axes in panels[-1]:
        axes.set_xticks(range(len(steps)), steps)
        axes.set_xlim(-0.4, len(steps) - 0.6)
    figure.text(
        0.99, (0.1 + legend_height) / figure.get_figheight(), "rewinding step k (evenly spaced)", ha="right", color=GREY
    )
    found: dict[str, Any] = {}
    for axes in panels.flat:
        handles, labels = axes.get_legend_handles_labels()
        found |= dict(zip(labels, handles, strict=True))
    ring = Line2D([], [], linestyle="none", marker="o", markersize=9, markerfacecolor="none", markeredgecolor=INK)
    found["onset: yes at every later k"] = ring
    figure.legend(found.values(), found.keys(), loc="lower left", ncols=3, bbox_to_anchor=(0, 0), labelspacing=0.3)


def _words(onset: Record, arm: Arm) -> str:
    def said(verdict: str, k: str | None) -> str:
        return f"{verdict} from k = {k} on" if k is not None else f"not (decidably) {verdict} at the last k"

    where = "dense" if onset["level"] == 0 else f"at {sparsity(onset['sparsity'])} % sparsity"
    stable, matching = said("stable", onset.get("stable_at")), said("matching", onset.get("matching_at"))
    return f"{arm.label}, {where}: {stable}, {matching}."
