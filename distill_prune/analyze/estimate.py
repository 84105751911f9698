"""Estimates with their uncertainty and count, and the exact paired test.

Mean and 95 % interval of n values (Student): mean +- t_{0.975, n-1} s / sqrt(n), s the sample standard deviation.
Paired test (Fisher's randomisation): under the null hypothesis each difference d_i is as likely as -d_i, so
p = share of the 2^n signs s with |sum s_i d_i| >= |sum d_i|. It is never below 2 / 2^n.

References:
    | The Design of Experiments, section 21 (Fisher, 1935)
    | A simple sequentially rejective multiple test procedure (Holm, 1979)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NotRequired

import numpy as np
import numpy.typing as npt
from typing_extensions import TypedDict


class Interval(TypedDict):
    """A mean with its standard error and 95 % interval."""

    mean: float
    se: float | None
    low: float | None
    high: float | None


class Estimate(Interval):
    """An interval of `n` values with their standard deviation; what one value cannot tell is None.

    `skewness` is that of the mean, where the interval is corrected for it. Over several draws of the sets there are their
    number `sets`, and the deviations between sets and between initialisations, where these can be told apart.
    """

    sd: float | None
    n: int
    skewness: NotRequired[float]
    sets: NotRequired[int]
    sd_sets: NotRequired[float]
    sd_seeds: NotRequired[float]


def estimate(values: Sequence[float]) -> Estimate:
    """Mean, sample standard deviation, standard error and 95 % t-interval of independent values (at least one)."""
    n, mean = len(values), math.fsum(values) / len(values)
    if n < 2:
        return {"mean": mean, "sd": None, "se": None, "low": None, "high": None, "n": n}
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    return _with_spread(interval(mean, sd / math.sqrt(n), n - 1), sd, n)


def interval(mean: float, se: float, freedom: float) -> Interval:
    """`mean`, `se` and the 95 % t-interval at so many degrees of freedom."""
    from scipy.special import stdtrit

    half = float(stdtrit(freedom, 0.975)) * se
    return {"mean": mean, "se": se, "low": mean - half, "high": mean + half}


def _with_spread(i: Interval, sd: float | None, n: int) -> Estimate:
    return {"mean": i["mean"], "se": i["se"], "low": i["low"], "high": i["high"], "sd": sd, "n": n}


def dependent(values: Sequence[float]) -> Estimate:
    """Mean and spread of values that are not independent: no standard error and no interval can be given."""
    return {**estimate(values), "se": None, "low": None, "high": None}


def combined(parts: Sequence[Estimate]) -> Estimate:
    """The mean of independent estimates, each with its own error.

    `se` is sqrt(sum se_i^2) / m, the error of measuring; `sd` is the spread between the m means; the interval has the
    degrees of freedom of Welch and Satterthwaite, (sum se_i^2)^2 / sum (se_i^4 / (n_i - 1)). `n` is m.
    """
    means = [p["mean"] for p in parts]
    squares = [(p["se"] or 0.0) ** 2 for p in parts]
    spread = estimate(means)
    weighted = sum(s * s / (p["n"] - 1) for s, p in zip(squares, parts, strict=True))
    freedom = sum(squares) ** 2 / weighted if weighted > 0 else math.inf
    se = math.sqrt(sum(squares)) / len(parts)
    return _with_spread(interval(math.fsum(means) / len(means), se, freedom), spread["sd"], len(parts))


def smallest_p(n: int) -> float:
    """The smallest p-value that the paired test can give at n differences: 2 / 2^n, at most 1."""
    return min(1.0, 2.0 / 2.0**n)


def sign_flip_p(differences: Sequence[float], rounding: float = 0.0) -> float:
    """The exact two-sided p-value of the paired test, by counting over two halves: time and memory O(2^(n/2) n).

    `rounding` is how far off a sum of the differences may be where they were left over from subtracting larger values.
    """
    target = abs(math.fsum(differences))
    # Sums that are equal on paper differ by rounding; they must count as equal.
    slack = 1e-12 * math.fsum(abs(d) for d in differences) + rounding
    if target <= slack:
        return 1.0
    middle = len(differences) // 2
    left, right = _signed_sums(differences[:middle]), np.sort(_signed_sums(differences[middle:]))
    reaching = len(right) - np.searchsorted(right, target - slack - left, side="left")
    return min(1.0, 2.0 * int(reaching.sum()) / 2.0 ** len(differences))


def holm(ps: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given: of p_(1) <= ... <= p_(m), max over j <= i of min(1, (m - j + 1) p_(j))."""
    adjusted, highest = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        highest = max(highest, min(1.0, (len(ps) - rank) * ps[i]))
        adjusted[i] = highest
    return adjusted


def _signed_sums(values: Sequence[float]) -> npt.NDArray[np.float64]:
    """All 2^n sums of +-values."""
    sums = np.zeros(1)
    for v in values:
        sums = np.concatenate([sums + v, sums - v])
    return sums
