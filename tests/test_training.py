"""The training loop against the naive one: batches, schedules, interruption, checkpoints, cost and failure."""

from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from reference import Memory, convnet, examples_of, interrupted, logits, trained_by_hand, uneven
from reference_training import NOISE, N, batches, close, half

from distill_prune.artifacts import Cost, Examples
from distill_prune.errors import NonFiniteError
from distill_prune.models import build_model
from distill_prune.models.lenet import Settings as LeNet
from distill_prune.rng import Streams
from distill_prune.training import Recipe, flops_of_step, train, training_cost
from distill_prune.tree import flatten


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(length="9it", batch=4, lr=0.1, momentum=0.9, weight_decay=0.05, schedule="step", milestones=(0.3, 0.6)),
        Recipe(length="2ep", batch=4, lr=0.1, momentum=0.0, schedule="cosine", warmup="2it", augment="crop+flip"),
        Recipe(
            length="7it", batch=3, lr=0.01, optimizer="adam", weight_decay=0.1, augment="color_crop_cutout_flip_scale_rotate"
        ),
        Recipe(length="3it", batch=50, lr=0.1),
    ],
    ids=["sgd", "cosine", "adam", "batch larger than the set"],
)
def test_the_loop_is_the_naive_loop(recipe, masked):
    model = convnet()
    start, examples, mask = uneven(model), examples_of(model, N), half(model) if masked else None
    found = train(model, start, examples, recipe, NOISE, mask=mask)
    steps = recipe.steps(N)
    path, losses = trained_by_hand(
        logits,
        start,
        batches(examples, recipe, 0, steps),
        [recipe.lr_at(i, N) for i in range(steps)],
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        kept=mask.kept if mask else None,
        adam=recipe.optimizer == "adam",
    )
    close(found.state, path[-1])
    assert any(not torch.equal(found.state[n], start[n]) for n in start)
    per_epoch = math.ceil(N / recipe.batch)
    epochs = [losses[i : i + per_epoch] for i in range(0, steps, per_epoch)]
    assert found.losses == pytest.approx([sum(e) / len(e) for e in epochs], rel=1e-5)  # losses are summed in float32
    if mask:
        assert all(not found.state[n][~kept].any() for n, kept in mask.kept.items())


def test_batch_norm_in_training_mode_is_the_naive_loop():
    model, recipe = convnet(norm="batch"), Recipe(length="5it", batch=4, lr=0.1)
    start, examples = uneven(model), examples_of(model, N)
    found = train(model, start, examples, recipe, NOISE)
    weights = {n: start[n] for n in model.parameters}
    path, _ = trained_by_hand(
        lambda w, x: logits(w, x, norm="batch"), weights, batches(examples, recipe, 0, 5), [0.1] * 5, momentum=0.9
    )
    close(found.state, path[-1])
    assert int(found.state["1.num_batches_tracked"]) == int(start["1.num_batches_tracked"]) + 5
    assert not torch.equal(found.state["1.running_mean"], start["1.running_mean"])


def test_labels_may_be_probabilities():
    model, recipe = convnet(), Recipe(length="6it", batch=4, lr=0.1)
    start, hard = uneven(model), examples_of(model, N)
    soft = Examples(hard.x, torch.rand(N, 3, generator=NOISE("soft"), dtype=torch.float64).softmax(1))
    found = train(model, start, soft, recipe, NOISE)
    path, _ = trained_by_hand(logits, start, batches(soft, recipe, 0, 6), [0.1] * 6, momentum=0.9)
    close(found.state, path[-1])
    one_hot = Examples(hard.x, torch.nn.functional.one_hot(hard.y, 3).double())
    close(train(model, start, one_hot, recipe, NOISE).state, train(model, start, hard, recipe, NOISE).state)


def test_other_noise_is_another_run():
    model, recipe = convnet(), Recipe(length="3it", batch=4, lr=0.1)
    start, examples = uneven(model), examples_of(model, N)
    one, other = (train(model, start, examples, recipe, Streams(0, ("retrain",), (("copy", c),))).state for c in (0, 1))
    assert not torch.equal(one["0.weight"], other["0.weight"])


# -- schedules


def test_rates_of_the_schedules():
    assert [Recipe(length="4it", lr=0.5).lr_at(i, 10) for i in range(4)] == [0.5] * 4
    step = Recipe(length="8it", lr=1.0, schedule="step", milestones=(0.5, 0.75), gamma=0.1)
    assert [step.lr_at(i, 10) for i in range(8)] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01])
    cosine = Recipe(length="4it", lr=1.0, schedule="cosine")
    assert [cosine.lr_at(i, 10) for i in range(4)] == pytest.approx([1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])
    warm = Recipe(length="6it", lr=1.0, schedule="cosine", warmup="2it")
    assert [warm.lr_at(i, 10) for i in range(6)] == pytest.approx([0.5, 1, 1, (1 + 0.5**0.5) / 2, 0.5, (1 - 0.5**0.5) / 2])


def test_epochs_are_counted_in_steps_of_the_set():
    recipe = Recipe(length="2ep", batch=4, lr=1.0, schedule="step", milestones=(0.5,), warmup="1ep")
    assert recipe.steps(11) == 6 and recipe.steps(12) == 6 and recipe.steps(13) == 8
    assert [recipe.lr_at(i, 11) for i in range(6)] == pytest.approx([1 / 3, 2 / 3, 1, 0.1, 0.1, 0.1])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": "3epochs"}, "this is no length of training"),
        ({"warmup": "-1it"}, "this is no length of training"),
        ({"batch": 0}, "greater than"),
        ({"lr": 0}, "greater than 0"),
        ({"momentum": 1.0}, "less than 1"),
        ({"weight_decay": -1}, "greater than or equal"),
        ({"optimizer": "sdg"}, "'sgd', 'adam', 'adamw' or 'sam'"),
        ({"schedule": "lineer"}, "'constant', 'step', 'cosine' or 'linear'"),
        ({"nestrov": True}, "Extra inputs"),
        ({"augment": "fip"}, "unknown augmentation"),
    ],
)
def test_recipes_that_cannot_be_used_are_refused(settings, message):
    with pytest.raises(ValidationError, match=message):
        Recipe(**settings)


def test_first_and_last_are_a_part_of_the_schedule_with_fresh_momentum():
    recipe = Recipe(length="8it", batch=4, lr=0.1, schedule="cosine", augment="crop+flip", weight_decay=0.01)
    model = convnet()
    start, examples = uneven(model), examples_of(model, N)
    head = train(model, start, examples, recipe, NOISE, last=5)
    tail = train(model, head.state, examples, recipe, NOISE, first=5)
    weights = start
    for (first, last), found in (((0, 5), head), ((5, 8), tail)):
        rates = [recipe.lr_at(i, N) for i in range(first, last)]
        steps = batches(examples, recipe, first, last)
        path, _ = trained_by_hand(logits, weights, steps, rates, momentum=0.9, weight_decay=0.01)
        close(found.state, path[-1])
        weights = path[-1]
    assert head.cost + tail.cost == train(model, start, examples, recipe, NOISE).cost


def test_without_momentum_two_parts_are_the_whole_bit_by_bit():
    recipe = Recipe(length="8it", batch=4, lr=0.1, momentum=0.0, schedule="step", augment="crop_flip")
    model = convnet()
    start, examples = uneven(model, dtype=torch.float32), examples_of(model, N, dtype=torch.float32)
    whole = train(model, start, examples, recipe, NOISE).state
    head = train(model, start, examples, recipe, NOISE, last=3).state
    tail = train(model, head, examples, recipe, NOISE, first=3).state
    assert all(torch.equal(whole[n], tail[n]) for n in whole)


# -- interruption


@pytest.mark.parametrize("at", [1, 3, 4, 8])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"optimizer": "adam"},
        {"optimizer": "adamw", "schedule": "linear", "warmup": "2it", "cutmix": 0.5, "precision": "bfloat16"},
        {"nesterov": True, "label_smoothing": 0.1, "cutmix": 0.5, "cutmix_beta": 0.5, "precision": "bfloat16"},
    ],
    ids=["sgd", "adam", "adamw", "nesterov"],
)
def test_interrupted_and_resumed_is_bit_equal(at, options):
    model = convnet(norm="batch")
    recipe = Recipe(length="3ep", batch=4, lr=0.05, weight_decay=0.01, augment="crop+flip", **options)
    start, examples, mask = uneven(model, dtype=torch.float32), examples_of(model, N, dtype=torch.float32), half(model)

    def task(progress=None):
        more = {} if progress is None else {"progress": progress}
        return train(model, start, examples, recipe, NOISE, mask=mask, keep_epochs=True, **more)

    whole, resumed = task(), interrupted("step", at, task)
    assert list(whole.state) == list(resumed.state)
    assert all(torch.equal(t, resumed.state[n]) for n, t in whole.state.items())
    assert torch.equal(whole.checkpoints, resumed.checkpoints) and len(whole.checkpoints) == 4
    assert (whole.losses, whole.cost) == (resumed.losses, resumed.cost) and len(whole.losses) == 3


def test_a_part_that_is_interrupted_too():
    model, recipe = convnet(), Recipe(length="3ep", batch=4, lr=0.05)
    start, examples = uneven(model), examples_of(model, N)
    part = lambda progress: train(model, start, examples, recipe, NOISE, first=2, last=8, progress=progress)  # noqa: E731
    whole, resumed = part(Memory()), interrupted("step", 5, part)
    assert all(torch.equal(t, resumed.state[n]) for n, t in whole.state.items()) and whole.losses == resumed.losses


def test_rows_of_the_checkpoints_are_epoch_ends():
    model, recipe = convnet(), Recipe(length="3ep", batch=4, lr=0.1)
    start, examples = uneven(model), examples_of(model, N)
    found = train(model, start, examples, recipe, NOISE, keep_epochs=True)
    path, _ = trained_by_hand(logits, start, batches(examples, recipe, 0, 9), [0.1] * 9, momentum=0.9)
    assert found.checkpoints.shape == (4, flatten(start).numel())
    for row, step in zip(found.checkpoints, (0, 3, 6, 9), strict=True):
        torch.testing.assert_close(row, flatten(path[step], model.parameters), rtol=1e-10, atol=1e-12)
    assert train(model, start, examples, recipe, NOISE).checkpoints is None


# -- cost


@pytest.mark.parametrize(("n", "batch"), [(11, 4), (12, 4), (3, 8), (9, 1)])
def test_cost_is_the_sum_over_batches(n, batch):
    model = build_model(LeNet(hidden=(5,)), (1, 4, 4), 3)
    shape = torch.Size((1, 4, 4))
    per_epoch = math.ceil(n / batch)
    for first, last in [(0, 1), (0, per_epoch), (1, 2 * per_epoch), (2, 3), (3, 3 * per_epoch + 1), (per_epoch, per_epoch)]:
        if first > last:
            continue
        total = Cost()
        for step in range(first, last):
            size = len(list(range(n))[step % per_epoch * batch :][:batch])
            # forward: 2 * 16 * 5 + 2 * 5 * 3; backward: both again for the weights, and the second for its inputs
            total += Cost(size, 1, size * (2 * 16 * 5 * 2 + 2 * 5 * 3 * 3))
        assert training_cost(model, n, shape, batch, first, last) == total


def test_a_trained_state_says_what_it_cost_masked_or_not():
    model = convnet()
    start, examples, recipe = uneven(model), examples_of(model, N), Recipe(length="4it", batch=4, lr=0.1)
    full, short = (flops_of_step(model, size, examples.shape) for size in (4, 3))
    for mask in (None, half(model)):
        assert train(model, start, examples, recipe, NOISE, mask=mask).cost == Cost(4 + 4 + 3 + 4, 4, 3 * full + short)


# -- failure


@pytest.mark.parametrize(("poison", "epoch"), [(lambda x: x.fill_(float("nan")), 1), (lambda x: x.mul_(1e300), 1)])
def test_a_loss_that_is_not_finite_fails_by_its_epoch(poison, epoch):
    model, examples = convnet(norm="none"), examples_of(convnet(norm="none"), N)
    poison(examples.x)
    with pytest.raises(NonFiniteError, match=f"the training loss is not finite in epoch {epoch}") as found:
        train(model, uneven(model), examples, Recipe(length="2ep", batch=4, lr=1e10), NOISE)
    assert "a smaller learning rate" in str(found.value)
