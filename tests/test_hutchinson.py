"""The criterion `hutchinson`, against the whole Hessian."""

from __future__ import annotations

import pytest
import torch
from reference import convnet, cross_entropy, examples_of, logits, survivors, uneven
from reference_criteria import STREAMS, dense, half, level

from distill_prune.artifacts import Examples, Mask
from distill_prune.prune import CRITERIA
from distill_prune.prune.hutchinson import Settings, cost
from distill_prune.prune.imp import score
from distill_prune.prune.inputs import LevelImages
from distill_prune.rng import Streams
from distill_prune.training import CountFlops, flops_of_step
from distill_prune.training.derivatives import DoubleBackward
from distill_prune.tree import flatten, shapes, unflatten


def whole_hessian(model, state, examples):
    """Over all prunable weights, a row at a time, of the network written out."""
    begin, of = flatten(state, model.prunable), shapes({n: state[n] for n in model.prunable})

    def loss(flat):
        return cross_entropy(logits({**state, **unflatten(flat, of)}, examples.x), examples.y)

    return torch.autograd.functional.hessian(loss, begin)


def given(rows=5, soft=False, **more):
    model = convnet(depth=1, width=3)
    state, examples = uneven(model), examples_of(model, rows)
    if soft:
        examples = Examples(examples.x, torch.rand(rows, 3, dtype=torch.float64, generator=STREAMS("soft")).softmax(1))
    mask = half(model, state)
    return model, mask.apply(state), mask, examples, LevelImages(state, mask, STREAMS, model, examples)


@pytest.mark.parametrize("soft", [False, True])
def test_scores_are_those_of_the_probes_and_the_whole_hessian(soft):
    model, state, mask, examples, level_ = given(soft=soft)
    hessian, kept = whole_hessian(model, state, examples), flatten(mask.kept, model.prunable)
    weights, total = flatten(state, model.prunable), torch.zeros(len(kept), dtype=torch.float64)
    for i in range(20):
        signs = 2.0 * torch.randint(0, 2, (len(kept),), generator=STREAMS("probe", index=i), dtype=torch.int8).double() - 1
        signs = signs * kept
        total += signs * (hessian @ signs)
    by_hand = unflatten(weights**2 * total / 20 / 2, shapes(mask.kept))
    found = score(Settings(rows=99, probes=20), level_)
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, by_hand[name], rtol=1e-9, atol=1e-15)
        assert tensor.dtype == torch.float64 and not tensor[~mask.kept[name]].any()


def test_many_probes_come_to_the_saliency_of_optimal_brain_damage():
    model, state, mask, examples, level_ = given()
    hessian, kept = whole_hessian(model, state, examples), flatten(mask.kept, model.prunable)
    weights = flatten(state, model.prunable)
    truth, count = weights**2 * hessian.diagonal() / 2, 4000
    beside = hessian * (kept[:, None] & kept[None, :])
    error = weights**2 / 2 * ((beside**2).sum(1) - beside.diagonal() ** 2).sqrt() / count**0.5
    found = flatten(score(Settings(rows=99, probes=count), level_), model.prunable)
    assert bool(((found - truth)[kept].abs() <= 4.5 * error[kept] + 1e-15).all())
    assert bool((truth[kept] < 0).any()), "removing some is expected to lower the loss"


def test_rows_and_probes_are_those_of_the_levels_streams():
    model, _, mask, examples, level_ = given(rows=40)
    found = score(Settings(rows=7, probes=3), level_)
    rows = torch.randperm(40, generator=STREAMS("rows"))[:7]
    again = score(Settings(probes=3), LevelImages(level_.state, mask, STREAMS, model, examples.take(rows)))
    other = score(Settings(rows=7, probes=3), LevelImages(level_.state, mask, Streams(0, ("prune",)), model, examples))
    for name, tensor in found.items():
        torch.testing.assert_close(tensor, again[name])
        assert not torch.allclose(tensor, other[name])


def test_a_level_trains_nothing_ranks_by_hand_and_says_what_it_cost():
    model = convnet(width=4)
    start, examples, settings = dense(model), examples_of(model, 9), Settings(rows=6, probes=5)
    found = level(model, start, examples, settings)
    scores = score(settings, LevelImages(start.state, start.mask, STREAMS, model, examples))
    assert {n: t.flatten().tolist() for n, t in found.mask.kept.items()} == survivors(scores, start.mask.kept, 0.3, "global")
    assert found.numbers["cost"] == {"images": 66, "steps": 0, "flops": 11 * flops_of_step(model, 6, examples.shape)}
    assert CRITERIA["hutchinson"].NEEDS_TRAINING is False


def test_a_product_takes_about_two_passes():
    """What `cost` counts, against operations that torch counts."""
    model = convnet(depth=2, width=8, side=8)
    state, examples = uneven(model), examples_of(model, 6)
    with CountFlops() as one:
        torch.autograd.grad(
            cross_entropy(
                model({**state, **(w := {n: state[n].clone().requires_grad_() for n in model.prunable})}, examples.x),
                examples.y,
            ),
            list(w.values()),
        )
    with CountFlops() as gradient:
        product = DoubleBackward(model, state, examples).product(slice(0, 6))
    with CountFlops() as more:
        product(flatten(state, model.prunable))
    assert 1.5 < more.total / one.total < 2.5 and gradient.total <= 1.1 * one.total
    weights = LevelImages(state, Mask.dense(state, model.prunable), STREAMS, model, examples)
    assert cost(Settings(rows=6, probes=1), weights).images == 18


@pytest.mark.parametrize("field", ["rows", "probes"])
def test_none_is_refused(field):
    with pytest.raises(ValueError, match="greater than or equal to 1"):
        Settings(**{field: 0})
