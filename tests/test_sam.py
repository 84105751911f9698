"""Sharpness-aware minimisation in the one training loop, against the loop of the paper on a copy of the network."""

from __future__ import annotations

import copy
import json

import pytest
import torch
from reference import convnet, examples_of, uneven
from reference_training import NOISE, N, batches, close, half
from test_lanes import SMALL, checked, model_of, training
from test_lanes import examples_of as drawn_examples

from distill_prune import objective
from distill_prune.artifacts import Cost
from distill_prune.distill import METHODS
from distill_prune.progress import Progress, Snapshot
from distill_prune.run.worker import conditions
from distill_prune.training import Recipe, train, train_group

SAM = Recipe(length="8it", batch=4, lr=0.1, momentum=0.9, weight_decay=0.05, optimizer="sam", rho=0.3, augment="flip")


def sam_by_hand(model, start, examples, recipe, kept):
    """Two networks: one climbs and is thrown away, the other takes the step."""
    network = model.instance({n: t * kept[n] if n in kept else t for n, t in start.items()}, "cpu").train()
    optimizer, losses = torch.optim.SGD(network.parameters(), recipe.lr, 0.9, weight_decay=recipe.weight_decay), []
    for x, y in batches(examples, recipe, 0, recipe.steps(N)):
        climber = copy.deepcopy(network)
        loss = objective.loss(network(x), y)
        losses.append(float(loss.detach()))
        slopes = dict(zip(dict(network.named_parameters()), torch.autograd.grad(loss, list(network.parameters())), strict=True))
        slopes = {n: g * kept[n] if n in kept else g for n, g in slopes.items()}
        length = sum(float(g.square().sum()) for g in slopes.values()) ** 0.5
        with torch.no_grad():
            for name, parameter in climber.named_parameters():
                parameter += recipe.rho * slopes[name] / length
        loss = objective.loss(climber(x), y)
        for parameter, g in zip(network.parameters(), torch.autograd.grad(loss, list(climber.parameters())), strict=True):
            parameter.grad = g
        optimizer.step()
        with torch.no_grad():
            for name, mask in kept.items():
                network.get_parameter(name).mul_(mask)
    return network.state_dict(), losses


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("norm", ["none", "batch", "instance"])
def test_steps_are_those_of_the_paper(norm, masked):
    """With batch norm, running statistics are of the first pass alone: the climber's are thrown away."""
    model = convnet(norm=norm)
    start, examples, mask = uneven(model), examples_of(model, N), half(model) if masked else None
    found = train(model, start, examples, SAM, NOISE, mask=mask)
    by_hand, losses = sam_by_hand(model, start, examples, SAM, {n: k.double() for n, k in mask.kept.items()} if mask else {})
    close(
        {n: t for n, t in found.state.items() if t.is_floating_point()},
        {n: t for n, t in by_hand.items() if t.is_floating_point()},
    )
    assert all(torch.equal(t, by_hand[n]) for n, t in found.state.items() if not t.is_floating_point())
    assert found.losses == pytest.approx([sum(e) / len(e) for e in (losses[:3], losses[3:6], losses[6:])], rel=1e-5)
    if mask:
        assert all(not found.state[n][~kept].any() for n, kept in mask.kept.items())
    plain = train(model, start, examples, SAM.model_copy(update={"optimizer": "sgd", "rho": 0.05}), NOISE, mask=mask)
    assert max(float((t - plain.state[n]).abs().max()) for n, t in found.state.items() if n in model.prunable) > 1e-3
    assert found.cost == Cost(2 * plain.cost.images, plain.cost.steps, 2 * plain.cost.flops)


def test_a_small_radius_is_gradient_descent_and_a_gradient_of_zero_stays():
    model = convnet(norm="none")
    start, examples = uneven(model), examples_of(model, N)
    near = train(model, start, examples, SAM.model_copy(update={"rho": 1e-9}), NOISE).state
    plain = train(model, start, examples, SAM.model_copy(update={"optimizer": "sgd"}), NOISE).state
    assert all(torch.allclose(t, plain[n], atol=1e-7) for n, t in near.items())
    zero = {n: torch.zeros_like(t) for n, t in start.items()}
    state = train(model, zero, examples, SAM, NOISE).state
    assert all(bool(torch.isfinite(t).all()) for t in state.values())


class Stopped(Progress):
    """Keeps the snapshot after some steps."""

    def __init__(self, snapshot=None):
        self.snapshot, self.steps = snapshot, 0

    def due(self):
        self.steps += 1
        return self.steps == 3

    def save(self, tensors, numbers):
        self.snapshot = Snapshot({n: t.clone() for n, t in tensors.items()}, json.loads(json.dumps(numbers)))

    def load(self):
        return self.snapshot


def test_a_resumed_training_has_equal_bits():
    model = convnet(norm="batch")
    start, examples, mask = uneven(model, dtype=torch.float32), examples_of(model, N, dtype=torch.float32), half(model)
    first = Stopped()
    whole = train(model, start, examples, SAM, NOISE, mask=mask, progress=first)
    again = train(model, start, examples, SAM, NOISE, mask=mask, progress=Stopped(first.snapshot))
    assert first.snapshot is not None and whole.losses == again.losses
    assert all(torch.equal(t, again.state[n]) for n, t in whole.state.items())


@pytest.mark.parametrize("name", ["convnet-batch", "lenet"])
def test_bits_depend_on_no_lane(name):
    model, recipe = model_of(name, 10), SMALL.model_copy(update={"optimizer": "sam", "rho": 0.1})

    def of(seed):
        one = training(model, seed, recipe, torch.float32)
        return type(one)(one.model, one.start, drawn_examples(model, seed, torch.float32, 10), recipe, one.noise, one.mask)

    with conditions(1):
        groups = [[of(100 * p + i) for i in range(4)] for p in range(3)]
        for place, group in zip((0, 2, 3), groups, strict=True):
            group[place] = of(0)
        results = [checked(train_group(g, 4))[p] for p, g in zip((0, 2, 3), groups, strict=True)]
    for other in results[1:]:
        assert all(torch.equal(t, other.state[n]) for n, t in results[0].state.items())


def test_inner_steps_of_distillation_are_not_sams():
    with pytest.raises(ValueError, match="inner steps are differentiated step by step, and sam's are not: sgd or adam"):
        METHODS["trajectory"].Settings(inner="sam")
