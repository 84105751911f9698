"""Figures by layer: the weights that remain, the trace per weight, and barriers with one layer interpolated at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from distill_prune.arithmetic import ceil_div
from distill_prune.report.axes import WIDE, explained, legend_layout, write_legend
from distill_prune.report.formats import finite, fixed, number, power, sparsity
from distill_prune.report.marks import drawn_for, say
from distill_prune.report.multiples import grid, side
from distill_prune.report.style import GREY, Arm, arms, chosen_levels, sides, sparsities

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.records import LayerCount, LayerTrace, Layerwise
    from distill_prune.study.study import Study

Layer = TypeVar("Layer", "LayerCount", "LayerTrace")
_LONG = 24


def layers(study: Study) -> tuple[Figure, str] | None:
    """Weights that remain in each layer, at the middle and the last level; None where masks are not at hand."""
    listed = {a.name for a in arms(study)}
    sparse = [e for e in study.layers if e["level"] > 0 and e["arm"] in listed]
    if not sparse:
        return None
    levels = chosen_levels({e["level"] for e in sparse})[-2:]

    def share(e: LayerCount) -> float:
        return max(100 * e["remaining"] / e["total"], 1e-3)

    figure = _by_layer(study, sparse, levels, share, "weights that remain (%)", log=True)
    last = [e for e in sparse if e["level"] == levels[-1]]
    least = {e["arm"]: e for e in sorted(last, key=share, reverse=True)}
    remarks = [f"{a.label}: fewest in {layer_name(e)}, {number(share(e))}%." for a in arms(study) if (e := least.get(a.name))]
    names = len({e["layer"] for e in sparse})
    return figure, f"Share of weights that remain in each of {names} layers, by arm. At the last level, " + " ".join(remarks)


def traces(study: Study) -> tuple[Figure, str] | None:
    """Hessian trace per surviving weight by layer, means over initialisations; None where not measured."""
    listed = {a.name for a in arms(study)}
    entries = [e for e in study.layer_traces if finite(e.get("trace_per_weight")) and e["arm"] in listed]
    if not entries:
        return None
    levels = chosen_levels({e["level"] for e in entries})[-2:]

    def trace(e: LayerTrace) -> float:
        return e["trace_per_weight"]

    log = min(trace(e) for e in entries if e["level"] in levels) > 0
    figure = _by_layer(study, entries, levels, trace, "trace per surviving weight (nats)", log)
    top = {e["arm"]: e for e in sorted((e for e in entries if e["level"] == levels[-1]), key=trace)}
    remarks = [f"{a.label}: highest in {layer_name(e)}, {number(trace(e))}." for a in arms(study) if (e := top.get(a.name))]
    return figure, "Hessian trace per surviving weight by layer and arm. At the last level, " + " ".join(remarks)


def layer_name(e: LayerCount | LayerTrace | Layerwise) -> str:
    """A layer as figures name it."""
    return e["layer"].removesuffix(".weight")


def shortened(names: Sequence[str]) -> list[str]:
    """Names of layers as an axis shows them: without the dotted part that most begin with, where there is room for no more."""
    parts = [n.split(".") for n in names]
    begun = Counter(tuple(p[:i]) for p in parts for i in range(1, len(p)))
    common = max((b for b, n in begun.items() if 2 * n > len(names)), key=len, default=())
    if max(map(len, names)) <= _LONG:
        return list(names)
    return [".".join(p[len(common) :]) if tuple(p[: len(common)]) == common else n for p, n in zip(parts, names, strict=True)]


def _by_layer(
    study: Study, entries: Sequence[Layer], levels: Sequence[int], value: Callable[[Layer], float], name: str, log: bool
) -> Figure:
    """A column a level, a row for each side of the study, a line an arm, layers in the network's order."""
    have = {e["arm"] for e in entries}
    drawn = [(t, shown) for t, shown in sides(study) if any(a.name in have for a in shown)]
    names = list(dict.fromkeys(layer_name(e) for e in entries))
    at = {level: s for (_, level), s in sparsities(study).items()}
    _, legend_height = legend_layout([a.entry for a in arms(study) if a.name in have], WIDE)
    figure, panels = grid(
        len(drawn),
        len(levels),
        1.6 * len(drawn) + 0.25 + 0.45 + legend_height,
        top=0.25,
        bottom=0.45 + legend_height,
        left=0.62,
        wspace=0.06,
        sharey=True,
        sharex=True,
    )
    for row, (title, shown) in zip(panels, drawn, strict=True):
        for axes, level in zip(row, levels, strict=True):
            for arm in shown:
                _layer_line(axes, arm, [e for e in entries if e["arm"] == arm.name and e["level"] == level], names, value)
            title_of_level = "dense" if level == 0 else f"{sparsity(at[level])}% sparse" if level in at else f"level {level}"
            axes.set_title(f"{title}, {title_of_level}" if title else title_of_level, loc="left", color=GREY)
    values = [value(e) for e in entries if e["level"] in levels]
    _scales(panels[0][0], panels[-1], names, values, log)
    side(figure, name)
    write_legend(figure, explained(panels.flat))
    return figure


def _layer_line(axes: Axes, arm: Arm, of_arm: Sequence[Layer], names: Sequence[str], value: Callable[[Layer], float]) -> None:
    if of_arm:
        with drawn_for(axes, arm):
            (dots,) = axes.plot(
                [names.index(layer_name(e)) for e in of_arm],
                [value(e) for e in of_arm],
                color=arm.color,
                linestyle=arm.dash,
                linewidth=arm.width,
                marker=arm.marker,
                markeredgecolor="white",
                markeredgewidth=0.5,
                label=arm.entry,
            )
        say(dots, [f"{arm.label}, {layer_name(e)}: {number(value(e))}" for e in of_arm])


def _scales(first: Axes, last: Sequence[Axes], names: Sequence[str], values: Sequence[float], log: bool) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    if log:
        first.set_yscale("log")
        first.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if max(values) / min(values) < 100 else (1.0,)))
        first.yaxis.set_minor_locator(NullLocator())
        first.yaxis.set_major_formatter(FuncFormatter(lambda y, _: power(y)))
    every = ceil_div(len(names), 8)
    for axes in last:
        axes.set_xticks(range(0, len(names), every), shortened(names)[::every], rotation=20, ha="right")
        axes.set_xlim(-0.4, len(names) - 0.6)


def layerwise(study: Study) -> tuple[Figure, str] | None:
    """Excess of test error with one layer interpolated at a time: a dot an initialisation, a row of dots an arm."""
    listed = arms(study)
    entries = [e for e in study.layerwise if finite(e.get("excess_test")) and e["arm"] in {a.name for a in listed}]
    if not entries:
        return None
    levels = chosen_levels({e["level"] for e in entries})
    shown = [a for a in listed if any(e["arm"] == a.name for e in entries)]
    names = list(dict.fromkeys(layer_name(e) for e in entries))
    at = {e["level"]: e["sparsity"] for e in entries}
    _, legend_height = legend_layout([a.entry for a in shown], WIDE)
    each = min(max(0.11 * len(shown) + 0.14, 0.3), 0.9)
    figure, panels = grid(
        1,
        len(levels),
        each * len(names) + 0.28 + 0.5 + legend_height,
        top=0.28,
        bottom=0.5 + legend_height,
        left=min(0.07 * max(map(len, shortened(names))) + 0.2, 1.8),
        wspace=0.06,
        sharey=True,
        sharex=True,
    )
    for axes, level in zip(panels[0], levels, strict=True):
        _strip(axes, shown, [e for e in entries if e["level"] == level], names)
        axes.set_title("dense" if level == 0 else f"{sparsity(at[level])}% sparse", loc="left", color=GREY)
        axes.axvline(0, color=GREY, linewidth=0.7, zorder=1)
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
    panels[0][0].set_yticks(range(len(names)), shortened(names))
    panels[0][0].set_ylim(len(names) - 0.5, -0.5)
    figure.text(
        0.99, (0.1 + legend_height) / figure.get_figheight(), "excess of test error over the chord (points)", ha="right"
    )
    write_legend(figure, explained(panels[0]))
    last = [e for e in entries if e["level"] == levels[-1]]
    top = {e["arm"]: e for e in sorted(last, key=lambda e: e["excess_test"])}
    remarks = [
        f"{a.label}: highest in {layer_name(e)}, {fixed(e['excess_test'], 2, 100)} points."
        for a in shown
        if (e := top.get(a.name))
    ]
    return figure, "Excess of test error over the chord with one layer interpolated at a time. At the last level, " + " ".join(
        remarks
    )


def _strip(axes: Axes, shown: Sequence[Arm], entries: Sequence[Layerwise], names: Sequence[str]) -> None:
    """Dots by layer, arms a little apart, with light bands that lead the eye from layer to layer."""
    for i in range(0, len(names), 2):
        axes.axhspan(i - 0.5, i + 0.5, color=GREY, alpha=0.07, linewidth=0, zorder=0)
    for i, arm in enumerate(shown):
        of_arm = [e for e in entries if e["arm"] == arm.name]
        shift = 0.8 * ((i + 0.5) / len(shown) - 0.5)
        with drawn_for(axes, arm):
            (dots,) = axes.plot(
                [100 * e["excess_test"] for e in of_arm],
                [names.index(layer_name(e)) + shift for e in of_arm],
                linestyle="none",
                marker=arm.marker,
                markersize=3.8,
                color=arm.color,
                alpha=0.75,
                markeredgewidth=0,
                label=arm.entry,
            )
        say(dots, [f"{arm.label}, {layer_name(e)}, seed {e['seed']}: {fixed(e['excess_test'], 2, 100)}" for e in of_arm])
