"""F1, Matthews, Pearson and Spearman over whole sets, against counts by hand."""

from __future__ import annotations

import math

import pytest
import torch
from reference import convnet, examples_of, uneven
from reference_inputs import copies_of

from distill_prune.analyze.metrics import Settings, measure, scores
from distill_prune.errors import UserError

SAID = [1, 1, 0, 0, 1, 0, 1]
TRUE = [1, 0, 0, 1, 1, 0, 1]


def outputs(said, k=2):
    return torch.nn.functional.one_hot(torch.tensor(said), k).double()


def test_two_classes_by_hand():
    tp, fp, fn, tn = 3, 1, 1, 2
    found = scores(outputs(SAID), torch.tensor(TRUE))
    assert found["accuracy"] == pytest.approx(5 / 7)
    assert found["f1"] == pytest.approx(2 * tp / (2 * tp + fp + fn))
    matthews = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert found["matthews"] == pytest.approx(matthews)
    other = scores(outputs(SAID), torch.tensor(TRUE), positive=0)
    assert other["f1"] == pytest.approx(2 * tn / (2 * tn + fn + fp)) and other["matthews"] == pytest.approx(matthews)


def test_constant_outputs_score_zero_not_nan():
    found = scores(outputs([0] * 7), torch.tensor(TRUE))
    assert found["matthews"] == 0.0 and found["f1"] == 0.0
    numbers = scores(torch.ones(4, 1), torch.arange(4.0))
    assert numbers == {"pearson": 0.0, "spearman": 0.0}


def test_numbers_by_rank():
    value, y = torch.tensor([[0.1], [0.4], [0.4], [9.0]]), torch.tensor([1.0, 3.0, 2.0, 10.0])
    found = scores(value, y)
    ranks, true = [1, 2.5, 2.5, 4], [1, 3, 2, 4]
    ma, mb = sum(ranks) / 4, sum(true) / 4
    cov = sum((a - ma) * (b - mb) for a, b in zip(ranks, true, strict=True))
    rho = cov / math.sqrt(sum((a - ma) ** 2 for a in ranks) * sum((b - mb) ** 2 for b in true))
    assert found["spearman"] == pytest.approx(rho)
    assert set(found) == {"pearson", "spearman"}


def test_estimates_are_over_copies_of_the_whole_set():
    model = convnet()
    copies, test = [uneven(model, seed) for seed in (0, 1)], examples_of(model, 30)
    found = measure(Settings(positive=2), copies_of(model, copies, test=test)).numbers
    singles = [scores(model(c, test.x).detach(), test.y, 2) for c in copies]
    assert found["copies"] == singles
    assert found["f1"]["mean"] == pytest.approx(sum(s["f1"] for s in singles) / 2) and found["f1"]["n"] == 2


def test_refusals():
    model = convnet()
    with pytest.raises(UserError, match="metrics of no copies"):
        measure(Settings(), copies_of(model, [], test=examples_of(model, 3)))
    with pytest.raises(UserError, match="positive is no class"):
        measure(Settings(positive=3), copies_of(model, [uneven(model)], test=examples_of(model, 3)))
