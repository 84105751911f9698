"""Trajectory matching with soft labels, several images in one, a growing range of starts and a running mean."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from reference import cross_entropy, interrupted, logits
from test_trajectory import EXPERT, STREAMS, TINY, Spy, run, same, source_of
from test_unroll import ROUNDING, distance, problem

from distill_prune.artifacts import Examples, decode
from distill_prune.data.augment import apply
from distill_prune.distill.experts import train_expert
from distill_prune.distill.inner_adam import unrolled_gradient
from distill_prune.distill.trajectory import Settings
from distill_prune.distill.unroll import matching_gradient
from distill_prune.errors import DataError
from distill_prune.progress import SILENT
from distill_prune.rng import stream
from distill_prune.tree import flatten


@pytest.fixture(scope="module")
def source():
    return source_of()


# -- the gradient of the labels


def naive(inner, start, target):
    """All steps in one graph: loss, d pixels, d log eta, d logits of the labels."""
    leaves = [t.clone().requires_grad_() for t in (inner.pixels, inner.log_lr, inner.labels)]
    pixels, log_lr, labels = leaves
    w = {n: t.clone().requires_grad_() for n, t in start.items()}
    velocity = {n: torch.zeros_like(t) for n, t in start.items()}
    for batch in inner.batches:
        rows = torch.arange(len(pixels)) if batch.rows is None else batch.rows
        x = pixels[rows] if batch.draw is None else apply(pixels[rows], batch.draw)
        loss = cross_entropy(logits(w, x), labels[rows].softmax(1))
        g = dict(zip(w, torch.autograd.grad(loss, list(w.values()), create_graph=True), strict=True))
        velocity = {n: inner.momentum * velocity[n] + g[n] for n in w}
        w = {n: w[n] - log_lr.exp() * velocity[n] for n in w}
    near = sum(((w[n] - target[n]) ** 2).sum() for n in w)
    far = sum(((start[n] - target[n]) ** 2).sum() for n in w)
    return [(near / far).detach(), *torch.autograd.grad(near / far, leaves)]


@pytest.mark.parametrize("momentum", [0.0, 0.7])
@pytest.mark.parametrize("rows", [False, True])
def test_the_adjoint_of_soft_labels_is_the_full_unroll(momentum, rows):
    _, inner, start, target = problem(rows=rows, augment="crop+flip", momentum=momentum)
    values = torch.randn(len(inner.pixels), 3, generator=stream(0, "soft"), dtype=torch.float64)
    inner = replace(inner, labels=values)
    expected = naive(inner, start, target)
    for segment in (1, 2, 5):
        found = matching_gradient(inner, flatten(start), flatten(target), segment=segment)
        for got, want in zip((found.loss, found.pixels, found.log_lr, found.labels), expected, strict=True):
            assert distance(got, want) < ROUNDING
    assert not inner.labels.requires_grad and torch.equal(inner.labels, values)


def test_the_library_agrees_on_soft_labels():
    model, inner, start, target = problem(momentum=0.5)
    inner = replace(inner, labels=torch.randn(6, 3, generator=stream(0, "soft"), dtype=torch.float64))
    found, oracle = (
        matching_gradient(inner, flatten(start), flatten(target), segment=1),
        unrolled_gradient(model, inner, flatten(start), flatten(target), adam=False),
    )
    for name in ("pixels", "log_lr", "labels"):
        assert distance(getattr(found, name), getattr(oracle, name)) < ROUNDING


# -- the method

SOFT = {"labels": "soft", "lr_labels": 0.5}
OPTIONS = {
    "soft": SOFT,
    "factor": {"factor": 2},
    "growing": {"first_max_start": 1, "growth": 8},
    "average": {"average": 0.8},
    "all": {**SOFT, "factor": 2, "first_max_start": 2, "growth": 5, "average": 0.5, "optimizer": "adam", "lr_pixels": 0.1},
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("at", [3, 22])
def test_interrupted_and_resumed_is_bit_equal(source, name, at):
    options = {**OPTIONS[name], "ipc": 1}
    assert same(interrupted("iteration", at, lambda progress: run(source, progress, **options)), run(source, **options))


def test_soft_labels_begin_at_an_experts_and_move(source):
    begun, moved = run(source, iterations=1, lr_pixels=1e-12, **(SOFT | {"lr_labels": 0})), run(source, **SOFT)
    assert begun.set.label_kind == "logits" and begun.set.labels.shape == (6, 3)
    expert, last = source.experts[0], TINY.last_epoch
    expected = source.model({**expert.state(last)}, begun.set.images, train=True)
    torch.testing.assert_close(begun.set.labels, expected, rtol=1e-4, atol=1e-5)
    assert float((moved.set.labels - begun.set.labels).abs().max()) > 1e-3


def test_correct_begins_at_images_that_an_expert_classifies(source):
    with pytest.raises(DataError, match=r"(?s)an expert classifies too few images for init: correct.*at least 2"):
        run(source, init="correct")
    patterns = torch.randn(3, *source.model.shape, generator=stream(0, "patterns"))
    y = torch.arange(24) % 3
    x = patterns[y] + 0.3 * torch.randn(24, *source.model.shape, generator=stream(0, "noise"))
    recipe = EXPERT.model_copy(update={"length": "30ep", "lr": 0.3})
    able, _ = train_expert(source.model, Examples(x, y), recipe, STREAMS, "cpu", SILENT)
    wrong = y.clone()
    wrong[:3] = (y[:3] + 1) % 3  # labels that no expert agrees with
    taught = replace(source, train=Examples(x, wrong), experts=[able])
    found = run(taught, init="correct", max_start=29, expert_epochs=1, iterations=1, lr_pixels=1e-12).set
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for bad in x[:3]:
        assert float((found.images - bad).flatten(1).abs().amax(1).min()) > 1e-3


def test_a_factor_makes_more_training_images_of_as_many_stored_ones(source, monkeypatch):
    spy = Spy(monkeypatch)
    found = run(source, ipc=1, factor=2, iterations=3, batch=None)
    assert found.set.images.shape == (3, *source.model.shape) and found.set.count == 12 and found.set.factor == 2
    assert spy.pixels[0].shape[0] == 12 and spy.inner[0].labels.tolist() == [0, 1, 2] * 4
    assert found.cost.images == 3 * 3 * 12


def test_the_step_of_a_stored_image_is_that_of_its_patches_together(source, monkeypatch):
    spy = Spy(monkeypatch)
    first = run(source, ipc=1, factor=2, iterations=1, lr_pixels=1e-12, momentum=0.0).set.images
    spy = Spy(monkeypatch)
    moved = run(source, ipc=1, factor=2, iterations=1, lr_pixels=5.0, momentum=0.0).set.images
    stored = first.clone().requires_grad_()
    (gradient,) = torch.autograd.grad((decode(stored, 2) * spy.matched[0].pixels).sum(), stored)
    torch.testing.assert_close(moved, first - 5.0 * gradient, rtol=1e-4, atol=1e-6)


def test_the_range_of_starts_grows(source, monkeypatch):
    spy = Spy(monkeypatch)
    run(source, iterations=40, first_max_start=1, growth=30)
    starts = [
        next(t for e in source.experts for t in range(3) if torch.equal(e.checkpoints[t], begin)) for begin, _ in spy.ends
    ]
    assert set(starts[:15]) == {0} and set(starts[15:30]) <= {0, 1} and 2 in starts[30:]


def test_the_result_is_the_running_mean(source, monkeypatch):
    spy = Spy(monkeypatch)
    found = run(source, iterations=6, average=0.6)
    last = run(source, iterations=6).set.images
    mean = spy.pixels[0]
    for pixels in [*spy.pixels[1:6], last]:
        mean = 0.6 * mean + 0.4 * pixels
    torch.testing.assert_close(found.set.images, mean, rtol=1e-5, atol=1e-6)
    assert not torch.equal(found.set.images, last)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"first_max_start": 30}, "first_max_start: .* got 30: above min_start 0, and not above max_start 20"),
        ({"growth": 5}, "growth: it changes nothing under these settings"),
        ({"lr_labels": 1.0}, "lr_labels: it changes nothing under these settings"),
        ({"segment": 2, "memory_gb": 2.0}, "memory_gb: it changes nothing under these settings"),
        ({"factor": 0}, "greater than or equal to 1"),
        ({"average": 1.0}, "less than 1"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Settings(**settings)


def test_hard_labels_are_as_before(source):
    assert same(run(source, SILENT), run(source, labels="hard", factor=1, average=0.0))
