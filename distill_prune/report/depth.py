"""The figure of barriers with one layer interpolated at a time, and what layers are called."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_prune.report.axes import WIDE, explained, legend_layout, write_legend
from distill_prune.report.formats import finite, fixed, sparsity
from distill_prune.report.marks import drawn_for, say
from distill_prune.report.multiples import grid
from distill_prune.report.style import GREY, Arm, arms, chosen_levels

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.records import LayerCount, LayerTrace, Layerwise
    from distill_prune.study.study import Study

_LONG = 24


def layer_name(study: Study, e: LayerCount | LayerTrace | Layerwise) -> str:
    """A layer as figures name it: what it is where its own name is a number."""
    return study.layer_titles.get(e["layer"]) or e["layer"].removesuffix(".weight")


def shortened(names: Sequence[str]) -> list[str]:
    """Names of layers as an axis shows them: without the dotted part that most begin with, where there is room for no more."""
    parts = [n.split(".") for n in names]
    begun = Counter(tuple(p[:i]) for p in parts for i in range(1, len(p)))
    common = max((b for b, n in begun.items() if 2 * n > len(names)), key=len, default=())
    if max(map(len, names)) <= _LONG:
        return list(names)
    return [".".join(p[len(common) :]) if tuple(p[: len(common)]) == common else n for p, n in zip(parts, names, strict=True)]


def layerwise(study: Study) -> tuple[Figure, str] | None:
    """Excess of test error with one layer interpolated at a time: a dot an initialisation, a row of dots an arm."""
    listed = arms(study)
    entries = [e for e in study.layerwise if finite(e.get("excess_test")) and e["arm"] in {a.name for a in listed}]
    if not entries:
        return None
    levels = chosen_levels({e["level"] for e in entries})
    shown = [a for a in listed if any(e["arm"] == a.name for e in entries)]
    names = list(dict.fromkeys(layer_name(study, e) for e in entries))
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
        _strip(study, axes, shown, [e for e in entries if e["level"] == level], names)
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
        f"{a.label}: highest in {layer_name(study, e)}, {fixed(e['excess_test'], 2, 100)} points."
        for a in shown
        if (e := top.get(a.name))
    ]
    return figure, "Excess of test error over the chord with one layer interpolated at a time. At the last level, " + " ".join(
        remarks
    )


def _strip(study: Study, axes: Axes, shown: Sequence[Arm], entries: Sequence[Layerwise], names: Sequence[str]) -> None:
    """Dots by layer, arms a little apart, with light bands that lead the eye from layer to layer."""
    for i in range(0, len(names), 2):
        axes.axhspan(i - 0.5, i + 0.5, color=GREY, alpha=0.07, linewidth=0, zorder=0)
    for i, arm in enumerate(shown):
        of_arm = [e for e in entries if e["arm"] == arm.name]
        shift = 0.8 * ((i + 0.5) / len(shown) - 0.5)
        with drawn_for(axes, arm):
            (dots,) = axes.plot(
                [100 * e["excess_test"] for e in of_arm],
                [names.index(layer_name(study, e)) + shift for e in of_arm],
                linestyle="none",
                marker=arm.marker,
                markersize=3.8,
                color=arm.color,
                alpha=0.75,
                markeredgewidth=0,
                label=arm.entry,
            )
        say(
            axes,
            dots,
            [f"{arm.label}, {layer_name(study, e)}, seed {e['seed']}: {fixed(e['excess_test'], 2, 100)}" for e in of_arm],
        )
