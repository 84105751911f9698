from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from reference import convnet, logits, unrolled

from distill_prune.data.augment import apply, draw
from distill_prune.distill.derivatives import Closed, derivatives
from distill_prune.distill.inner_adam import unrolled_gradient
from distill_prune.distill.unroll import Batch, Inner, matching_gradient, record_bytes
from distill_prune.models import MODELS, Model, build_model
from distill_prune.rng import stream
from distill_prune.tree import clone, flatten, select, shapes, unflatten

STEPS = 5
ROUNDING = 1e-10


def problem(norm="instance", depth=1, rows=False, augment="none", momentum=0.0, steps=STEPS, images=6, side=4, width=2):
    """A model, the inner problem of `steps` steps, and two expert checkpoints by name; float64."""
    model = convnet(depth, norm, width, side)
    start, target = (
        {
            n: t.double() + 0.1 * torch.rand(t.shape, generator=stream(seed, n), dtype=torch.float64)
            for n, t in select(model.fresh(seed, "init"), model.parameters).items()
        }
        for seed in (1, 2)
    )
    generator = stream(0, "problem")
    pixels = torch.randn(images, *model.shape, generator=generator, dtype=torch.float64)
    batches = []
    for i in range(steps):
        chosen = torch.randperm(images, generator=generator)[: images - 2] if rows else None
        shape = (images - 2 if rows else images, *model.shape)
        batches.append(Batch(chosen, None if augment == "none" else draw(augment, shape, stream(i, "augment"))))
    layout = shapes(start)

    buffers = {n: t.double() for n, t in model.module.named_buffers()}

    def forward(theta, x):
        return model({**buffers, **unflatten(theta, layout)}, x, train=True)

    rate, network = torch.tensor(-1.5, dtype=torch.float64), derivatives(model, layout, forward)
    inner = Inner(forward, pixels, torch.arange(images) % 3, rate, batches, momentum, network)
    return model, inner, start, target


def naive(model: Model, inner: Inner, start, target, *, adam=False, norm="instance", depth=1):
    return unrolled(
        lambda w, x: logits(w, x, depth, norm),
        start,
        target,
        inner.pixels,
        inner.labels,
        inner.log_lr,
        inner.batches,
        inner.momentum,
        adam,
    )


def after(inner: Inner, theta):
    """Where plain SGD takes the parameters in the inner problem's steps."""
    for batch in inner.batches:
        leaf = theta.detach().requires_grad_()
        loss = inner.loss(inner.forward(leaf, inner.inputs(batch)), batch)
        theta = theta - inner.log_lr.exp() * torch.autograd.grad(loss, leaf)[0]
    return theta


def distance(a, b) -> float:
    return float((a - b).norm() / b.norm())


def assert_same(matched, expected) -> None:
    for got, want in zip((matched.loss, matched.pixels, matched.log_lr), expected, strict=True):
        assert got.shape == want.shape and float(want.norm()) > 1e-6
        assert distance(got, want) < ROUNDING


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize(
    ("rows", "augment"),
    [
        (False, "none"),
        (True, "none"),
        (False, "crop+flip"),
        (True, "color_crop_cutout_flip_scale_rotate"),
        (True, "scale+color+rotate"),
    ],
)
def test_adjoint_is_the_full_unroll_at_every_segment(rows, augment, momentum):
    model, inner, start, target = problem(rows=rows, augment=augment, momentum=momentum)
    expected = naive(model, inner, start, target)
    oracle = unrolled_gradient(model, inner, flatten(start), flatten(target), adam=False)
    assert_same(oracle, expected)
    for segment in range(1, STEPS + 1):
        assert_same(matching_gradient(inner, flatten(start), flatten(target), segment=segment), expected)
    for chunk in (1, 3, 4):
        assert_same(matching_gradient(inner, flatten(start), flatten(target), segment=2, chunk=chunk), expected)


@pytest.mark.parametrize(("norm", "depth"), [("none", 1), ("batch", 2), ("layer", 2), ("group", 2), ("instance", 2)])
@pytest.mark.parametrize("closed", [True, False])
def test_adjoint_under_every_norm(norm, depth, closed):
    model, inner, start, target = problem(norm, depth, rows=True, momentum=0.5, width=4, side=8)
    assert isinstance(inner.derivatives, Closed) and inner.derivatives.by_example == (norm != "batch")
    if norm in ("layer", "group"):
        by_higher = unrolled_gradient(model, inner, flatten(start), flatten(target), adam=False)
        expected = by_higher.loss, by_higher.pixels, by_higher.log_lr
    else:
        expected = naive(model, inner, start, target, norm=norm, depth=depth)
    inner = inner if closed else replace(inner, derivatives=None)
    for segment in (1, 2):
        assert_same(matching_gradient(inner, flatten(start), flatten(target), segment=segment), expected)


@pytest.mark.parametrize("norm", ["batch", "group"])
def test_segments_of_closed_forms_have_equal_bits(norm):
    _, inner, start, target = problem(norm, momentum=0.5, width=4)
    one, *others = (matching_gradient(inner, flatten(start), flatten(target), segment=s) for s in (1, 2, STEPS))
    for other in others:
        assert torch.equal(one.pixels, other.pixels) and torch.equal(one.log_lr, other.log_lr)


def test_statistics_of_a_batch_have_no_chunks():
    _, inner, start, target = problem("batch", width=4)
    with pytest.raises(ValueError, match="chunk must be None, not 3"):
        matching_gradient(inner, flatten(start), flatten(target), segment=1, chunk=3)


NETWORKS = {
    "lenet": (MODELS["lenet"].Settings(hidden=(7, 5)), (1, 4, 4)),
    "lenet5": (MODELS["lenet5"].Settings(), (1, 12, 12)),
    "alexnet": (MODELS["alexnet"].Settings(), (2, 9, 8)),
    "convnet of odd sides": (MODELS["convnet"].Settings(depth=2, width=4, norm="group"), (2, 7, 5)),
    "resnet": (MODELS["cifar_resnet"].Settings(depth=8, width=4, norm="group"), (2, 4, 4)),
    "vgg": (MODELS["vgg"].Settings(depth=11, width=4), (1, 4, 4)),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("soft", [False, True])
def test_products_are_those_of_autograd(name, soft):
    """Of one step: the gradient, and its products along a direction with parameters, inputs and labels."""
    settings, shape = NETWORKS[name]
    model = build_model(settings, shape, 3)
    state = {n: t.double() for n, t in model.fresh(0, "init").items()}
    parameters, draw = select(state, model.parameters), stream(0, "numbers")
    layout = shapes(parameters)

    def forward(theta, x):
        return model({**clone(state), **unflatten(theta, layout)}, x, train=True)

    theta = flatten(parameters)
    theta = theta + 0.1 * torch.randn(theta.shape, generator=draw, dtype=torch.float64)
    direction = torch.randn(theta.shape, generator=draw, dtype=torch.float64)
    x = torch.randn(4, *shape, generator=draw, dtype=torch.float64)
    y = torch.rand(4, 3, generator=draw, dtype=torch.float64).softmax(1) if soft else torch.arange(4) % 3
    network = derivatives(model, layout, forward)
    assert isinstance(network, Closed) == (name not in ("resnet", "vgg"))
    leaves = [t.clone().requires_grad_() for t in (theta, x, *([y] if soft else []))]
    loss = F.cross_entropy(forward(leaves[0], leaves[1]), leaves[2] if soft else y)
    (g,) = torch.autograd.grad(loss, leaves[0], create_graph=True)
    expected = torch.autograd.grad(g, leaves, direction)
    recorded = network.record(theta, x, y, 4)
    for gradient in (recorded.gradient, network.gradient(theta, x, y, 4)):
        assert distance(gradient, g.detach()) < ROUNDING
    for got, want in zip(recorded.product(direction), expected, strict=False):
        if got is not None and want.abs().max() > 0:
            if got.shape == y.shape:  # sums of probabilities are one: a number that all classes share is of no meaning
                got, want = (t - t.mean(1, keepdim=True) for t in (got, want))
            assert distance(got, want) < 1e-9


def test_gradient_is_the_difference_quotient():
    model, inner, start, target = problem("none", momentum=0.5, rows=True)
    found = matching_gradient(inner, flatten(start), flatten(target), segment=2)
    direction = torch.randn(inner.pixels.shape, generator=stream(0, "direction"), dtype=torch.float64)

    def loss(step, log_step):
        return naive(
            model,
            Inner(
                inner.forward,
                inner.pixels + step * direction,
                inner.labels,
                inner.log_lr + log_step,
                inner.batches,
                inner.momentum,
            ),
            start,
            target,
            norm="none",
        )[0]

    h = 1e-6
    assert float((found.pixels * direction).sum()) == pytest.approx(float(loss(h, 0) - loss(-h, 0)) / (2 * h), rel=1e-5)
    assert float(found.log_lr) == pytest.approx(float(loss(0, h) - loss(0, -h)) / (2 * h), rel=1e-5)


def test_rate_gradient_of_plain_sgd_is_a_sum_of_inner_products():
    """At s = 1: d log eta = -eta sum_i <lambda_{i+1}, g_i>, lambda_i = lambda_{i+1} - eta H_i lambda_{i+1}."""
    _, inner, start, target = problem(rows=True, augment="crop+flip")
    eta, thetas = inner.log_lr.exp(), [flatten(start)]
    for batch in inner.batches:
        thetas.append(after(replace(inner, batches=[batch]), thetas[-1]))
    adjoint = 2 * (thetas[-1] - flatten(target)) / (flatten(start) - flatten(target)).square().sum()
    total = torch.zeros(())
    for i in reversed(range(STEPS)):
        batch, theta = inner.batches[i], thetas[i].requires_grad_()
        loss = F.cross_entropy(inner.forward(theta, apply(inner.pixels[batch.rows], batch.draw)), inner.labels[batch.rows])
        (g,) = torch.autograd.grad(loss, theta, create_graph=True)
        total = total - eta * (adjoint @ g).detach()
        (curved,) = torch.autograd.grad(g, theta, adjoint)
        adjoint = adjoint - eta * curved
    assert distance(matching_gradient(inner, flatten(start), flatten(target), segment=1).log_lr, total) < ROUNDING


@pytest.mark.parametrize(("rows", "augment"), [(False, "none"), (True, "crop+flip")])
def test_adam_inside_is_a_naive_adam_unroll(rows, augment):
    model, inner, start, target = problem("none", rows=rows, augment=augment, steps=3)
    assert_same(
        unrolled_gradient(model, inner, flatten(start), flatten(target)),
        naive(model, inner, start, target, adam=True, norm="none"),
    )


def test_adam_and_sgd_inside_differ():
    model, inner, start, target = problem(steps=3)
    adam = unrolled_gradient(model, inner, flatten(start), flatten(target))
    sgd = unrolled_gradient(model, inner, flatten(start), flatten(target), adam=False)
    assert distance(adam.pixels, sgd.pixels) > 0.1


def test_inputs_are_left_as_they_were():
    model, inner, start, target = problem(momentum=0.5)
    theta, goal = flatten(start), flatten(target)
    before = [t.clone() for t in (theta, goal, inner.pixels, inner.log_lr)]
    for found in (matching_gradient(inner, theta, goal, segment=2), unrolled_gradient(model, inner, theta, goal)):
        assert all(torch.equal(a, b) for a, b in zip(before, (theta, goal, inner.pixels, inner.log_lr), strict=True))
        assert not any(t.requires_grad for t in (theta, goal, inner.pixels, inner.log_lr))
        assert not any(t.requires_grad for t in (found.loss, found.pixels, found.log_lr))


def test_a_target_already_reached_is_zero_loss_and_no_gradient():
    _, inner, start, _ = problem()
    theta = flatten(start)
    reached = after(inner, theta)
    found = matching_gradient(inner, theta, reached, segment=2)
    assert float(found.loss) < 1e-28 and float(found.pixels.abs().max()) < 1e-14 and abs(float(found.log_lr)) < 1e-14


class Held:
    """A tensor that autograd keeps, counted while it lives."""

    live = peak = 0

    def __init__(self, tensor) -> None:
        self.tensor, self.bytes = tensor, tensor.nbytes
        Held.live += self.bytes
        Held.peak = max(Held.peak, Held.live)

    def __del__(self) -> None:
        Held.live -= self.bytes


def peak_bytes(task) -> int:
    Held.live = Held.peak = 0
    with torch.autograd.graph.saved_tensors_hooks(Held, lambda held: held.tensor):
        task()
    return Held.peak


def test_memory_of_the_graphs_is_that_of_one_segment():
    _, inner, start, target = problem(steps=8, images=12, side=8, width=8)
    inner = replace(inner, derivatives=None)
    theta, goal = flatten(start), flatten(target)
    peaks = {s: peak_bytes(lambda s=s: matching_gradient(inner, theta, goal, segment=s)) for s in (1, 2, 4, 8)}
    for s in (2, 4, 8):
        assert peaks[s] == pytest.approx(s * peaks[1], rel=0.15)


def test_record_bytes_grow_with_the_batch_and_not_with_the_steps():
    def count(**more):
        _, inner, start, _ = problem(side=8, width=8, **more)
        return record_bytes(inner, flatten(start))

    one = count(images=16)
    assert count(images=16, steps=2) == one
    assert 1.6 * one < count(images=32) < 2.4 * one
    # at least four maps: what a norm takes and what a ReLU gives, and the gradients of what the norm gives and takes
    assert one > 16 * 8 * 8 * 8 * 8 * 4
