"""One exact gradient of trajectory matching: the adjoint at s = 1, beside the full unroll that trajectory matching is
published with (Cazenavette et al., 2022): every step on torch.func.functional_call with a graph, then one backward pass."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from measure import Row, Scene, Side
from torch import Tensor
from torch.func import functional_call

from distill_prune.distill.unroll import Batch, Inner, matching_gradient
from distill_prune.models import Model
from distill_prune.rng import stream
from distill_prune.training import CountFlops
from distill_prune.tree import flatten, shapes, to, unflatten
from ratios.made_up import network, of_torch
from ratios.optional import of_inner, takes, ways

STEPS = 10


def unrolled(model: Model, inner: Inner, start: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """The gradient with respect to pixels and the logarithm of the rate."""
    module, layout = of_torch(model.module), shapes(model.module.state_dict())
    x, log_lr = inner.pixels.detach().requires_grad_(), inner.log_lr.detach().requires_grad_()
    theta = start.detach().requires_grad_()
    for _ in inner.batches:
        loss = F.cross_entropy(functional_call(module, unflatten(theta, layout), (x,)), inner.labels)
        (step,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - log_lr.exp() * step
    loss = (theta - target).square().sum() / (start - target).square().sum()
    return torch.autograd.grad(loss, (x, log_lr))


def problem(scene: Scene) -> tuple[Model, Inner, Tensor, Tensor]:
    """A network, the inner problem of N steps on some images, and the weights that it begins at and has to match."""
    width, count = scene.size((64, 100), (4, 10))
    model = network(3, width, (3, 32, 32))
    start, target = (flatten(to(model.fresh(seed), scene.device)) for seed in range(2))
    layout = shapes(model.module.state_dict())

    def forward(theta: Tensor, x: Tensor) -> Tensor:
        return model(unflatten(theta, layout), x, train=True)

    inner = Inner(
        forward,
        torch.randn(count, 3, 32, 32, generator=stream(0, "bench")).to(scene.device),
        (torch.arange(count) % 10).to(scene.device),
        torch.tensor(-3.0, device=scene.device),
        [Batch(None, None)] * STEPS,
        **of_inner(model, layout, forward),
    )
    return model, inner, start, target


def gradient(scene: Scene) -> Row:
    model, inner, start, target = problem(scene)
    with CountFlops() as counter:
        unrolled(model, replace(inner, batches=inner.batches[:1]), start, target)
    eager = ways(scene, 1, lambda: matching_gradient(inner, start, target, segment=1)).eager
    in_chunks = []
    if takes(matching_gradient, "chunk"):
        fourth = len(inner.pixels) // 4
        in_chunks = [ways(scene, 1, lambda: matching_gradient(inner, start, target, segment=1, chunk=fourth)).eager]
    return Row(
        f"matching gradient, N = {STEPS}, ConvNet-3 w{scene.size(64, 4)}, {len(inner.pixels)} images 3x32x32",
        Side("full unroll", lambda: unrolled(model, inner, start, target)),
        [
            Side("adjoint, s = 1", eager, 0.65, 0.15),
            *(Side("adjoint, s = 1, in four chunks", run, None, 0.15) for run in in_chunks),
        ],
        flops=STEPS * counter.total,
        memory=True,
        absent={"compiled": "compiled closed forms take 0.8 to 1.4 of the time of plain ones"},
    )
