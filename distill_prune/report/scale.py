"""A vertical axis on which most values are readable although a few lie far away: beyond a marked line it is compressed.

Most values are those within Tukey's fences, 1.5 interquartile ranges beyond the quartiles.

References:
    | Exploratory Data Analysis (Tukey, 1977)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distill_prune.report.style import GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Heights = NDArray[np.float64]
FEW = 3.0
"""How many times as far as most values all of them must reach before the axis is compressed."""
_SHARE = 0.24
"""Of the height, for what is compressed."""
_FENCE = 1.5
_APART = 0.1
"""Of the height, between two numbers."""


@dataclass(frozen=True)
class Knees:
    """The range that is drawn to scale, and how much of their height distances below and above it keep."""

    low: float
    high: float
    below: float
    above: float

    def forward(self, y: Heights) -> Heights:
        return np.where(
            y > self.high,
            self.high + (y - self.high) * self.above,
            np.where(y < self.low, self.low - (self.low - y) * self.below, y),
        )

    def height(self, y: float) -> float:
        """Where one value is drawn."""
        return float(self.forward(np.array([y]))[0])

    def inverse(self, y: Heights) -> Heights:
        return np.where(
            y > self.high,
            self.high + (y - self.high) / self.above,
            np.where(y < self.low, self.low - (self.low - y) / self.below, y),
        )


def most(values: Sequence[float]) -> tuple[float, float]:
    """The lowest and the highest value within the fences."""
    lower, upper = np.quantile(values, [0.25, 0.75])
    reach = _FENCE * (upper - lower)
    within = [v for v in values if lower - reach <= v <= upper + reach]
    return min(within), max(within)


def knees(values: Sequence[float], low: float, high: float) -> Knees | None:
    """Where an axis from `low` to `high` bends: beyond most values, on sides where others lie; None where all of it can be
    drawn to scale.
    """
    first, last = most(values)
    room = 0.15 * (last - first)
    start = first - room if min(values) < first else low
    end = last + room if max(values) > last else high
    span = end - start
    if span <= 0 or high - low < FEW * span:
        return None
    beyond = [max(0.0, start - low), max(0.0, high - end)]
    part = span * _SHARE / (1 - _SHARE) / sum(distance > 0 for distance in beyond)
    below, above = (min(1.0, part / distance) if distance > 0 else 1.0 for distance in beyond)
    return Knees(start, end, below, above)


def _with_room(ticks: Sequence[float], more: Sequence[float], bent: Knees, low: float, high: float) -> list[float]:
    """The ticks, and of `more` those that have room beside the others, in the order in which they are wanted."""
    kept, height = list(ticks), bent.height(high) - bent.height(low)
    for tick in more:
        if all(abs(bent.height(tick) - bent.height(other)) >= _APART * height for other in kept):
            kept.append(tick)
    return kept


def bend(axes: Axes, bent: Knees, low: float, high: float) -> None:
    """Compress the axes, and those that share their vertical axis, beyond the knees, which a dotted line marks."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator

    functions: tuple[Callable[[Heights], Heights], Callable[[Heights], Heights]] = (bent.forward, bent.inverse)
    ticks = [t for t in MaxNLocator(4).tick_values(bent.low, bent.high) if bent.low <= t <= bent.high]
    for start, end, part in ((low, bent.low, bent.below), (bent.high, high, bent.above)):
        if part < 1:
            beyond = [t for t in MaxNLocator(2).tick_values(start, end) if start < t < end and not bent.low <= t <= bent.high]
            ticks = _with_room(ticks, sorted(beyond, key=lambda t: -abs(t)), bent, low, high)
    for sibling in axes.get_shared_y_axes().get_siblings(axes):
        sibling.set_yscale("function", functions=functions)
        for knee, part, end in ((bent.low, bent.below, low), (bent.high, bent.above, high)):
            if part < 1:
                sibling.axhline(knee, color=GREY, linewidth=0.8, linestyle=(0, (1, 1.5)), zorder=1.5)
                sibling.axhspan(*sorted((knee, end)), color=GREY, alpha=0.07, linewidth=0, zorder=0)
                sibling.annotate(
                    "compressed",
                    (0.01, end),
                    xycoords=("axes fraction", "data"),
                    xytext=(0, -3 if end == high else 3),
                    textcoords="offset points",
                    ha="left",
                    va="top" if end == high else "bottom",
                    color=GREY,
                )
    axes.set_ylim(low, high)
    axes.yaxis.set_major_locator(FixedLocator(sorted(ticks)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}".replace("-", "−")))
