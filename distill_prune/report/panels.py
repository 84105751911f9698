"""Figures of several panels: lines between copies, sparsity by layer, costs, and the course of distillation."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill_prune.report.formats import count, finite, number, sparsity
from distill_prune.report.style import GREY, arms, chosen_levels, sparsities

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.pipeline.study import Study

_WIDTH = 7.6
TOTALS = (
    ("search", "mask search", "o"),
    ("with_distillation", "+ distillation", "s"),
    ("with_experts", "+ experts", "^"),
)


def _grid(
    rows: int,
    columns: int,
    height: float,
    *,
    top: float,
    bottom: float,
    left: float,
    wspace: float = 0.08,
    **share: Any,
) -> tuple[Figure, Any]:
    """A grid of panels; `height`, `top`, `bottom`, `left` in inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height))
    figure.subplots_adjust(
        left=left / _WIDTH, right=0.99, top=1 - top / height, bottom=bottom / height, wspace=wspace, hspace=0.22
    )
    return figure, figure.subplots(rows, columns, squeeze=False, **share)


def interpolation(study: Study) -> tuple[Figure, str] | None:
    """Error on the line between two copies: a row an arm, a column a level, a line an initialisation."""
    if not study.curves:
        return None
    from matplotlib.lines import Line2D

    at = sparsities(study)
    levels = chosen_levels({c["level"] for c in study.curves})
    # The dense ticket is shared: an arm without its own curves at level 0 shows the one that there is.
    shared = [c for c in study.curves if c["level"] == 0]
    shown = [a for a in arms(study) if any(c["arm"] == a.name for c in study.curves if c["level"] > 0 or len(levels) == 1)]
    if not shown:
        shown = [a for a in arms(study) if any(c["arm"] == a.name for c in study.curves)]
    figure, grid = _grid(
        len(shown), len(levels), 1.18 * len(shown) + 1.0, top=0.42, bottom=0.58, left=0.55, sharex=True, sharey=True
    )
    for panels, arm in zip(grid, shown, strict=True):
        for axes, level in zip(panels, levels, strict=True):
            own = [c for c in study.curves if c["arm"] == arm.name and c["level"] == level] or (shared if level == 0 else [])
            _curves(axes, own, arm.color)
        panels[0].set_title(arm.label, loc="left", fontsize=8.5, fontweight="bold", color=arm.color, pad=3)
    for column, level in enumerate(levels):
        s = next(s for (_, n), s in at.items() if n == level)
        head = grid[0][column].get_position()
        figure.text(
            (head.x0 + head.x1) / 2,
            1 - 0.14 / figure.get_figheight(),
            f"{'dense' if level == 0 else f'{sparsity(s)} % sparse'}",
            ha="center",
            va="center",
            fontsize=9,
            color=GREY,
        )
        ticks = grid[-1][column].set_xticks([0, 0.5, 1], ["copy 1", "halfway", "copy 2"])
        ticks[0].label1.set_ha("left")
        ticks[-1].label1.set_ha("right")
    grid[0][0].set_xlim(-0.06, 1.06)
    grid[0][0].set_ylim(bottom=0)
    figure.text(0.02, 0.5, "error (%)", rotation=90, va="center", ha="center", fontsize=8.5)
    handles = [
        Line2D([], [], color=GREY, linewidth=1.1),
        Line2D([], [], color=GREY, linewidth=0.9, linestyle=(0, (2, 1.5))),
    ]
    figure.legend(handles, ["test error", "train error"], loc="lower left", bbox_to_anchor=(0, 0), ncols=2)
    return figure, (
        f"Error along the line between two trained copies, for {len(shown)} arms and {len(levels)} levels. "
        + _rises(study, shown, levels[-1])
    )


def _curves(axes: Axes, curves: list[dict[str, Any]], color: str) -> None:
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
        axes.text(0.5, 0.5, "not measured", transform=axes.transAxes, ha="center", va="center", color=GREY, fontsize=8)


def _rises(study: Study, shown: list[Any], level: int) -> str:
    parts = []
    for arm in shown:
        own = [c for c in study.curves if c["arm"] == arm.name and c["level"] == level]
        if own:
            peak, ends = (
                max(max(c["test_error"]) for c in own),
                max(max(c["test_error"][0], c["test_error"][-1]) for c in own),
            )
            parts.append(f"{arm.label}: highest test error on the line {100 * peak:.1f} %, at an end {100 * ends:.1f} %.")
    return "At the sparsest level, " + " ".join(parts) if parts else ""


def layers(study: Study) -> tuple[Figure, str] | None:
    """Weights that remain in each layer, at the middle and the last level; None where masks are not at hand."""
    sparse = [e for e in study.layers if e["level"] > 0]
    if not sparse:
        return None
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    at = sparsities(study)
    levels = chosen_levels({e["level"] for e in sparse})[-2:]
    names = list(dict.fromkeys(e["layer"] for e in sparse))
    shares = [max(100 * e["remaining"] / e["total"], 1e-3) for e in sparse if e["level"] in levels]
    figure, grid = _grid(1, len(levels), 3.4, top=0.36, bottom=0.98, left=0.62, wspace=0.06, sharey=True)
    for axes, level in zip(grid[0], levels, strict=True):
        for arm in arms(study):
            own = [e for e in sparse if e["arm"] == arm.name and e["level"] == level]
            if own:
                axes.plot(
                    [names.index(e["layer"]) for e in own],
                    [max(100 * e["remaining"] / e["total"], 1e-3) for e in own],
                    color=arm.color,
                    linestyle=arm.dash,
                    marker=arm.marker,
                    markeredgecolor="white",
                    markeredgewidth=0.5,
                    label=arm.label,
                )
        s = next((s for (_, n), s in at.items() if n == level), None)
        axes.set_title(f"{sparsity(s)} % sparse" if s is not None else f"level {level}", loc="left", fontsize=9, color=GREY)
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if max(shares) / min(shares) < 100 else (1.0,)))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
        every = -(-len(names) // 8)
        axes.set_xticks(
            range(0, len(names), every),
            [n.removesuffix(".weight") for n in names[::every]],
            rotation=20,
            ha="right",
            fontsize=7.5,
        )
        axes.set_xlim(-0.3, len(names) - 0.7)
    figure.text(0.018, 0.6, "weights that remain (%)", rotation=90, va="center", ha="center", fontsize=8.5)
    handles, labels = grid[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower left", ncols=4, bbox_to_anchor=(0, -0.01))
    return figure, f"Share of weights that remain in each of {len(names)} layers, by arm, at {len(levels)} levels."


def costs(study: Study) -> tuple[Figure, str] | None:
    """The three totals of every arm, as positions on a log scale: such an axis has no zero to start a bar from."""
    listed = {c["arm"]: c for c in (study.summary or {}).get("costs") or []}
    shown = [a for a in arms(study) if a.name in listed]
    if not shown:
        return None
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    figure, grid = _grid(1, 3, 0.36 * len(shown) + 1.05, top=0.4, bottom=0.6, left=0.12, wspace=0.07, sharey=True)
    # Labels of arms are long: they get their own room at the left.
    room = min(0.075 * max(len(a.label) for a in shown) + 0.15, 2.6)
    figure.subplots_adjust(left=room / _WIDTH)
    for axes, (what, title) in zip(grid[0], (("images", "images seen"), ("steps", "steps"), ("flops", "FLOPs")), strict=True):
        values = [
            (y, total, (listed[a.name].get(total) or {}).get(what)) for y, a in enumerate(shown) for total, _, _ in TOTALS
        ]
        real = [v for _, _, v in values if v]
        axes.set_title(title, loc="left", fontsize=9, color=GREY)
        if not real:
            axes.text(
                0.5,
                0.5,
                "not counted" if all(v is None for _, _, v in values) else "0",
                transform=axes.transAxes,
                ha="center",
                color=GREY,
            )
            axes.set_xticks([])
            continue
        axes.set_xscale("log")
        low, high = min(real) / 2.5, max(real) * 2.5
        axes.set_xlim(low, high)
        for y, arm in enumerate(shown):
            row = [(m, v) for (t, _, m) in TOTALS for (yy, tt, v) in values if yy == y and tt == t and v is not None]
            xs = [max(v, low * 1.25) for _, v in row]
            axes.plot(xs, [y] * len(xs), color=arm.color, linewidth=1.2, alpha=0.55, zorder=2)
            for (marker, v), x in reversed(list(zip(row, xs, strict=True))):
                axes.plot(
                    [x],
                    [y],
                    marker=marker,
                    color=arm.color,
                    markersize=5.5,
                    markeredgecolor="white",
                    markeredgewidth=0.6,
                    zorder=3,
                )
                if v == 0:
                    axes.annotate("0", (x, y), xytext=(5, 3), textcoords="offset points", fontsize=7.5, color=arm.color)
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
        axes.xaxis.set_major_locator(LogLocator(numticks=4))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(_power))
    grid[0][0].set_yticks(range(len(shown)), [a.label for a in shown])
    grid[0][0].set_ylim(len(shown) - 0.5, -0.5)
    from matplotlib.lines import Line2D

    figure.legend(
        [Line2D([], [], color=GREY, marker=m, linestyle="none", markersize=5.5) for _, _, m in TOTALS],
        [t for _, t, _ in TOTALS],
        loc="lower left",
        ncols=3,
        bbox_to_anchor=(0, -0.01),
    )
    return figure, "Costs by arm on a log scale. " + " ".join(
        f"{a.label}: {count((listed[a.name].get('search') or {}).get('images'))} images seen in mask search." for a in shown
    )


def _power(x: float, _: int) -> str:
    """A power of ten in little room: 10k, 1M, 10¹²."""
    return count(x).replace(" ", "") if x < 1e9 else number(x).split(" × ")[-1]


def distillation(study: Study) -> tuple[Figure, str] | None:
    """Matching loss and (where it is learned) inner learning rate by iteration; None where nothing was distilled."""
    record = study.distillation
    if not record or not any(finite(x) for x in record["loss"]):
        return None
    drawn = [
        (key, title)
        for key, title in (("loss", "matching loss"), ("lr", "learned inner learning rate"))
        if any(finite(x) for x in record.get(key) or [])
    ]
    figure, grid = _grid(1, len(drawn), 2.5, top=0.4, bottom=0.5, left=0.5, wspace=0.16)
    for axes, (key, title) in zip(grid[0], drawn, strict=True):
        pairs = [(i, v) for i, v in zip(record["iterations"], record[key], strict=False) if finite(v)]
        axes.plot([i for i, _ in pairs], [v for _, v in pairs], color="#0b62a8", linewidth=0.9)
        axes.set_title(title, loc="left", fontsize=9.5, fontweight="bold")
        axes.set_xlabel("distillation iteration", fontsize=8, color=GREY)
    first, last = (next(x for x in xs if finite(x)) for xs in (record["loss"], record["loss"][::-1]))
    return figure, f"Matching loss from {first:.3g} at the first recorded iteration to {last:.3g} at the last."
