"""What training, distillation and accounting ask of a network: silence, second derivatives, and weights as one vector."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from reference import uneven, unrolled
from reference_models import DIGITS, NORMED, NORMS, TINY, built, noise
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from distill_prune.distill.inner_adam import unrolled_gradient
from distill_prune.distill.unroll import Batch, Inner, matching_gradient
from distill_prune.models import Model
from distill_prune.training import flops_of_step
from distill_prune.tree import flatten, select, shapes, unflatten


@pytest.mark.parametrize("name", sorted(TINY))
def test_building_is_silent_and_leaves_the_global_generator(name):
    before = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = built(name)
        model(model.fresh(0, "init"), torch.randn(2, *DIGITS, generator=torch.Generator()))
        assert flops_of_step(model, 2, torch.Size(DIGITS)) > 0
    assert torch.equal(before, torch.random.get_rng_state())


def flat(model: Model, state: dict[str, Tensor]):
    """The network as trajectory matching sees it: a function of one vector, buffers apart."""
    layout = shapes(select(state, model.parameters))
    buffers = {n: t.clone() for n, t in state.items() if n not in layout}
    return lambda theta, x: model({**buffers, **unflatten(theta, layout)}, x, train=True)


def roomy(name: str, changes: dict[str, Any]) -> tuple[int, int, int]:
    """Small images, with more than one pixel in the last map where instance norm needs it."""
    side = {"vgg": 32, "resnet": 9}.get(name, 8) if changes.get("norm") == "instance" else 8
    return (1, side, side)


CASES = [(name, {}) for name in ("alexnet", "lenet", "lenet5")] + [(n, {"norm": k}) for n in NORMED for k in NORMS]
MATCHED = [c for c in CASES if c[0] != "alexnet" and c[1].get("norm") not in ("layer", "none")]


@pytest.mark.parametrize(("name", "changes"), CASES, ids=str)
def test_second_derivatives(name, changes):
    """d/dx of the squared norm of the weights' gradient, along a line, against differences."""
    model = built(name, roomy(name, changes), **changes)
    state = uneven(model)
    theta, forward = flatten(state, model.parameters).requires_grad_(), flat(model, state)
    x, along, y = noise(3, *model.shape), noise(3, *model.shape, seed=1), torch.tensor([0, 1, 2])

    def squared(x: Tensor, graph: bool) -> Tensor:
        (g,) = torch.autograd.grad(F.cross_entropy(forward(theta, x), y), theta, create_graph=graph)
        return g.square().sum()

    at = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(squared(at, True), at)
    step = 1e-7
    slope = (squared(x + step * along, False) - squared(x - step * along, False)) / (2 * step)
    assert float((found * along).sum()) == pytest.approx(float(slope), rel=2e-4, abs=1e-6) and bool(found.abs().sum() > 0)


@pytest.mark.parametrize(("name", "changes"), MATCHED, ids=str)
def test_trajectory_matching_takes_the_network(name, changes):
    """Parameters as one vector in the module's order; the adjoint, the library and the written-out unroll agree."""
    model = built(name, shape := roomy(name, changes), **changes)
    state, target = uneven(model, 0), uneven(model, 1)
    assert model.parameters == tuple(n for n, _ in model.module.named_parameters())
    ordered = parameters_to_vector(model.module.parameters())
    assert torch.equal(flatten(model.module.state_dict(), model.parameters), ordered)
    start, end = (flatten(s, model.parameters) for s in (state, target))
    pixels, labels, log_lr = noise(3, *shape), torch.tensor([0, 1, 2]), torch.tensor(-4.0, dtype=torch.float64)
    batches = [Batch(None, None), Batch(torch.tensor([2, 0]), None)]
    inner = Inner(flat(model, state), pixels, labels, log_lr, batches)
    parts = select(state, model.parameters)
    buffers = {n: t.clone() for n, t in state.items() if n not in parts}
    expected = unrolled(lambda w, x: model({**buffers, **w}, x, train=True), parts, target, pixels, labels, log_lr, batches)
    found = matching_gradient(inner, start, end, segment=1)
    library = unrolled_gradient(model, inner, start, end, adam=False)
    for matched in (found, library):
        for a, b in zip((matched.loss, matched.pixels, matched.log_lr), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)
