from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from reference import convnet, logits, unrolled

from distill_prune.data.augment import apply, draw
from distill_prune.distill.inner_adam import unrolled_gradient
from distill_prune.distill.unroll import Batch, Inner, graph_bytes, matching_gradient
from distill_prune.models import Model
from distill_prune.rng import stream
from distill_prune.tree import flatten, select, shapes, unflatten

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

    inner = Inner(forward, pixels, torch.arange(images) % 3, torch.tensor(-1.5, dtype=torch.float64), batches, momentum)
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


@pytest.mark.parametrize(("norm", "depth"), [("none", 1), ("batch", 1), ("instance", 2)])
@pytest.mark.parametrize("segment", [1, 2])
def test_adjoint_under_every_norm(norm, depth, segment):
    model, inner, start, target = problem(norm, depth, rows=True, momentum=0.5)
    assert_same(
        matching_gradient(inner, flatten(start), flatten(target), segment=segment),
        naive(model, inner, start, target, norm=norm, depth=depth),
    )


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
    for i in range(STEPS):
        thetas.append(inner.run(thetas[-1], torch.zeros_like(thetas[-1]), i, i + 1)[0])
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
    theta, velocity = flatten(start), torch.zeros_like(flatten(start))
    reached, _ = inner.run(theta, velocity, 0, STEPS)
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
    theta, goal = flatten(start), flatten(target)
    peaks = {s: peak_bytes(lambda s=s: matching_gradient(inner, theta, goal, segment=s)) for s in (1, 2, 4, 8)}
    for s in (2, 4, 8):
        assert peaks[s] == pytest.approx(s * peaks[1], rel=0.15)


def test_graph_bytes_grow_with_the_batch_and_not_with_the_steps():
    def count(**more):
        _, inner, start, _ = problem(side=8, width=8, **more)
        return graph_bytes(inner, flatten(start))

    one = count(images=16)
    assert count(images=16, steps=2) == one
    assert 1.6 * one < count(images=32) < 2.4 * one
    # at least every activation that the backward pass of the backward pass needs
    assert one > 16 * 8 * 8 * 8 * 8 * 4
