"""Our selection of weights against that of torch.nn.utils.prune, level after level, on the networks of the literature."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils import prune

from distill_prune.artifacts import Mask
from distill_prune.models import MODELS, Model, build_model
from distill_prune.prune import CRITERIA
from distill_prune.prune.inputs import LevelWeights
from distill_prune.prune.select import select
from distill_prune.rng import Streams

LEVELS, RATE = 10, 0.2
NETWORKS = {
    "convnet": ((3, 32, 32), {"width": 32}),
    "lenet": ((1, 28, 28), {}),
    "lenet5": ((1, 28, 28), {}),
    "cifar_resnet": ((3, 16, 16), {}),
    "alexnet": ((3, 16, 16), {}),
}
SMALL = [name for name in NETWORKS if name != "alexnet"]
"""Below a million weights: alexnet has 1.8 million, and takes the drawn weights and one kind of ties alone."""


MAGNITUDE = CRITERIA["magnitude"]


def network(name: str) -> tuple[Model, dict]:
    shape, options = NETWORKS[name]
    model = build_model(MODELS[name].Settings(**options), shape, 10)
    return model, model.fresh(0, "weights")


def chains(model: Model, state: dict, levels: int, rate: float):
    """Of each level our mask, and torch's by name. torch prunes the share `amount` of what its last mask kept."""
    module = model.instance(state)
    layers = [(module.get_submodule(n.removesuffix(".weight")), "weight") for n in model.prunable]
    assert all(isinstance(layer, nn.Conv2d | nn.Linear) for layer, _ in layers)
    ours = Mask.dense(state, model.prunable)
    for _ in range(levels):
        ours = select(MAGNITUDE.scores(MAGNITUDE.Settings(), LevelWeights(state, ours, Streams(0))), ours, rate, "global")
        prune.global_unstructured(layers, prune.L1Unstructured, amount=rate)
        yield ours, {n: layer.weight_mask == 1 for n, (layer, _) in zip(model.prunable, layers, strict=True)}


@pytest.mark.parametrize("name", SMALL)
def test_equal_masks_where_magnitudes_differ(name):
    """Among so many random float32 weights some magnitudes are equal; here they are made all different."""
    model, state = network(name)
    total = sum(state[n].numel() for n in model.prunable)
    order = torch.randperm(total, generator=torch.Generator().manual_seed(0))
    signs = torch.randint(0, 2, (total,), generator=torch.Generator().manual_seed(1)) * 2 - 1
    distinct = (order + 1).float() / 2**24 * signs  # exact in float32 below 2^24 weights
    for n, part in zip(model.prunable, torch.split(distinct, [state[n].numel() for n in model.prunable]), strict=True):
        state[n] = part.view(state[n].shape).clone()
    remaining = total
    for ours, theirs in chains(model, state, LEVELS, RATE):
        assert all(torch.equal(kept, theirs[n]) for n, kept in ours.kept.items())
        remaining -= round(RATE * remaining)
        assert ours.remaining == remaining


@pytest.mark.parametrize("name", NETWORKS)
def test_masks_of_drawn_weights_differ_only_at_the_threshold(name):
    model, state = network(name)
    flat = torch.cat([state[n].flatten() for n in model.prunable]).abs()
    exact = 0
    for ours, theirs in chains(model, state, LEVELS, RATE):
        mine, other = (torch.cat([m[n].flatten() for n in model.prunable]) for m in (ours.kept, theirs))
        assert int(mine.sum()) == int(other.sum())
        lowest, highest = flat[mine].min(), flat[~mine].max()
        assert highest <= lowest and flat[other].min() == lowest and flat[~other].max() == highest
        assert bool((flat[mine != other] == lowest).all())
        if highest < lowest:  # the threshold is unique
            assert torch.equal(mine, other)
            exact += 1
    assert exact > LEVELS // 2


@pytest.mark.parametrize(("name", "steps"), [*((name, 4) for name in NETWORKS), *((name, 64) for name in SMALL)])
def test_ties_keep_as_many_and_as_much(name, steps):
    """Weights rounded to few values: which of equal ones go may differ, how many and what magnitudes stay may not."""
    model, state = network(name)
    largest = max(float(state[n].abs().max()) for n in model.prunable)
    state = {n: (t * steps / largest).round() if n in model.prunable else t for n, t in state.items()}
    for ours, theirs in chains(model, state, LEVELS, RATE):
        mine, other = (torch.cat([state[n][m[n]].abs() for n in model.prunable]) for m in (ours.kept, theirs))
        assert len(mine) == len(other)
        assert torch.equal(torch.bincount(mine.long()), torch.bincount(other.long()))


@pytest.mark.parametrize("total", [1, 2, 3, 5, 7, 10, 15, 25, 50, 105])
@pytest.mark.parametrize("rate", [0.1, 0.2, 0.3, 0.5, 0.7])
def test_both_round_alike(total, rate):
    """round(rate * remaining) with halves to even, of what the level before left, until one weight is left."""
    layer = nn.Linear(total, 1, bias=False)
    layer.weight.data = torch.arange(1.0, total + 1)[None]
    mask = Mask.dense({"weight": layer.weight.detach()}, ("weight",))
    for _ in range(6):
        if mask.remaining == round(rate * mask.remaining):
            break
        mask = select(
            {"weight": layer.weight_orig.detach().abs() if prune.is_pruned(layer) else layer.weight.abs()}, mask, rate, "global"
        )
        prune.global_unstructured([(layer, "weight")], prune.L1Unstructured, amount=rate)
        assert torch.equal(mask.kept["weight"], layer.weight_mask == 1)
