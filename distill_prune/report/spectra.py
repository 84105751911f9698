"""Figures of the Hessian's spectrum: density with its leading eigenvalues, and the distribution of its diagonal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

from distill_prune.report.formats import finite, number, power, sparsity
from distill_prune.report.multiples import absent, below, grid, multiples, side
from distill_prune.report.style import GREY, INK, Arm, chosen_levels, shown_arms

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from distill_prune.study.records import Density, Diagonal
    from distill_prune.study.records import Place as CopyOf
    from distill_prune.study.study import Study

Copy = TypeVar("Copy", bound="CopyOf")
# A density reaches from its peak down to this share of it; below lies the tail of the smoothing kernel.
_DEEP = 1e-7


def first_copies(records: Sequence[Copy]) -> list[Copy]:
    """The first copy that was measured of every ticket: one for each initialisation."""
    first: dict[tuple[str, int, int], Copy] = {}
    for r in records:
        first.setdefault((r["arm"], r["seed"], r["level"]), r)
    return list(first.values())


def density(study: Study) -> tuple[Figure, str] | None:
    """Spectral density on a log scale: a block an arm, a column a level, a line an initialisation; eigenvalues as ticks."""
    shown = shown_arms(study, {d["arm"] for d in study.densities})
    densities = [d for d in first_copies(study.densities) if d["arm"] in {a.name for a in shown} and _peak(d)]
    if not densities:
        return None
    levels = chosen_levels({d["level"] for d in densities})
    at = {d["level"]: d["sparsity"] for d in densities}
    figure, cells = multiples(shown, [(n, at[n]) for n in levels], 1, 1.25, sharex=True, sharey=True)
    for arm in shown:
        for level in levels:
            axes = cells[arm.name, level]
            of_arm = [d for d in densities if d["arm"] == arm.name and d["level"] == level]
            for d in of_arm:
                axes.plot(d["grid"], [max(v, 1e-30) for v in d["values"]], color=arm.color, linewidth=0.8, alpha=0.8)
                tops = [e["value"] for e in d["eigenvalues"] if finite(e["value"])]
                axes.plot(
                    tops, [0.045] * len(tops), "|", transform=axes.get_xaxis_transform(), color=INK, ms=7, mew=0.9, alpha=0.7
                )
            if not of_arm:
                absent(axes)
    first = next(iter(cells.values()))
    peak = max(_peak(d) for d in densities)
    _decades(first, peak * _DEEP, peak * 3)
    _value_axis(first, [x for d in densities for x in (d["grid"][0], d["grid"][-1], *(e["value"] for e in d["eigenvalues"]))])
    side(figure, "density (per nat, log scale)")
    below(figure, "eigenvalue of the Hessian (nats); ticks at the foot: leading eigenvalues")
    ranges = []
    for arm in shown:
        tops = sorted(_top(d) for d in densities if d["arm"] == arm.name and d["level"] == levels[-1] and d["eigenvalues"])
        if tops:
            ranges.append(f"{arm.label}: {number(tops[0])}" + (f" to {number(tops[-1])}." if len(tops) > 1 else "."))
    return figure, (
        f"Spectral density of the Hessian for {len(shown)} arms and {len(levels)} levels. Largest eigenvalue at "
        f"{sparsity(at[levels[-1]])}% sparsity, over initialisations: " + " ".join(ranges)
    )


def _peak(d: Density) -> float:
    return max((float(v) for v in d["values"] if finite(v)), default=0.0)


def _top(d: Density) -> float:
    return max(float(e["value"]) for e in d["eigenvalues"])


def _value_axis(axes: Axes, values: Sequence[float]) -> None:
    """Where outliers lie far from the bulk a symmetric log scale, linear around zero."""
    known = [float(v) for v in values if finite(v)]
    largest = max(map(abs, known))
    linear = _decade(largest / 300)
    axes.set_xscale("symlog", linthresh=linear)
    axes.set_xlim(min(known) * 1.3 if min(known) < 0 else -linear / 2, largest * 1.3)
    _signed_decades(axes, linear)


def _decades(axes: Axes, low: float, high: float) -> None:
    """A log scale from `low` to `high`, labelled in powers of ten."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(LogLocator(numticks=5))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: power(y)))


def _decade(x: float) -> float:
    """The power of ten at or below `x`: a scale that turns linear there has a label at the turn."""
    return 10.0 ** math.floor(math.log10(x)) if x > 0 else 1.0


def _signed_decades(axes: Axes, linear: float) -> None:
    """Labels of a symmetric log scale that is linear up to `linear`: zero, and powers of ten with their sign."""
    from matplotlib.ticker import FuncFormatter, NullLocator, SymmetricalLogLocator

    locator = SymmetricalLogLocator(linthresh=linear, base=10)
    locator.set_params(numticks=6)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: ("−" if x < 0 else "") + (power(abs(x)) if x else "0")))


def diagonal(study: Study) -> tuple[Figure, str] | None:
    """Quantiles of the Hessian's diagonal: a row an arm, a bar an initialisation, a column a level."""
    shown = shown_arms(study, {d["arm"] for d in study.diagonals}, most=16)
    diagonals = [d for d in first_copies(study.diagonals) if d["arm"] in {a.name for a in shown}]
    if not diagonals:
        return None
    levels = chosen_levels({d["level"] for d in diagonals})
    at = {d["level"]: d["sparsity"] for d in diagonals}
    most = max(sum(d["arm"] == a.name and d["level"] == n for d in diagonals) for a in shown for n in levels)
    figure, panels = grid(
        1,
        len(levels),
        max(0.36, 0.075 * most + 0.14) * len(shown) + 0.95,
        top=0.36,
        bottom=0.6,
        left=min(0.073 * max(len(a.label) for a in shown) + 0.15, 2.6),
        wspace=0.06,
        sharex=True,
        sharey=True,
    )
    for axes, level in zip(panels[0], levels, strict=True):
        for y, arm in enumerate(shown):
            _bars(axes, arm, y, [d for d in diagonals if d["arm"] == arm.name and d["level"] == level])
        axes.set_title("dense" if level == 0 else f"{sparsity(at[level])}% sparse", loc="left", color=GREY)
        axes.axvline(0, color=GREY, linewidth=0.7, zorder=1)
        axes.grid(True, axis="x")
        axes.grid(False, axis="y")
    first = panels[0][0]
    first.set_yticks(range(len(shown)), [a.label for a in shown])
    first.set_ylim(len(shown) - 0.5, -0.5)
    _quantile_axis(first, diagonals)
    below(figure, "diagonal entry of the Hessian (nats): thin 5 to 95%, thick 25 to 75 %, dot the median")
    last = {
        a.name: [d["quantiles"]["0.5"] for d in diagonals if d["arm"] == a.name and d["level"] == levels[-1]] for a in shown
    }
    ranges = [
        f"{a.label}: {number(min(last[a.name]))}" + (f" to {number(max(last[a.name]))}." if len(last[a.name]) > 1 else ".")
        for a in shown
        if last[a.name]
    ]
    return figure, (
        f"Quantiles of the Hessian's diagonal over surviving weights. Median at {sparsity(at[levels[-1]])}% sparsity, "
        "over initialisations: " + " ".join(ranges)
    )


def _bars(axes: Axes, arm: Arm, y: int, of_arm: Sequence[Diagonal]) -> None:
    for i, d in enumerate(of_arm):
        q, height = d["quantiles"], y + 0.7 * ((i + 0.5) / len(of_arm) - 0.5)
        axes.plot([q["0.05"], q["0.95"]], [height] * 2, color=arm.color, linewidth=0.8, solid_capstyle="butt")
        axes.plot([q["0.25"], q["0.75"]], [height] * 2, color=arm.color, linewidth=2.6, solid_capstyle="butt")
        axes.plot([q["0.5"]], [height], "o", color="white", markeredgecolor=arm.color, markersize=3.2, markeredgewidth=0.9)
    if not of_arm:
        axes.text(0.02, y, "not measured", transform=axes.get_yaxis_transform(), va="center", color=GREY)


def _quantile_axis(axes: Axes, diagonals: Sequence[Diagonal]) -> None:
    """A symmetric log scale, linear below the smallest upper quartile."""
    ends = [float(v) for d in diagonals for v in d["quantiles"].values() if finite(v)]
    scale = [float(d["quantiles"]["0.75"]) for d in diagonals if d["quantiles"]["0.75"] > 0]
    linear = _decade(max(min(scale, default=0.0), max(map(abs, ends)) * 1e-4))
    axes.set_xscale("symlog", linthresh=linear)
    low, high = min(0.0, *ends), max(0.0, *ends)
    axes.set_xlim(low * 1.4 - linear * 0.1, high * 1.4 + linear * 0.1)
    _signed_decades(axes, linear)


def histograms(study: Study) -> tuple[Figure, str] | None:
    """Histograms of the Hessian's diagonal: a block an arm, a column a level, a step line an initialisation."""
    shown = shown_arms(study, {d["arm"] for d in study.diagonals if d.get("histogram")})
    diagonals = [d for d in first_copies(study.diagonals) if d.get("histogram") and d["arm"] in {a.name for a in shown}]
    if not diagonals:
        return None
    levels = chosen_levels({d["level"] for d in diagonals})
    at = {d["level"]: d["sparsity"] for d in diagonals}
    figure, cells = multiples(shown, [(n, at[n]) for n in levels], 1, 1.1, sharey=True, sharex=True)
    for arm in shown:
        for level in levels:
            axes = cells[arm.name, level]
            of_arm = [d["histogram"] for d in diagonals if d["arm"] == arm.name and d["level"] == level]
            for h in of_arm:
                axes.stairs(h["counts"], h["edges"], color=arm.color, linewidth=0.8, alpha=0.85)
            if not of_arm:
                absent(axes)
    first = next(iter(cells.values()))
    _decades(first, 0.7, 2 * max(max(d["histogram"]["counts"]) for d in diagonals))
    _quantile_axis(first, diagonals)
    edges = [e for d in diagonals for e in d["histogram"]["edges"]]
    first.set_xlim(min(edges), max(edges))
    side(figure, "weights (log scale)")
    below(figure, "diagonal entry of the Hessian (nats)")
    return figure, (
        f"Histograms of the Hessian's diagonal for {len(shown)} arms and {len(levels)} levels, from {number(min(edges))} to "
        f"{number(max(edges))}."
    )
