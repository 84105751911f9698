"""The line between two networks, the second aligned to the first by weight matching: what `rebasin` and `between` share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill_prune.analyze.estimate import Estimate, dependent
from distill_prune.analyze.line import Gauge, Line, LineMeans, over_pairs
from distill_prune.models.permutations import Orders, Specification, aligned, fixed
from distill_prune.progress import Progress
from distill_prune.rng import Streams
from distill_prune.tree import State


class AlignedLine(Line):
    """Also the share of the distance that alignment removes, and of units that stay at their places."""

    removed: float
    fixed: float


class AlignedMeans(LineMeans):
    removed: Estimate
    fixed: Estimate


@dataclass(frozen=True)
class Alignment:
    """The orders of the second network's units, and the line to it in these."""

    orders: Orders
    height: AlignedLine


def align(
    gauge: Gauge,
    spec: Specification,
    a: State,
    b: State,
    alphas: Sequence[float],
    apart: float,
    streams: Streams,
    ticks: Progress,
    note: str,
) -> Alignment:
    """Aligns b to a; `apart` is their distance as they are. Raises what `aligned` and `Gauge.height` raise."""
    orders, moved = aligned(gauge.model, spec, a, b, streams)
    height = gauge.height(a, moved, alphas, ticks, f"{note} after alignment")
    removed = 1 - height["distance"] / apart if apart else 0.0
    return Alignment(orders, {"removed": removed, "fixed": fixed(orders), **height})


def over_aligned(lines: Sequence[AlignedLine]) -> AlignedMeans:
    """What `over_pairs` gives, and estimates of `removed` and `fixed`."""
    removed, fixed_ = dependent([line["removed"] for line in lines]), dependent([line["fixed"] for line in lines])
    return {**over_pairs(lines), "removed": removed, "fixed": fixed_}
