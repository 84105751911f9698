"""The smallest difference that a study could have shown."""

from __future__ import annotations

import math

import numpy as np
import pytest

from distill_prune.analyze.estimate import estimate, sign_flip_p
from distill_prune.analyze.power import USUAL, _bisected, could_show, detectable


@pytest.mark.parametrize("n", [6, 8])
def test_four_of_five_studies_show_it(n: int) -> None:
    """By the claim itself, on draws of their own."""
    delta, rng = detectable(n), np.random.default_rng(7)
    claims = 0
    for _ in range(1500):
        values = rng.normal(delta, 1.0, n).tolist()
        e = estimate(values)
        claims += not e["low"] <= 0 <= e["high"] and sign_flip_p(values) <= 0.05  # type: ignore[operator]
    assert claims / 1500 == pytest.approx(0.8, abs=4 * math.sqrt(0.8 * 0.2 / 1500))


def test_at_six_it_takes_six_equal_signs() -> None:
    """Phi(x)^6 = 0.8."""
    assert detectable(6) == pytest.approx(1.793, abs=0.02)


def test_the_usual_numbers_are_those_of_the_bisection() -> None:
    assert {n: _bisected(n, 0.05) for n in USUAL} == {n: pytest.approx(d, abs=0.006) for n, d in USUAL.items()}


def test_more_units_show_less() -> None:
    sizes = [detectable(n) for n in (6, 8, 10, 11, 12, 20, 100)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-1] == pytest.approx(2.83 / 10, abs=0.01)  # (1.96 + 0.84 + a little) / sqrt(100)
    assert detectable(7, 0.001) == math.inf


def test_it_is_in_the_units_of_the_difference() -> None:
    values = [0.1, 0.3, -0.2, 0.4, 0.2, 0.5]
    sd = float(np.std(values, ddof=1))
    assert could_show(estimate(values), 0.05) == pytest.approx(detectable(6) * sd)
    assert could_show(estimate(values[:5]), 0.05) is None and could_show(estimate([1.0] * 6), 0.05) is None
