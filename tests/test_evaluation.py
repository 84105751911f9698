"""Evaluation against the plain formula, and apart from training mode."""

from __future__ import annotations

import pytest
import torch
from reference import convnet, cross_entropy, examples_of, logits, uneven
from reference_training import NOISE, N

from distill_prune.training import Recipe, evaluate, train


@pytest.mark.parametrize("batch", [512, 4, 1])
def test_evaluation_is_the_plain_formula(batch):
    model = convnet()
    state, examples = uneven(model), examples_of(model, 30)
    out = logits(state, examples.x)
    wrong = sum(int(row.tolist().index(max(row.tolist())) != y) for row, y in zip(out, examples.y.tolist(), strict=True))
    score = evaluate(model, state, examples, batch=batch)
    assert score.loss == pytest.approx(float(cross_entropy(out, examples.y)), rel=1e-12)
    assert (score.error, score.count) == (wrong / 30, 30) and 0 < wrong < 30


def test_modes_do_not_leak_and_nothing_is_changed():
    model = convnet(norm="batch")
    state, examples = uneven(model), examples_of(model, N)
    state["1.running_mean"] = state["1.running_mean"] + 3
    before = {n: t.clone() for n, t in state.items()}
    mean, var = (state[f"1.{n}"].view(1, -1, 1, 1) for n in ("running_mean", "running_var"))
    x = torch.nn.functional.conv2d(examples.x, state["0.weight"], state["0.bias"], padding=1)
    x = (x - mean) / (var + 1e-5).sqrt() * state["1.weight"].view(1, -1, 1, 1) + state["1.bias"].view(1, -1, 1, 1)
    out = torch.nn.functional.avg_pool2d(x.relu(), 2).flatten(1) @ state["5.weight"].T + state["5.bias"]
    expected = float(cross_entropy(out, examples.y))
    assert evaluate(model, state, examples).loss == pytest.approx(expected)
    train(model, state, examples, Recipe(length="2it", batch=4, lr=0.1), NOISE)
    model({n: t.clone() for n, t in state.items()}, examples.x, train=True)
    assert evaluate(model, state, examples).loss == pytest.approx(expected)
    assert all(torch.equal(t, before[n]) for n, t in state.items())


def test_training_after_an_evaluation_is_in_training_mode():
    model, recipe = convnet(norm="batch"), Recipe(length="3it", batch=4, lr=0.1)
    start, examples = uneven(model), examples_of(model, N)
    first = train(model, start, examples, recipe, NOISE).state
    evaluate(model, start, examples)
    again = train(model, start, examples, recipe, NOISE).state
    assert all(torch.equal(t, again[n]) for n, t in first.items())
