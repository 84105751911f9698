"""The figure of trainings: the loss of the retrained copies by epoch."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from distill_prune.report.axes import WIDE, explained, legend_layout, log_scale, write_legend
from distill_prune.report.formats import finite, number, sparsity
from distill_prune.report.marks import drawn_for, say
from distill_prune.report.multiples import below, grid
from distill_prune.report.style import GREY, Arm, arms, chosen_levels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.study import Study


def training(study: Study) -> tuple[Figure, str] | None:
    """Mean training loss against the epoch, a column a level, a line an arm, a band from the lowest to the highest copy."""
    listed = arms(study)
    trainings = [t for t in study.trainings if t["arm"] in {a.name for a in listed} and all(map(_positive, t["losses"]))]
    if not trainings:
        return None
    levels = chosen_levels({t["level"] for t in trainings})
    at = {t["level"]: t["sparsity"] for t in trainings}
    shown = [a for a in listed if any(t["arm"] == a.name for t in trainings)]
    _, foot = legend_layout([a.entry for a in shown], WIDE)
    figure, panels = grid(1, len(levels), 1.95 + foot, top=0.42, bottom=0.42 + foot, left=0.5, wspace=0.06, sharey=True)
    for axes, level in zip(panels[0], levels, strict=True):
        for arm in shown:
            _losses(axes, arm, [t["losses"] for t in trainings if t["arm"] == arm.name and t["level"] == level])
        axes.set_title("dense" if level == 0 else f"{sparsity(at[level])}% sparse", loc="left", color=GREY)
    log_scale(panels[0][0], [x for t in trainings if t["level"] in levels for x in t["losses"]])
    figure.text(0.0, 0.99, "Training loss of retrained copies (nats)", fontweight="bold", va="top")
    below(figure, "epoch", up=0.02 + foot)
    write_legend(figure, explained(panels[0]))
    last = {a: [t["losses"][-1] for t in trainings if t["arm"] == a.name and t["level"] == levels[-1]] for a in shown}
    return figure, "Training loss of the retrained copies by epoch. In the last epoch at the sparsest level, " + " ".join(
        f"{a.label}: {number(sum(ends) / len(ends))}." for a, ends in last.items() if ends
    )


def _positive(loss: float) -> bool:
    return finite(loss) and loss > 0


def _losses(axes: Axes, arm: Arm, copies: list[list[float]]) -> None:
    """The mean over copies and initialisations of each epoch that a copy has, and their range."""
    if not copies:
        return
    by_epoch: dict[int, list[float]] = defaultdict(list)
    for losses in copies:
        for epoch, loss in enumerate(losses, start=1):
            by_epoch[epoch].append(loss)
    epochs = list(by_epoch)
    means = [sum(losses) / len(losses) for losses in by_epoch.values()]
    with drawn_for(axes, arm):
        (line,) = axes.plot(
            epochs,
            means,
            color=arm.color,
            linestyle=arm.dash,
            linewidth=arm.width,
            marker=arm.marker if len(epochs) < 20 else "",
            markeredgecolor="white",
            markeredgewidth=0.5,
            label=arm.entry,
        )
        low, high = ([end(losses) for losses in by_epoch.values()] for end in (min, max))
        axes.fill_between(epochs, low, high, color=arm.color, alpha=0.08, linewidth=0)
    say(
        axes,
        line,
        [f"{arm.label}, epoch {e}: {number(m)} (n = {len(by_epoch[e])} copies)" for e, m in zip(epochs, means, strict=True)],
    )
