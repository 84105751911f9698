"""Estimates of skewed values, with Hall's interval in place of Student's; curvature.py has the formula.

References:
    | On the removal of skewness by transformation (Hall, 1992)
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from distill_prune.analyze.estimate import Estimate, combined, estimate


def skewed(values: Sequence[float]) -> Estimate:
    """The estimate of at least 3 independent values with Hall's interval, and the `skewness` of their mean.

    That of the values is G_1 = sqrt(n (n - 1)) / (n - 2) m_3 / m_2^1.5, m_k the central moments; of the mean, G_1 / sqrt(n).
    """
    n, mean = len(values), math.fsum(values) / len(values)
    second, third = (math.fsum((v - mean) ** k for v in values) / n for k in (2, 3))
    return _bent(estimate(values), math.sqrt(n - 1) / (n - 2) * third / second**1.5 if second > 0 else 0.0)


def pooled(parts: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates; of skewed ones, with Hall's interval at the skewness of their mean."""
    whole = combined(parts)
    if any("skewness" not in p for p in parts):
        return whole
    errors = [p["se"] or 0.0 for p in parts]
    cubes = math.fsum(p["skewness"] * se**3 for p, se in zip(parts, errors, strict=True))
    squares = math.fsum(se**2 for se in errors)
    return _bent(whole, cubes / squares**1.5 if squares > 0 else 0.0)


def _bent(symmetric: Estimate, skewness: float) -> Estimate:
    """The estimate with Hall's interval in place of Student's."""
    mean, se, high = symmetric["mean"], symmetric["se"] or 0.0, symmetric["high"] or 0.0

    def inverse(y: float) -> float:
        return 3 / skewness * (math.cbrt(1 + skewness * (y - skewness / 6)) - 1)

    if abs(skewness) < 1e-6 or se <= 0:
        return {**symmetric, "skewness": skewness}
    q = (high - mean) / se
    return {**symmetric, "low": mean - se * inverse(q), "high": mean - se * inverse(-q), "skewness": skewness}
