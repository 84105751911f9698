"""Transfer between tasks: a matrix of sources and targets, as a figure, and what each source is worth beside a target's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.records import TransferRow
from distill_prune.report.axes import WIDE, known
from distill_prune.report.formats import NONE, estimate, sparsity
from distill_prune.report.multiples import grid
from distill_prune.report.style import AGAINST, EVEN, FOR, GREY, INK, Arm, arms, metrics, task_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.study import Study

_ROW, _TOP, _BOTTOM = 0.62, 0.66, 0.72


def rows(study: Study) -> list[TransferRow]:
    """The summary's rows of transfer; none where no ticket is taken to another task."""
    return list((study.summary or {}).get("transfer") or [])


def sources(study: Study) -> list[Arm]:
    """The arms whose masks are transferred, in the study's order."""
    named = {r["source"] for r in rows(study)}
    return [a for a in arms(study, main=False) if a.name in named]


def targets(study: Study) -> list[tuple[str | None, str, str]]:
    """The tasks that tickets are trained on, the study's own first: the task, what to call it, and what it is scored by."""
    metric_of = {r["target"]: metrics(study)[r["metric"]].title for r in rows(study)}
    ordered = sorted(metric_of, key=lambda t: t is not None)
    return [(t, task_label(study, t), metric_of[t]) for t in ordered]


def levels(study: Study) -> list[tuple[int, float]]:
    """The pruned levels that were compared, and their sparsity."""
    return sorted({r["level"]: float(r["sparsity"]) for r in rows(study)}.items())


def matrix(study: Study) -> tuple[Figure, str] | None:
    """Score minus that of the dense network: a row a source, a column a target, a panel a level; numbers stand in the cells."""
    means = [100 * r["to_dense"]["mean"] for r in rows(study) if known(r["to_dense"])]
    if not means:
        return None
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    shown, columns, at = sources(study), targets(study), levels(study)
    each = _ROW * len(shown) + _TOP
    figure, panels = grid(len(at), 1, each * len(at) + _BOTTOM, top=_TOP, bottom=_BOTTOM, left=1.9, hspace=_TOP / (each - _TOP))
    largest = max(map(abs, means)) or 1.0
    colors = ScalarMappable(Normalize(-largest, largest), LinearSegmentedColormap.from_list("apart", [AGAINST, EVEN, FOR]))
    for axes, (level, s) in zip(panels[:, 0], at, strict=True):
        by_place = {(r["source"], r["target"]): r for r in rows(study) if r["level"] == level}
        for y, arm in enumerate(shown):
            for x, (task, _, _) in enumerate(columns):
                row = by_place.get((arm.name, task))
                _cell(axes, x, y, row, colors, frame=bool(row and is_own(arm, row)))
        axes.set_xticks(range(len(columns)), [f"on {name}\n({metric})" for _, name, metric in columns])
        axes.set_yticks(range(len(shown)), [a.label for a in shown])
        axes.tick_params(length=0, top=False, labeltop=True, bottom=False, labelbottom=False)
        axes.set_xlim(-0.5, len(columns) - 0.5)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.grid(False)
        axes.spines[:].set_visible(False)
        axes.text(-1.78 / (0.99 * WIDE - 1.9), 1.03, f"{sparsity(s)}% sparse", transform=axes.transAxes, color=GREY)
    tall = figure.get_figheight()
    bar = figure.colorbar(colors, cax=figure.add_axes((0.25, 0.36 / tall, 0.4, 0.11 / tall)), orientation="horizontal")
    bar.ax.tick_params(length=2)
    bar.outline.set_linewidth(0.5)
    bar.ax.set_title("score minus that of the dense network (points)", loc="left", color=GREY, pad=3)
    return figure, _alt(rows(study), shown, columns, at)


def is_own(arm: Arm, row: TransferRow) -> bool:
    """Whether the masks come from the target itself: a control's come from no task."""
    return bool(row["own"]) and arm.role != "control"


def _cell(axes: Axes, x: int, y: int, row: TransferRow | None, colors: Any, frame: bool) -> None:
    """Mean, 95% interval and count on the colour of the mean."""
    from matplotlib.patches import Rectangle

    difference = row["to_dense"] if row else None
    color: Any = colors.to_rgba(100 * difference["mean"]) if known(difference) else "none"
    edge: dict[str, Any] = {"edgecolor": INK, "linewidth": 1.6} if frame else {"edgecolor": GREY, "linewidth": 0.4}
    inset = 0.02
    axes.add_patch(Rectangle((x - 0.5 + inset, y - 0.5 + inset), 1 - 2 * inset, 1 - 2 * inset, facecolor=color, **edge))
    if not known(difference):
        axes.text(x, y, "not measured", ha="center", va="center", color=GREY)
        return
    text = estimate(difference, "signed")
    axes.text(x, y - 0.16, text["mean"], ha="center", va="center", fontweight="bold", color=INK)
    axes.text(x, y + 0.2, f"{text['range']}, n = {text['n']}", ha="center", va="center", color=INK)


def _alt(
    rows: Sequence[TransferRow],
    shown: Sequence[Arm],
    columns: Sequence[tuple[str | None, str, str]],
    at: Sequence[tuple[int, float]],
) -> str:
    level, s = at[-1]
    by_place = {(r["source"], r["target"]): r for r in rows if r["level"] == level}
    sentences = [
        f"{arm.label} on {name}: {estimate(row['to_dense'], 'signed')['mean']}."
        for arm in shown
        for task, name, _ in columns
        if (row := by_place.get((arm.name, task))) and row["to_dense"]
    ]
    return (
        f"Score minus that of the dense network, in points, for {len(shown)} sources of masks and {len(columns)} tasks. At "
        f"{sparsity(s)}% sparsity, " + " ".join(sentences)
    )


@dataclass(frozen=True)
class Cell:
    """A source on one target: the target's own ticket, or the difference from it."""

    own: bool
    estimate: Estimate | None


@dataclass(frozen=True)
class Beside:
    """A source at a level, a cell a target, and in words on how many targets it is at least as good as their own."""

    arm: Arm
    sparsity: float
    cells: list[Cell]
    at_least: str


def beside_own(study: Study) -> list[Beside]:
    """A row a level and source."""
    lines = []
    for level, s in levels(study):
        for arm in sources(study):
            by_target = {r["target"]: r for r in rows(study) if (r["level"], r["source"]) == (level, arm.name)}
            of_source = [by_target.get(task) for task, _, _ in targets(study)]
            means = [r["to_own"]["mean"] for r in of_source if r and known(r["to_own"])]
            cells = [Cell(bool(r and is_own(arm, r)), r["to_own"] if r else None) for r in of_source]
            at_least = f"{sum(m >= 0 for m in means)} of {len(means)}" if means else NONE
            lines.append(Beside(arm, s, cells, at_least))
    return lines
