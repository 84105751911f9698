"""One exact gradient of trajectory matching: the adjoint at s = 1, beside the full unroll that trajectory matching is
published with (Cazenavette et al., 2022): every step on torch.func.functional_call with a graph, then one backward pass."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from measure import Row, Scene, Side
from torch import Tensor
from torch.func import functional_call

from distill_prune.distill.unroll import Batch, Inner, matching_gradient
from distill_prune.models import MODELS, Model, build_model
from distill_prune.rng import stream
from distill_prune.run.worker import conditions
from distill_prune.training import CountFlops
from distill_prune.tree import flatten, shapes, to, unflatten
from ratios.optional import compiling

STEPS = 10


def unrolled(model: Model, inner: Inner, start: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """The gradient with respect to pixels and the logarithm of the rate."""
    network, layout = model.module, shapes(model.module.state_dict())
    x, log_lr = inner.pixels.detach().requires_grad_(), inner.log_lr.detach().requires_grad_()
    theta = start.detach().requires_grad_()
    for _ in inner.batches:
        loss = F.cross_entropy(functional_call(network, unflatten(theta, layout), (x,)), inner.labels)
        (step,) = torch.autograd.grad(loss, theta, create_graph=True)
        theta = theta - log_lr.exp() * step
    loss = (theta - target).square().sum() / (start - target).square().sum()
    return torch.autograd.grad(loss, (x, log_lr))


def gradient(scene: Scene) -> Row:
    width, count = scene.size((64, 100), (4, 10))
    model = build_model(MODELS["convnet"].Settings(depth=3, width=width, norm="instance"), (3, 32, 32), 10)
    start, target = (flatten(to(model.fresh(seed), scene.device)) for seed in range(2))
    layout = shapes(model.module.state_dict())
    inner = Inner(
        lambda theta, x: model(unflatten(theta, layout), x, train=True),
        torch.randn(count, 3, 32, 32, generator=stream(0, "bench")).to(scene.device),
        (torch.arange(count) % 10).to(scene.device),
        torch.tensor(-3.0, device=scene.device),
        [Batch(None, None)] * STEPS,
    )

    def ours() -> None:
        with conditions(1):
            matching_gradient(inner, start, target, segment=1)

    with CountFlops() as counter:
        unrolled(model, Inner(inner.forward, inner.pixels, inner.labels, inner.log_lr, inner.batches[:1]), start, target)
    compiled, absent = compiling(scene, ours)
    return Row(
        f"matching gradient, N = {STEPS}, ConvNet-3 w{width}, {count} images 3x32x32",
        Side("full unroll", lambda: unrolled(model, inner, start, target)),
        [Side("adjoint, s = 1", ours, 0.65, 0.15), *(Side("adjoint, s = 1, compiled", run, 0.40, 0.15) for run in compiled)],
        flops=STEPS * counter.total,
        memory=True,
        absent=absent,
    )
