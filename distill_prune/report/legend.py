"""The page's one legend: the line and the marker that an arm has in every figure, as a small picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill_prune.report.paint import variable
from distill_prune.report.style import Arm

_MARKERS = {
    "o": "M10.8 5a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z",
    "s": "M11 2h6v6h-6z",
    "^": "M14 1.5l3.6 6.5h-7.2z",
    "v": "M14 8.5l3.6-6.5h-7.2z",
    "<": "M10.5 5l6.5-3.6v7.2z",
    "D": "M14 1l4 4l-4 4l-4-4z",
    "P": "M12.7 1.5h2.6v2.2h2.2v2.6h-2.2v2.2h-2.6v-2.2h-2.2v-2.6h2.2z",
    "X": "M11.5 1.2l2.5 2.5l2.5-2.5l1.3 1.3l-2.5 2.5l2.5 2.5l-1.3 1.3l-2.5-2.5l-2.5 2.5l-1.3-1.3l2.5-2.5l-2.5-2.5z",
}
"""By matplotlib's name, a path around (14, 5)."""


@dataclass(frozen=True)
class Swatch:
    """An arm in the legend: the class of what is drawn for it, its label, and its look."""

    mark: str
    label: str
    color: str
    dash: str
    width: float
    marker: str


def swatches(arms: Sequence[Arm]) -> list[Swatch]:
    """One an arm, in their order."""
    return [Swatch(a.mark, a.label, variable(a.color), _dash(a), a.width * 1.3, _MARKERS[a.marker]) for a in arms]


def _dash(arm: Arm) -> str:
    """The lengths of dashes and gaps, which matplotlib counts in widths of the line; empty for a solid line."""
    return "" if arm.dash == "-" else " ".join(f"{1.3 * arm.width * length:.1f}" for length in arm.dash[1])
