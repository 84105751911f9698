"""Losses and errors by the kind of the labels, against sums by hand."""

from __future__ import annotations

import math

import pytest
import torch

from distill_prune.objective import error, is_regression, loss, pearson

OUT = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.5, 0.5], [-1.0, 3.0, 0.0], [0.0, 0.1, 0.2]], dtype=torch.float64)
Y = torch.tensor([0, 2, 0, 2])


def nll(row, target):
    """Cross-entropy of one row for probabilities `target`."""
    total = math.log(sum(math.exp(v) for v in row))
    return sum(t * (total - v) for t, v in zip(target, row, strict=True))


def one_hot(c):
    return [float(i == c) for i in range(3)]


def test_classes():
    by_hand = [nll(r, one_hot(c)) for r, c in zip(OUT.tolist(), Y.tolist(), strict=True)]
    assert float(loss(OUT, Y)) == pytest.approx(sum(by_hand) / 4, rel=1e-12)
    assert float(loss(OUT, Y, reduction="sum")) == pytest.approx(sum(by_hand), rel=1e-12)
    assert error(OUT, Y) == 0.5  # the tie goes to the first class, the third row is wrong


def test_smoothing():
    smooth = [[0.9 * h + 0.1 / 3 for h in one_hot(c)] for c in Y.tolist()]
    by_hand = sum(nll(r, s) for r, s in zip(OUT.tolist(), smooth, strict=True)) / 4
    assert float(loss(OUT, Y, smoothing=0.1)) == pytest.approx(by_hand, rel=1e-12)


def test_probabilities():
    soft = torch.tensor([[0.2, 0.5, 0.3]] * 4, dtype=torch.float32)
    by_hand = sum(nll(r, [0.2, 0.5, 0.3]) for r in OUT.tolist()) / 4
    assert float(loss(OUT, soft)) == pytest.approx(by_hand, rel=1e-6)
    assert error(OUT, soft) == 0.75


def test_numbers():
    outputs, y = torch.tensor([[1.0], [2.0], [4.0]], dtype=torch.float64), torch.tensor([1.5, 2.0, 3.0], dtype=torch.float64)
    assert is_regression(y) and not is_regression(Y)
    assert float(loss(outputs, y)) == pytest.approx((0.25 + 0 + 1) / 3)
    a, b = [1.0, 2.0, 4.0], [1.5, 2.0, 3.0]
    ma, mb = sum(a) / 3, sum(b) / 3
    cov = sum((p - ma) * (q - mb) for p, q in zip(a, b, strict=True))
    r = cov / math.sqrt(sum((p - ma) ** 2 for p in a) * sum((q - mb) ** 2 for q in b))
    assert pearson(outputs.squeeze(1), y) == pytest.approx(r, rel=1e-12)
    assert error(outputs, y) == pytest.approx(1 - r)


def test_a_constant_output_correlates_with_nothing():
    assert pearson(torch.full((5,), 0.3), torch.arange(5.0)) == 0.0
    assert error(torch.full((5, 1), 0.3), torch.arange(5.0)) == 1.0
