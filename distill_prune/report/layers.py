"""Figures of layers, as bars: the weights that remain, and the trace per weight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from distill_prune.report.axes import WIDE, explained, legend_layout, write_legend
from distill_prune.report.depth import layer_name, shortened
from distill_prune.report.formats import finite, number, sparsity
from distill_prune.report.marks import drawn_for, say
from distill_prune.report.multiples import grid
from distill_prune.report.style import GREY, Arm, arms, chosen_levels, sides, sparsities

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.records import LayerCount, LayerTrace
    from distill_prune.study.study import Study

Layer = TypeVar("Layer", "LayerCount", "LayerTrace")
_BAR, _GAP, _TALL, _TITLE = 0.055, 0.1, 0.3, 0.25
"""Inches: of a bar, between layers, from which on a layer has markers instead, and of a title with its air."""


def layers(study: Study) -> tuple[Figure, str] | None:
    """Weights that remain in each layer, at the middle and the last level; None where masks are not at hand."""
    listed = {a.name for a in arms(study)}
    sparse = [e for e in study.layers if e["level"] > 0 and e["arm"] in listed]
    if not sparse:
        return None

    def share(e: LayerCount) -> float:
        return 100 * e["remaining"] / e["total"]

    # Levels between those that were retrained have masks, too.
    retrained = {level for _, level in sparsities(study)}
    there = {e["level"] for e in sparse}
    levels = chosen_levels((there & retrained) or there)[-2:]
    figure = _by_layer(study, sparse, levels, share, "Weights that remain (%)")
    least = {e["arm"]: e for e in sorted((e for e in sparse if e["level"] == levels[-1]), key=share, reverse=True)}
    remarks = [
        f"{a.label}: fewest in {layer_name(study, e)}, {number(share(e))}%." for a in arms(study) if (e := least.get(a.name))
    ]
    names = len({e["layer"] for e in sparse})
    return figure, f"Share of weights that remain in each of {names} layers, by arm. At the last level, " + " ".join(remarks)


def traces(study: Study) -> tuple[Figure, str] | None:
    """Hessian trace per surviving weight by layer, means over initialisations; None where not measured."""
    listed = {a.name for a in arms(study)}
    entries = [e for e in study.layer_traces if finite(e.get("trace_per_weight")) and e["arm"] in listed]
    if not entries:
        return None

    def trace(e: LayerTrace) -> float:
        return e["trace_per_weight"]

    levels = chosen_levels({e["level"] for e in entries})[-2:]
    figure = _by_layer(study, entries, levels, trace, "Hessian trace per surviving weight (nats)")
    top = {e["arm"]: e for e in sorted((e for e in entries if e["level"] == levels[-1]), key=trace)}
    remarks = [
        f"{a.label}: highest in {layer_name(study, e)}, {number(trace(e))}." for a in arms(study) if (e := top.get(a.name))
    ]
    return figure, "Hessian trace per surviving weight by layer and arm. At the last level, " + " ".join(remarks)


def _by_layer(
    study: Study, entries: Sequence[Layer], levels: Sequence[int], value: Callable[[Layer], float], heading: str
) -> Figure:
    """A column a level, a row for each side of the study, layers downwards in the network's order, a bar an arm."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    have = {e["arm"] for e in entries}
    drawn = [(t, [a for a in shown if a.name in have]) for t, shown in sides(study) if any(a.name in have for a in shown)]
    names = list(dict.fromkeys(layer_name(study, e) for e in entries))
    at = {level: s for (_, level), s in sparsities(study).items()}
    _, foot = legend_layout([a.entry for a in arms(study) if a.name in have], WIDE)
    most = max(len(shown) for _, shown in drawn)
    bars = most * _BAR + _GAP <= _TALL + 0.12 and len(names) * (most * _BAR + _GAP) <= 6
    each = most * _BAR + _GAP if bars else 0.17
    figure, panels = grid(
        len(drawn),
        len(levels),
        (each * len(names) + _TITLE) * len(drawn) + 0.42 + foot,
        top=0.42,
        bottom=0.25 + foot,
        left=min(0.065 * max(map(len, shortened(names))) + 0.15, 1.8),
        wspace=0.1,
        hspace=_TITLE / (each * len(names)),
        sharey=True,
        sharex=True,
    )
    for row, (title, shown) in zip(panels, drawn, strict=True):
        for axes, level in zip(row, levels, strict=True):
            for i, arm in enumerate(shown):
                of_arm = [e for e in entries if e["arm"] == arm.name and e["level"] == level]
                shift = 0.84 * ((i + 0.5) / len(shown) - 0.5) if bars else 0.0
                points = [(names.index(name := layer_name(study, e)) + shift, value(e), name) for e in of_arm]
                _bars(axes, arm, points, bars)
            where = "dense" if level == 0 else f"{sparsity(at[level])}% sparse" if level in at else f"level {level}"
            axes.set_title(f"{title}, {where}" if title else where, loc="left", color=GREY)
            axes.grid(True, axis="x")
            axes.grid(False, axis="y")
    panels[0][0].set_yticks(range(len(names)), shortened(names))
    panels[0][0].set_ylim(len(names) - 0.5, -0.5)
    panels[0][0].set_xlim(left=0)
    panels[0][0].xaxis.set_major_locator(MaxNLocator(4))
    panels[0][0].xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    figure.text(0.0, 0.995, heading, fontweight="bold", va="top")
    write_legend(figure, explained(panels.flat))
    return figure


def _bars(axes: Axes, arm: Arm, points: Sequence[tuple[float, float, str]], bars: bool) -> None:
    """An arm's value in each layer, as (height, value, layer)."""
    if not points:
        return
    heights, values = [y for y, _, _ in points], [v for _, v, _ in points]
    with drawn_for(axes, arm):
        if bars:
            axes.hlines(heights, 0, values, color=arm.color, linewidth=2.2, alpha=0.55)
        (dots,) = axes.plot(
            values,
            heights,
            linestyle="none",
            marker=arm.marker,
            color=arm.color,
            markeredgecolor="white",
            markeredgewidth=0.4,
            label=arm.entry,
        )
    say(axes, dots, [f"{arm.label}, {name}: {number(v)}" for _, v, name in points])
