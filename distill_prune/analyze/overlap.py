"""Overlap of two masks against chance.

With |A|, |B| survivors of N weights in a layer, two independent random masks of these sizes share a hypergeometric
number of weights: mean |A||B| / N, variance (|A||B| / N) (N - |A|) (N - |B|) / (N (N - 1)). Layers are independent:
means and variances add. z = (shared - mean) / sd.
"""

from __future__ import annotations

import math
from typing import Literal

from torch import Tensor

from distill_prune.analyze.inputs import Pair
from distill_prune.artifacts import Measurements
from distill_prune.errors import UserError
from distill_prune.settings import Entry as Base

TAKES: Literal["pair"] = "pair"


class Settings(Base):
    name: Literal["overlap"] = "overlap"


def measure(settings: Settings, pair: Pair) -> Measurements:
    """Overlap of the masks `a` and `b`, whole and by layer, beside what random masks with the same counts by layer would share.

    Each record: `total`, `a`, `b`, `shared`, `iou` (intersection over union), `a_in_b` (share of a's weights kept in
    b), `chance` {`shared`, `sd`, `iou`, `a_in_b`} at the expected intersection, and `z`.
    Ratios without a divisor are None.

    Raises:
        UserError: the masks are of different architectures.
    """
    a, b = pair.a, pair.b
    shape_a, shape_b = ({n: tuple(t.shape) for n, t in m.kept.items()} for m in (a, b))
    if shape_a != shape_b:
        differing = sorted(n for n in shape_a.keys() | shape_b.keys() if shape_a.get(n) != shape_b.get(n))
        raise UserError(
            "masks of different architectures cannot be compared",
            got=f"they differ in {', '.join(differing)}",
            expected="the same prunable weights with the same shapes",
        )
    counts = {n: _counts(kept, b.kept[n]) for n, kept in a.kept.items()}
    chances = {n: _chance(*c[:3]) for n, c in counts.items()}
    total, left, right, shared = (sum(column) for column in zip(*counts.values(), strict=True))
    mean, variance = (sum(column) for column in zip(*chances.values(), strict=True))
    layers = {n: _record(*counts[n], *chances[n]) for n in counts}
    return Measurements("overlap", {**_record(total, left, right, shared, mean, variance), "layers": layers})


def _counts(a: Tensor, b: Tensor) -> tuple[int, int, int, int]:
    """Weights, survivors of each, and survivors of both."""
    return a.numel(), int(a.sum()), int(b.sum()), int((a & b).sum())


def _chance(total: int, a: int, b: int) -> tuple[float, float]:
    """Mean and variance of the number that two random masks share."""
    mean = a * b / total
    return mean, mean * (total - a) * (total - b) / (total * (total - 1)) if total > 1 else 0.0


def _record(total: int, a: int, b: int, shared: int, mean: float, variance: float) -> dict[str, object]:
    def ratios(both: float) -> dict[str, float | None]:
        return {"iou": both / (a + b - both) if a + b else None, "a_in_b": both / a if a else None}

    sd = math.sqrt(variance)
    return {
        "total": total,
        "a": a,
        "b": b,
        "shared": shared,
        **ratios(shared),
        "chance": {"shared": mean, "sd": sd, **ratios(mean)},
        "z": (shared - mean) / sd if sd > 0 else None,
    }
