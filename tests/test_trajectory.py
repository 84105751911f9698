from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from reference import Memory, convnet, examples_of, interrupted

from distill_prune.artifacts import Trajectory, Transform
from distill_prune.distill import METHODS, Source, last_epoch, trajectory
from distill_prune.distill.experts import train_expert
from distill_prune.distill.outer import KEEP_EVERY, TRIES
from distill_prune.distill.trajectory import Settings, distill
from distill_prune.distill.unroll import matching_gradient
from distill_prune.errors import DataError, NonFiniteError
from distill_prune.progress import SILENT
from distill_prune.rng import Streams
from distill_prune.training import Recipe

STREAMS = Streams(0, ("distill",))
EXPERT = Recipe(length="4ep", batch=8, lr=0.05, momentum=0.0)
TINY = Settings(
    ipc=2,
    iterations=24,
    inner_steps=3,
    expert_epochs=1,
    max_start=3,
    batch=4,
    augment="crop+flip",
    inner_lr=0.05,
    lr_pixels=5.0,
    lr_log_lr=0.01,
    segment=1,
)


def expert(model, examples, seed=0):
    return train_expert(model, examples, EXPERT, Streams(seed, ("experts",), (("index", 0),)), "cpu", SILENT)[0]


def source_of(norm="instance") -> Source:
    model = convnet(norm=norm)
    examples = examples_of(model, 24, dtype=torch.float32)
    transform = Transform("normalize", {"mean": torch.zeros(1), "std": torch.ones(1)})
    return Source(examples, ("a", "b", "c"), transform, model, [expert(model, examples, s) for s in (0, 1)])


@pytest.fixture(scope="module")
def source() -> Source:
    return source_of()


def run(source, progress=SILENT, streams=STREAMS, **changes):
    return distill(TINY.model_copy(update=changes), source, streams, "cpu", progress)


def same(a, b) -> bool:
    return (
        torch.equal(a.set.images, b.set.images)
        and a.set.lr == b.set.lr
        and a.record == b.record
        and a.cost == b.cost
        and torch.equal(a.set.labels, b.set.labels)
    )


class Spy:
    """Stands before `matching_gradient`: remembers what it is asked, and spoils the answer where `spoil` says so."""

    def __init__(self, monkeypatch, spoil=lambda spy, inner: None) -> None:
        self.inner, self.ends, self.pixels, self.log_lr, self.losses, self.matched = [], [], [], [], [], []
        self.spoil, self.spoiled = spoil, 0
        monkeypatch.setattr(trajectory, "matching_gradient", self)

    def __call__(self, inner, start, target, **places):
        matched = matching_gradient(inner, start, target, **places)
        if len(inner.batches) < TINY.inner_steps:  # the count of operations
            return matched
        self.inner.append(inner)
        self.ends.append((start.clone(), target.clone()))
        self.pixels.append(inner.pixels.detach().clone())
        self.log_lr.append(float(inner.log_lr.detach()))
        self.losses.append(float(matched.loss))
        self.matched.append(matched)
        if (name := self.spoil(self, inner)) is not None:
            self.spoiled += 1
            return replace(matched, **{name: getattr(matched, name) * float("nan")})
        return matched


# -- interruption


@pytest.mark.parametrize("at", [1, 7, 20, 23])
@pytest.mark.parametrize("outer", [{}, {"optimizer": "adam", "lr_pixels": 0.1, "decay": "cosine"}])
def test_interrupted_and_resumed_is_bit_equal(source, at, outer):
    assert same(interrupted("iteration", at, lambda progress: run(source, progress, **outer)), run(source, **outer))


@pytest.mark.parametrize(
    "inner", [{"inner": "adam", "segment": "auto", "inner_lr": 0.01}, {"inner_momentum": 0.5, "batch": None}]
)
def test_inner_adam_and_momentum_resume_too(source, inner):
    task = lambda progress: run(source, progress, iterations=8, **inner)  # noqa: E731
    assert same(interrupted("iteration", 3, task), task(SILENT))


def test_resuming_goes_on_and_does_not_begin_again(source, monkeypatch):
    spy = Spy(monkeypatch)
    interrupted("iteration", 7, lambda progress: run(source, progress))
    assert len(spy.inner) == TINY.iterations


def test_segments_change_no_more_than_rounding(source):
    one, whole = run(source, iterations=5, segment=1), run(source, iterations=5, segment=3)
    torch.testing.assert_close(one.set.images, whole.set.images, rtol=1e-4, atol=1e-5)
    assert one.cost == whole.cost


@pytest.mark.parametrize("decay", ["none", "cosine"])
def test_the_outer_steps_are_momentum_sgd_by_hand(source, monkeypatch, decay):
    spy = Spy(monkeypatch)
    run(source, momentum=0.5, decay=decay, lr_log_lr=0.02, iterations=8)
    v_pixels, v_rate = 0, 0
    for i in range(7):
        share = (1 + math.cos(math.pi * i / 8)) / 2 if decay == "cosine" else 1
        v_pixels, v_rate = 0.5 * v_pixels + spy.matched[i].pixels, 0.5 * v_rate + float(spy.matched[i].log_lr)
        torch.testing.assert_close(spy.pixels[i + 1], spy.pixels[i] - 5 * share * v_pixels)
        assert spy.log_lr[i + 1] == pytest.approx(spy.log_lr[i] - 0.02 * share * v_rate, rel=1e-5)
    assert spy.log_lr[0] == pytest.approx(math.log(TINY.inner_lr))


# -- the guard


def test_a_bad_gradient_goes_back_to_the_last_good_state_with_half_the_step(source, monkeypatch):
    outer = {"momentum": 0.0}
    calm = Spy(monkeypatch)
    run(source, **outer)
    spy = Spy(monkeypatch, lambda spy, inner: "pixels" if len(spy.inner) == 23 else None)  # iteration 22, once
    found = run(source, **outer)
    assert found.record["rollbacks"] == spy.spoiled == 1
    assert torch.equal(spy.pixels[22], calm.pixels[22])
    assert torch.equal(spy.pixels[23], calm.pixels[KEEP_EVERY])
    full, half = calm.pixels[21] - calm.pixels[20], spy.pixels[24] - spy.pixels[23]
    assert float(full.norm()) > 0
    torch.testing.assert_close(half, full / 2, rtol=1e-3, atol=1e-5)
    assert spy.log_lr[24] - spy.log_lr[23] == pytest.approx((calm.log_lr[21] - calm.log_lr[20]) / 2, rel=1e-3)
    assert found.record["iteration"] == [10, 20, 24]
    assert len(spy.inner) == TINY.iterations + 23 - KEEP_EVERY


def test_the_record_is_the_mean_loss_of_ten_iterations_that_stood(source, monkeypatch):
    spy = Spy(monkeypatch, lambda spy, inner: "loss" if len(spy.inner) == 36 else None)  # iteration 35 of 40, once
    found = run(source, iterations=40)
    stood = spy.losses[:20] + spy.losses[36:]  # iterations 20..34 were undone
    assert len(stood) == 40 and found.record["iteration"] == [10, 20, 30, 40]
    assert found.record["loss"] == pytest.approx([sum(stood[i : i + 10]) / 10 for i in (0, 10, 20, 30)])


@pytest.mark.parametrize("at", [8, 22])
def test_interrupted_between_a_return_and_the_end_is_bit_equal(source, monkeypatch, at):
    # A guard that depends on the state alone: the first full steps are too long, the halved ones are not.
    begun = run(source, iterations=1, lr_pixels=1e-9).set.images

    def spoil(spy, inner):
        return "pixels" if float((inner.pixels.detach() - begun).norm()) > limit else None

    calm = Spy(monkeypatch)
    run(source)
    gaps = [float((p - begun).norm()) for p in calm.pixels]
    limit = sorted(gaps)[-8]
    Spy(monkeypatch, spoil)
    undisturbed = run(source)
    assert undisturbed.record["rollbacks"] >= 1
    assert same(interrupted("iteration", at, lambda progress: run(source, progress)), undisturbed)


@pytest.mark.parametrize(
    ("field", "name"), [("loss", "matching loss"), ("pixels", "pixel gradient"), ("log_lr", "gradient of log eta")]
)
def test_it_fails_naming_the_tensor_after_bounded_tries(source, monkeypatch, field, name):
    spy = Spy(monkeypatch, lambda spy, inner: field)
    with pytest.raises(NonFiniteError, match=f"the {name} is not finite at iteration 0, after {TRIES} returns") as found:
        run(source)
    assert len(spy.inner) == TRIES + 1
    assert "lr_pixels" in str(found.value) and f"pixel step {TINY.lr_pixels / 2**TRIES:.3g}" in str(found.value)


def test_an_expert_that_does_not_move_fails_by_name(source):
    row = source.experts[0].checkpoints[0]
    still = Trajectory(torch.stack([row] * 5), source.experts[0].shapes)
    with pytest.raises(NonFiniteError, match="the matching loss is not finite"):
        run(replace(source, experts=[still]))


def test_pixel_steps_out_of_reach_of_float32_fail_by_name():
    """A true overflow: the first step throws the images so far that the next loss is not a number."""
    flat = source_of("none")
    with pytest.raises(NonFiniteError, match=rf"the matching loss is not finite at iteration \d+, after {TRIES} returns"):
        run(flat, lr_pixels=1e36)
    assert run(flat, iterations=3).record["rollbacks"] == 0


# -- settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"min_start": 5, "max_start": 5}, "min_start: .* got 5: below max_start 5"),
        ({"inner": "adam", "inner_momentum": 0.5}, "leave out inner_momentum and segment"),
        ({"inner": "adam", "segment": 2}, "leave out inner_momentum and segment"),
        ({"segment": 0}, "segment: .* got 0: auto, or a whole number of at least 1"),
        ({"ipc": 0}, "greater than or equal to 1"),
        ({"inner_lr": 0}, "greater than 0"),
        ({"lr_pixels": float("inf")}, "finite number"),
        ({"momentum": 1}, "less than 1"),
        ({"augment": "croop+flip"}, "unknown augmentation 'croop'"),
        ({"syn_steps": 3}, "Extra inputs are not permitted"),
    ],
)
def test_settings_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Settings(**settings)


def test_the_last_epoch_that_matching_can_use():
    assert last_epoch(Settings(max_start=3, expert_epochs=2)) == 4  # starts 0, 1, 2; the last target is epoch 4
    assert Settings(max_start=3, expert_epochs=2).last_epoch == 4 and last_epoch(METHODS["subset"].Settings()) == 0


@pytest.mark.parametrize("name", sorted(set(METHODS) - {"embedding"}))
def test_more_images_per_class_than_a_class_has(source, name):
    method = METHODS[name]
    with pytest.raises(DataError, match="9 examples per class are more than class 'a' has") as found:
        method.distill(method.Settings(ipc=9), source, STREAMS, "cpu", SILENT)
    assert "at most 8" in str(found.value)


# -- what comes out


def test_the_set_is_class_major_and_begins_at_real_images(source):
    found = run(source, iterations=1, lr_pixels=1e-12).set
    assert found.labels.tolist() == [0, 0, 1, 1, 2, 2]
    for image, label in zip(found.images, found.labels, strict=True):
        own = source.train.x[source.train.y == label]
        assert min(float((image - x).abs().max()) for x in own) < 1e-6
    assert len(found.images.flatten(1).unique(dim=0)) == 6  # without replacement


def test_noise_begins_elsewhere(source):
    images = run(source, iterations=1, lr_pixels=1e-12, init="noise").set.images
    assert min(float((images[0] - x).abs().max()) for x in source.train.x) > 0.1


@pytest.mark.parametrize("lr_log_lr", [0.0, 0.5, 20.0])
def test_the_learned_rate_stays_positive(source, lr_log_lr):
    rates = run(source, lr_log_lr=lr_log_lr, iterations=12, optimizer="adam", lr_pixels=0.01)
    assert all(rate > 0 for rate in rates.record["lr"]) and rates.set.lr > 0
    assert (rates.set.lr == pytest.approx(TINY.inner_lr)) == (lr_log_lr == 0)


def test_matching_comes_nearer_and_the_cost_is_counted(source):
    found = run(source, iterations=40)
    assert found.record["loss"][-1] < 0.9 * found.record["loss"][0]
    assert (found.cost.images, found.cost.steps) == (40 * 3 * 4, 40 * 3)
    assert found.cost.flops == 40 * run(source, iterations=1).cost.flops > 0


def test_batch_statistics_of_the_model_itself_are_left_alone():
    source = source_of("batch")
    before = {n: t.clone() for n, t in source.model.module.state_dict().items()}
    again = run(source, iterations=3), run(source, iterations=3)
    assert all(torch.equal(t, before[n]) for n, t in source.model.module.state_dict().items())
    assert same(*again)


# -- draws


def calls(spy):
    return [
        (
            [b.rows.tolist() for b in i.batches],
            [{f: {n: t.tolist() for n, t in p.items()} for f, p in b.draw.parameters.items()} for b in i.batches],
            e[0].tolist(),
            e[1].tolist(),
        )
        for i, e in zip(spy.inner, spy.ends, strict=True)
    ]


def test_draws_depend_on_the_iteration_alone(source, monkeypatch):
    spy = Spy(monkeypatch)
    run(source, iterations=12)
    first = calls(spy)
    torch.rand(100)
    memory = Memory()
    run(source, memory, iterations=12)
    memory.snapshots = memory.snapshots[:5]  # as after a death between the saves of iterations 5 and 6
    spy = Spy(monkeypatch)
    run(source, memory, iterations=12, lr_pixels=1.0)
    assert calls(spy) == first[5:]
    rows, draws, *_ = ({str(c[k]) for c in first} for k in range(4))
    assert len(rows) == len(first) and len(draws) == len(first)


def test_batches_walk_through_permutations(source, monkeypatch):
    spy = Spy(monkeypatch)
    run(source, iterations=4)
    for rows, *_ in calls(spy):
        assert [len(r) for r in rows] == [4, 2, 4]
        assert sorted(rows[0] + rows[1]) == list(range(6))


def test_ends_are_checkpoints_m_epochs_apart_of_every_expert_and_start(source, monkeypatch):
    spy = Spy(monkeypatch)
    run(source, iterations=40, min_start=1, expert_epochs=2)
    places = {(k, t): (e.checkpoints[t], e.checkpoints[t + 2]) for k, e in enumerate(source.experts) for t in (1, 2)}
    met = {place for end in spy.ends for place, pair in places.items() if all(map(torch.equal, end, pair))}
    assert met == set(places)
    assert all(any(all(map(torch.equal, end, pair)) for pair in places.values()) for end in spy.ends)
