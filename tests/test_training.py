from __future__ import annotations

import math

import pytest
import torch
from pydantic import ValidationError
from reference import Memory, convnet, cross_entropy, examples_of, interrupted, logits, trained_by_hand, uneven

from distill_prune.artifacts import Cost, Examples, Mask
from distill_prune.data import cutmix
from distill_prune.data.augment import apply, draw
from distill_prune.errors import NonFiniteError
from distill_prune.models import build_model
from distill_prune.models.lenet import Settings as LeNet
from distill_prune.rng import Streams
from distill_prune.training import Recipe, evaluate, flops_of_step, train, training_cost
from distill_prune.tree import flatten

NOISE = Streams(0, ("retrain",), (("copy", 1),))
N = 11


def half(model, seed=5) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    return Mask({n: torch.rand(model.module.get_parameter(n).shape, generator=generator) < 0.5 for n in model.prunable})


def batches(examples, recipe, first, last):
    """The batch of every step, one after the other, from the streams that the loop promises."""
    n, out = len(examples), []
    per_epoch = math.ceil(n / recipe.batch)
    for step in range(first, last):
        order = torch.randperm(n, generator=NOISE("order", epoch=step // per_epoch)).tolist()
        rows = order[step % per_epoch * recipe.batch :][: recipe.batch]
        x = torch.stack([examples.x[r] for r in rows])
        if recipe.augment != "none":
            x = apply(x, draw(recipe.augment, x.shape, NOISE("augment", step=step)))
        out.append((x, torch.stack([examples.y[r] for r in rows])))
    return out


def close(state, by_hand) -> None:
    for name, tensor in by_hand.items():
        assert state[name].dtype == torch.float64
        torch.testing.assert_close(state[name], tensor, rtol=1e-10, atol=1e-12)


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


# -- the loss and the optimizer of the recipe


def loss_by_hand(out, y, recipe, cut):
    """Cross-entropy with targets written out: probabilities, mixed by area, then smoothed."""
    classes = out.shape[1]
    p = torch.stack([torch.eye(classes, dtype=out.dtype)[int(c)] for c in y]) if y.dim() == 1 else y
    if cut is not None:
        p = torch.stack([cut.share * p[i] + (1 - cut.share) * p[pair] for i, pair in enumerate(cut.pairs.tolist())])
    p = (1 - recipe.label_smoothing) * p + recipe.label_smoothing / classes
    return -(p * out.log_softmax(1)).sum() / len(out)


def optimized_by_hand(start, examples, recipe, kept):
    """Weights after the last step, every step's loss and CutMix; one line of a paper after the other."""
    w, losses, cuts, lrs = dict(start), [], [], [recipe.lr_at(i, N) for i in range(recipe.steps(N))]
    first, second = ({n: torch.zeros_like(t) for n, t in w.items()} for _ in range(2))
    for i, ((x, y), lr) in enumerate(zip(batches(examples, recipe, 0, len(lrs)), lrs, strict=True)):
        cut = cutmix.draw(recipe.cutmix, recipe.cutmix_beta, x.shape, NOISE("cutmix", step=i)) if recipe.cutmix else None
        leaves = {n: (t * kept[n] if n in kept else t).detach().requires_grad_() for n, t in w.items()}
        out = logits(leaves, x if cut is None else cutmix.apply(x, cut), norm="none")
        loss = loss_by_hand(out, y, recipe, cut)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        for (n, old), g in zip(leaves.items(), gradients, strict=True):
            decay, old = recipe.weight_decay, old.detach()
            if recipe.optimizer == "adamw":
                first[n], second[n] = 0.9 * first[n] + 0.1 * g, 0.999 * second[n] + 0.001 * g**2
                root = (second[n] / (1 - 0.999 ** (i + 1))).sqrt()
                w[n] = old - lr * decay * old - lr * first[n] / (1 - 0.9 ** (i + 1)) / (root + 1e-8)
            else:
                g = g + decay * old
                first[n] = recipe.momentum * first[n] + g
                w[n] = old - lr * (g + recipe.momentum * first[n] if recipe.nesterov else first[n])
            w[n] = w[n] * kept[n] if n in kept else w[n]
        losses.append(float(loss.detach()))
        cuts.append(cut)
    return w, losses, cuts


OPTIONS = {
    "adamw": Recipe(
        length="8it", batch=4, optimizer="adamw", lr=0.01, weight_decay=2.0, schedule="linear", warmup="2it", cutmix=1.0
    ),
    "nesterov": Recipe(
        length="8it",
        batch=4,
        lr=0.05,
        nesterov=True,
        weight_decay=0.05,
        label_smoothing=0.1,
        cutmix=0.5,
        cutmix_beta=2.0,
        augment="crop+flip",
    ),
    "smoothing": Recipe(length="3ep", batch=4, lr=0.1, momentum=0.5, label_smoothing=0.3),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("name", OPTIONS)
def test_options_of_the_recipe_are_the_naive_loop(name, soft, masked):
    model, recipe = convnet(norm="none"), OPTIONS[name]  # before a norm, a bias has rounding for a gradient: adamw grows it
    start, examples, mask = uneven(model), examples_of(model, N), half(model) if masked else None
    if soft:
        examples = Examples(examples.x, torch.rand(N, 3, generator=NOISE("soft"), dtype=torch.float64).softmax(1))
    found = train(model, start, examples, recipe, NOISE, mask=mask)
    by_hand, losses, cuts = optimized_by_hand(start, examples, recipe, mask.kept if mask else {})
    close(found.state, by_hand)
    per_epoch = math.ceil(N / recipe.batch)
    epochs = [losses[i : i + per_epoch] for i in range(0, len(losses), per_epoch)]
    assert found.losses == pytest.approx([sum(e) / len(e) for e in epochs], rel=1e-5)
    shares = {None if cut is None else cut.share for cut in cuts}
    assert (None in shares) == (recipe.cutmix < 1) and (len(shares) > 2) == (recipe.cutmix > 0)
    assert found.cost == train(model, start, examples, Recipe(length=recipe.length, batch=4), NOISE).cost
    if mask:
        assert all(not found.state[n][~kept].any() for n, kept in mask.kept.items())


def lenet_logits(w, x, dtype):
    """LeNet with one hidden layer, every product's factors rounded to `dtype`, and its result too."""
    h = x.flatten(1)
    for layer, name in enumerate(("1", "3")):
        h = torch.nn.functional.linear(h.to(dtype), w[f"{name}.weight"].to(dtype), w[f"{name}.bias"].to(dtype))
        h = h.relu() if layer == 0 else h
    return h.float()


def test_bfloat16_rounds_the_products_alone():
    model = build_model(LeNet(hidden=(5,)), (1, 4, 4), 3)
    start, examples = uneven(model, dtype=torch.float32), examples_of(model, N, dtype=torch.float32)
    recipe = Recipe(length="6it", batch=4, lr=0.05, precision="bfloat16")
    found = train(model, start, examples, recipe, NOISE).state
    assert set(start) == {"1.weight", "1.bias", "3.weight", "3.bias"}
    paths = {
        dtype: trained_by_hand(
            lambda w, x, dtype=dtype: lenet_logits(w, x, dtype),
            start,
            batches(examples, recipe, 0, 6),
            [0.05] * 6,
            momentum=0.9,
        )[0][-1]
        for dtype in (torch.bfloat16, torch.float32)
    }
    for n, tensor in found.items():
        assert tensor.dtype == torch.float32
        torch.testing.assert_close(tensor, paths[torch.bfloat16][n], rtol=1e-5, atol=1e-6)
    assert any((found[n] - paths[torch.float32][n]).abs().max() > 1e-4 for n in found)
    torch.testing.assert_close(found, paths[torch.float32], rtol=0.05, atol=0.05)


@pytest.mark.parametrize("norm", ["instance", "batch", "none"])
def test_bfloat16_is_deterministic_and_evaluation_is_not_in_it(norm):
    model = convnet(depth=2, norm=norm, width=8, side=8)
    start, examples = uneven(model, dtype=torch.float32), examples_of(model, N, dtype=torch.float32)
    full = Recipe(length="6it", batch=4, lr=0.05, cutmix=0.5, augment="crop+flip")
    half_precision = Recipe(**{**full.model_dump(), "precision": "bfloat16"})
    one, again = (train(model, start, examples, half_precision, NOISE, mask=half(model)) for _ in range(2))
    assert all(torch.equal(t, again.state[n]) for n, t in one.state.items()) and one.losses == again.losses
    other = train(model, start, examples, full, NOISE, mask=half(model))
    assert {n: t.dtype for n, t in one.state.items()} == {n: t.dtype for n, t in start.items()}
    assert any(not torch.equal(t, other.state[n]) for n, t in one.state.items())
    assert one.losses == pytest.approx(other.losses, rel=0.05) and one.cost == other.cost
    assert all(not one.state[n][~kept].any() for n, kept in half(model).kept.items())
    score = evaluate(model, one.state, examples)
    assert score.loss == pytest.approx(float(cross_entropy(model(one.state, examples.x), examples.y)), rel=1e-6)


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
        ({"length": "3epochs"}, "written like 500it"),
        ({"warmup": "-1it"}, "written like 500it"),
        ({"batch": 0}, "greater than"),
        ({"lr": 0}, "greater than 0"),
        ({"momentum": 1.0}, "less than 1"),
        ({"weight_decay": -1}, "greater than or equal"),
        ({"optimizer": "sdg"}, "'sgd', 'adam' or 'adamw'"),
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


# -- evaluation


@pytest.mark.parametrize("batch", [512, 4, 1])
def test_evaluation_is_the_plain_formula(batch):
    model = convnet()
    state, examples = uneven(model), examples_of(model, 30)
    out = logits(state, examples.x)
    wrong = sum(int(row.tolist().index(max(row.tolist())) != y) for row, y in zip(out, examples.y.tolist(), strict=True))
    score = evaluate(model, state, examples, batch=batch)
    assert score.loss == pytest.approx(float(cross_entropy(out, examples.y)), rel=1e-12)
    assert (score.error, score.count) == (wrong / 30, 30) and 0 < wrong < 30


def test_modes_do_not_leak_and_nothing_is_changed():
    model = convnet(norm="batch")
    state, examples = uneven(model), examples_of(model, N)
    state["1.running_mean"] = state["1.running_mean"] + 3
    before = {n: t.clone() for n, t in state.items()}
    mean, var = (state[f"1.{n}"].view(1, -1, 1, 1) for n in ("running_mean", "running_var"))
    x = torch.nn.functional.conv2d(examples.x, state["0.weight"], state["0.bias"], padding=1)
    x = (x - mean) / (var + 1e-5).sqrt() * state["1.weight"].view(1, -1, 1, 1) + state["1.bias"].view(1, -1, 1, 1)
    out = torch.nn.functional.avg_pool2d(x.relu(), 2).flatten(1) @ state["5.weight"].T + state["5.bias"]
    expected = float(cross_entropy(out, examples.y))
    assert evaluate(model, state, examples).loss == pytest.approx(expected)
    train(model, state, examples, Recipe(length="2it", batch=4, lr=0.1), NOISE)
    model({n: t.clone() for n, t in state.items()}, examples.x, train=True)
    assert evaluate(model, state, examples).loss == pytest.approx(expected)
    assert all(torch.equal(t, before[n]) for n, t in state.items())


def test_training_after_an_evaluation_is_in_training_mode():
    model, recipe = convnet(norm="batch"), Recipe(length="3it", batch=4, lr=0.1)
    start, examples = uneven(model), examples_of(model, N)
    first = train(model, start, examples, recipe, NOISE).state
    evaluate(model, start, examples)
    again = train(model, start, examples, recipe, NOISE).state
    assert all(torch.equal(t, again[n]) for n, t in first.items())


def test_other_noise_is_another_run():
    model, recipe = convnet(), Recipe(length="3it", batch=4, lr=0.1)
    start, examples = uneven(model), examples_of(model, N)
    one, other = (train(model, start, examples, recipe, Streams(0, ("retrain",), (("copy", c),))).state for c in (0, 1))
    assert not torch.equal(one["0.weight"], other["0.weight"])
