"""The smallest difference that a study of n initialisations could have shown.

A claim (paired.py) needs an interval without zero and an exact p of at most `claim_p`. For differences d_i ~ N(delta, sigma^2),

    detectable(n) = the smallest delta / sigma with   P(claim | delta) >= 0.8

It is found by bisection over common random draws of d_i for up to 10 units, where the coarse exact test decides; from 11 on the
t-test alone does, whose power at the noncentrality delta sqrt(n) / sigma is exact.

References:
    | Statistical Power Analysis for the Behavioral Sciences, chapter 2 (Cohen, 1988): 80 % as the usual power
"""

from __future__ import annotations

import math
from functools import cache, partial
from itertools import product

import numpy as np

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.paired import CLAIMS_FROM

POWER = 0.8
DRAWS = 4000
EXACT_UP_TO = 10
"""Units up to which all signs are tried; the two ways differ by 2 % there."""
USUAL = {6: 1.79, 7: 1.35, 8: 1.2, 9: 1.09, 10: 1.02}
"""What bisection gives at a `claim_p` of 5 %, so that a command need not wait for it."""


def could_show(difference: Estimate, claim_p: float) -> float | None:
    """The smallest true difference, in the units of `difference`, that a claim would have been made of with a probability of
    80 %, were the spread the one that was seen. None below 6 units, and where there is no spread."""
    if difference["n"] < CLAIMS_FROM or not difference["se"]:
        return None
    return detectable(difference["n"], claim_p) * difference["se"] * math.sqrt(difference["n"])


def detectable(n: int, claim_p: float = 0.05) -> float:
    """The smallest difference in standard deviations of the differences between n units (6 at least); infinite where the exact
    test can never give a p of `claim_p`."""
    if claim_p == 0.05 and n in USUAL:
        return USUAL[n]
    return math.inf if 2.0 / 2.0**n > claim_p else _bisected(n, claim_p)


@cache
def _bisected(n: int, claim_p: float) -> float:
    low, high = 0.0, 16.0
    power = _BySigns(n, claim_p) if n <= EXACT_UP_TO else partial(_by_t, n, claim_p)
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if power(middle) < POWER else (low, middle)
    return high


class _BySigns:
    """The share of draws of n differences with mean `delta` and deviation 1 of which a claim is made."""

    def __init__(self, n: int, claim_p: float) -> None:
        from scipy.special import stdtrit

        self._z = np.random.default_rng(0).standard_normal((DRAWS, n))
        signs = np.array(list(product((1.0, -1.0), repeat=n - 1)))  # the first is 1: signs and their opposites are equal
        signs = np.concatenate([np.ones((len(signs), 1)), signs], axis=1)
        self._sums, self._of_ones = self._z @ signs.T, signs.sum(1)
        self._most = claim_p * len(signs)
        self._half = float(stdtrit(n - 1, 0.975)) / math.sqrt(n)

    def __call__(self, delta: float) -> float:
        sums = np.abs(self._sums + delta * self._of_ones)
        reaching = (sums >= sums[:, :1] * (1 - 1e-12)).sum(1)
        means, deviations = self._z.mean(1) + delta, self._z.std(1, ddof=1)
        return float(((reaching <= self._most) & (np.abs(means) > self._half * deviations)).mean())


def _by_t(n: int, claim_p: float, delta: float) -> float:
    """The power of the t-test at the smaller of 5 % and `claim_p`."""
    from scipy.special import nctdtr, stdtrit

    edge = float(stdtrit(n - 1, 1 - min(0.05, claim_p) / 2))
    return float(1 - nctdtr(n - 1, delta * math.sqrt(n), edge))
