"""Figures of several panels: lines between copies, costs, and the course of distillation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_prune.analyze.records import CostRow, Total
from distill_prune.letters import printable
from distill_prune.report.axes import WIDE, legend
from distill_prune.report.formats import count, finite, number
from distill_prune.report.multiples import absent, grid, multiples, side
from distill_prune.report.style import COLORS, CROWD, ENTRY, GREY, Arm, arms, chosen_levels, sparsities

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.records import Curve, Distillation
    from distill_prune.study.study import Study

TOTALS = {"o": "mask search", "s": "+ distillation", "^": "+ experts"}
"""Markers of the three totals of a row of costs, in their order."""
KINDS = {"images": "examples seen", "steps": "steps", "flops": "FLOPs"}


def interpolation(study: Study) -> tuple[Figure, str] | None:
    """Error on the line between two copies: a block an arm, a column a level, a line an initialisation."""
    listed = {a.name for a in arms(study)}
    curves = [c for c in study.curves if c["arm"] in listed]
    if not curves:
        return None
    from matplotlib.lines import Line2D

    at = {level: s for (_, level), s in sparsities(study).items()}
    levels = chosen_levels({c["level"] for c in curves})
    # The dense ticket is shared: an arm without curves at level 0 shows the one that there is.
    shared = [c for c in curves if c["level"] == 0]
    shown = [a for a in arms(study) if any(c["arm"] == a.name for c in curves if c["level"] > 0 or len(levels) == 1)]
    if not shown:
        shown = [a for a in arms(study) if any(c["arm"] == a.name for c in curves)]
    across = 2 if len(shown) > CROWD else 1
    figure, cells = multiples(shown, [(n, at[n]) for n in levels], across, 1.0, hspace=0.38, outer=True)
    first = next(iter(cells.values()))
    drawn: list[Curve] = []
    for arm in shown:
        for level in levels:
            of_arm = [c for c in curves if c["arm"] == arm.name and c["level"] == level] or (shared if level == 0 else [])
            axes = cells[arm.name, level]
            _curves(axes, of_arm, arm.color)
            drawn += of_arm
            ticks = axes.set_xticks([0, 0.5, 1], ["copy 1", "halfway" if across == 1 else "", "copy 2"])
            ticks[0].label1.set_horizontalalignment("left")
            ticks[-1].label1.set_horizontalalignment("right")
    # Limits are set alike: that many axes which share them take seconds.
    errors = [100 * e for c in drawn for e in (*c["test_error"], *c["train_error"])]
    first.update_datalim([(0, min(errors)), (0, max(errors))])
    first.autoscale_view()
    for axes in cells.values():
        axes.set_xlim(-0.06, 1.06)
        axes.set_ylim(0, first.get_ylim()[1])
    side(figure, "error (%)")
    handles = [
        Line2D([], [], color=GREY, linewidth=1.1),
        Line2D([], [], color=GREY, linewidth=0.9, linestyle=(0, (2, 1.5))),
    ]
    figure.legend(handles, ["test error", "train error"], loc="lower left", bbox_to_anchor=(0, 0), ncols=2)
    return figure, (
        f"Error along the line between two trained copies, for {len(shown)} arms and {len(levels)} levels. "
        + _rises(study, shown, levels[-1])
    )


def _curves(axes: Axes, curves: list[Curve], color: str) -> None:
    for c in curves:
        axes.plot(c["alphas"], [100 * e for e in c["test_error"]], color=color, linewidth=1.1, alpha=0.9)
        axes.plot(
            c["alphas"],
            [100 * e for e in c["train_error"]],
            color=color,
            linewidth=0.9,
            linestyle=(0, (2, 1.5)),
            alpha=0.7,
        )
    if not curves:
        absent(axes)


def _rises(study: Study, shown: list[Arm], level: int) -> str:
    parts = []
    for arm in shown:
        of_arm = [c for c in study.curves if c["arm"] == arm.name and c["level"] == level]
        if of_arm:
            peak, ends = (
                max(max(c["test_error"]) for c in of_arm),
                max(max(c["test_error"][0], c["test_error"][-1]) for c in of_arm),
            )
            parts.append(f"{arm.label}: highest test error on the line {100 * peak:.1f}%, at an end {100 * ends:.1f}%.")
    return "At the sparsest level, " + " ".join(parts) if parts else ""


def costs(study: Study) -> tuple[Figure, str] | None:
    """The three totals of every arm, as positions on a log scale: such an axis has no zero to start a bar from."""
    by_arm = {c["arm"]: _totals(c) for c in (study.summary or {}).get("costs") or []}
    shown = [a for a in arms(study) if a.name in by_arm]
    if not shown:
        return None
    from matplotlib.lines import Line2D

    figure, panels = grid(1, len(KINDS), 0.28 * len(shown) + 0.75, top=0.25, bottom=0.5, left=0.12, wspace=0.07, sharey=True)
    # Labels of arms are long: they get a room of their own at the left.
    figure.subplots_adjust(left=min(0.065 * max(len(a.label) for a in shown) + 0.15, 2.8) / WIDE)
    for axes, (kind, title) in zip(panels[0], KINDS.items(), strict=True):
        axes.set_title(title, loc="left", color=GREY)
        _costs(axes, [(arm, [(marker, total.get(kind)) for marker, total in by_arm[arm.name]]) for arm in shown])
    panels[0][0].set_yticks(range(len(shown)), [a.label for a in shown])
    panels[0][0].set_ylim(len(shown) - 0.5, -0.5)
    figure.legend(
        [Line2D([], [], color=GREY, marker=m, linestyle="none", markersize=5.5) for m in TOTALS],
        list(TOTALS.values()),
        loc="lower left",
        ncols=3,
        bbox_to_anchor=(0, -0.01),
    )
    return figure, "Costs by arm on a log scale. " + " ".join(
        f"{a.label}: {count(by_arm[a.name][0][1].get('images'))} examples seen in mask search." for a in shown
    )


def _totals(row: CostRow) -> list[tuple[str, Total]]:
    """The three totals with their markers; what is not known is empty."""
    totals = (row["search"], row["with_distillation"], row["with_experts"])
    return [(marker, total or {}) for marker, total in zip(TOTALS, totals, strict=True)]


def _costs(axes: Axes, rows: Sequence[tuple[Arm, Sequence[tuple[str, float | None]]]]) -> None:
    """One kind of cost: a row an arm, a marker a total that is known."""
    values = [v for _, totals in rows for _, v in totals]
    positive = [v for v in values if v]
    if not positive:
        text = "not counted" if all(v is None for v in values) else "0"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, ha="center", color=GREY)
        axes.set_xticks([])
        return
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    low, high = min(positive) / 2.5, max(positive) * 2.5
    axes.set_xlim(low, high)
    for y, (arm, totals) in enumerate(rows):
        _cost_row(axes, y, arm, [(marker, v, max(v, low * 1.25)) for marker, v in totals if v is not None])
    axes.grid(True, axis="x")
    axes.grid(False, axis="y")
    axes.xaxis.set_major_locator(LogLocator(numticks=4))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(_power))


def _cost_row(axes: Axes, y: int, arm: Arm, totals: Sequence[tuple[str, float, float]]) -> None:
    """An arm's totals as (marker, value, place), joined by a line; the first stands on top."""
    if not totals:
        axes.text(0.03, y, "not counted", transform=axes.get_yaxis_transform(), va="center", color=GREY)
    xs = [x for _, _, x in totals]
    axes.plot(xs, [y] * len(xs), color=arm.color, linewidth=1.2, alpha=0.55, zorder=2)
    for marker, v, x in reversed(totals):
        axes.plot(
            [x], [y], marker=marker, color=arm.color, markersize=5.5, markeredgecolor="white", markeredgewidth=0.6, zorder=3
        )
        if v == 0:
            axes.annotate("0", (x, y), xytext=(5, 3), textcoords="offset points", color=arm.color)


def _power(x: float, _: int) -> str:
    """A power of ten in little room: 10k, 1M, 10¹²."""
    return count(x).replace(" ", "") if x < 1e9 else number(x).split(" × ")[-1]


def distillation(study: Study) -> tuple[Figure, str] | None:
    """Loss and (where it is learned) inner learning rate of every set by iteration; None where nothing was distilled."""
    courses = [(s.name, s.course) for s in study.pictures if s.course and any(finite(x) for x in s.course["loss"])]
    if not courses:
        return None
    titles = {"loss": "Distillation loss", "lr": "Learned inner learning rate"}
    drawn = [(key, title) for key, title in titles.items() if any(finite(x) for _, c in courses for x in _of(c, key))]
    figure, panels = grid(1, len(drawn), 1.9, top=0.25, bottom=0.4, left=0.45, wspace=0.24)
    for axes, (key, title) in zip(panels[0], drawn, strict=True):
        for i, (name, course) in enumerate(courses):
            pairs = [(i, v) for i, v in zip(course["iterations"], _of(course, key), strict=False) if finite(v)]
            xs, ys = [x for x, _ in pairs], [y for _, y in pairs]
            marker = "o" if len(pairs) == 1 else ""
            color = COLORS[i % len(COLORS)]
            axes.plot(xs, ys, color=color, linewidth=0.9, marker=marker, label=printable(f"{ENTRY}{name}") if pairs else None)
        axes.set_title(title, loc="left", fontweight="bold")
        axes.set_xlabel("distillation iteration", color=GREY)
    if len(courses) > 1:
        legend(figure, panels[0], cut=False)
    ends = [(name, *(next(x for x in xs if finite(x)) for xs in (c["loss"], c["loss"][::-1]))) for name, c in courses]
    return figure, " ".join(
        f"Loss of the set {name} from {first:.3g} at the first recorded iteration to {last:.3g} at the last."
        for name, first, last in ends
    )


def _of(course: Distillation, key: str) -> list[float]:
    return (course["loss"] if key == "loss" else course["lr"]) or []
