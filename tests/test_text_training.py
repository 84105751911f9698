"""Training on sentences, against the same by hand: batches by length, clipping, the head's rate, what is frozen or refused."""

from __future__ import annotations

import copy
import math

import pytest
import tiny_bert
import tiny_text
import torch
import torch.nn.functional as F
from reference import convnet, examples_of, interrupted, uneven
from reference_training import NOISE, half

from distill_prune import objective
from distill_prune.artifacts import Examples
from distill_prune.errors import UserError
from distill_prune.rng import stream
from distill_prune.training import (
    Recipe,
    epoch_order,
    evaluate,
    flops_of_examples,
    flops_of_step,
    outputs,
    train,
    training_cost,
)
from distill_prune.training import run as training_run
from distill_prune.training.feeds import Feeds

pytest.importorskip("transformers")

SORTED = Recipe(length="1ep", batch=4, batches="by_length")
ADAMW = Recipe(length="5it", batch=4, optimizer="adamw", lr=3e-3, weight_decay=0.1, schedule="linear")
N = 11

directory = pytest.fixture(scope="module")(tiny_bert.made)
model = pytest.fixture(scope="module")(tiny_text.model)


def start_of(model, dtype=torch.float64):
    """The pre-trained weights with a head that matters."""
    state = {n: t.to(dtype) for n, t in model.fresh(0, "init").items()}
    return {n: 20 * t if n in model.head else t for n, t in state.items()}


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(t, b[n]) for n, t in a.items())


def close(found, by_hand):
    for name, tensor in by_hand.items():
        assert found[name].dtype == torch.float64
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-11)


# -- batches by length


@pytest.mark.parametrize("n", [3, 8, 11, 410, 423])
def test_batches_of_about_one_length(n):
    """423 sentences in batches of 4 are two whole pools and a rest."""
    examples = tiny_text.many(n)
    lengths = [int((row[1] > 0).sum()) for row in examples.x]
    order = epoch_order(examples, SORTED, stream(0, "order")).tolist()
    assert sorted(order) == list(range(n))
    batches = [order[i : i + 4] for i in range(0, n, 4)]
    assert [len(b) for b in batches[:-1]] == [4] * (len(batches) - 1)
    # the slow twin: a random order, cut into pools of 50 batches, each sorted by length, cut into batches
    drawn = torch.randperm(n, generator=stream(0, "order")).tolist()
    expected = []
    for begin in range(0, n, 200):
        pool = sorted(drawn[begin : begin + 200], key=lambda row: lengths[row])  # stable, as the loop's sort is
        expected += [pool[i : i + 4] for i in range(0, len(pool), 4)]
    assert sorted(map(tuple, batches)) == sorted(map(tuple, expected))
    if n % 4:
        assert batches[-1] == expected[-1] and len(batches[-1]) == n % 4
    if n > 400:
        spread = sum(max(lengths[r] for r in b) - min(lengths[r] for r in b) for b in batches) / len(batches)
        assert spread < 0.5 and batches[:100] != expected[:100], "full batches come in another order than by length"
        firsts = [lengths[b[0]] for b in batches[:40]]
        assert firsts != sorted(firsts)


def test_batches_are_the_stream_s_and_another_epoch_s_are_others():
    examples = tiny_text.many(40)
    first, again, other = (epoch_order(examples, SORTED, NOISE("order", epoch=e)) for e in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first, epoch_order(examples, Recipe(batch=4), NOISE("order", epoch=0)))
    assert first.device.type == "cpu"


def test_training_visits_batches_by_length(model, monkeypatch):
    examples, seen = tiny_text.many(N), []
    real = Feeds._of_one
    monkeypatch.setattr(Feeds, "_of_one", lambda f, drawn: (seen.append(drawn.rows[0].tolist()), real(f, drawn))[1])
    train(model, start_of(model), examples, SORTED.model_copy(update={"length": "2ep"}), NOISE)
    orders = [epoch_order(examples, SORTED, NOISE("order", epoch=e)) for e in (0, 1)]
    assert seen == [rows.tolist() for order in orders for rows in torch.split(order, 4)]


@pytest.mark.parametrize("x", ["images", "embeddings"])
def test_batches_by_length_are_of_sentences(directory, x):
    network = convnet() if x == "images" else tiny_text.model_of(directory, shape=(5, 16))
    shape = (1, 4, 4) if x == "images" else (5, 16)
    examples = Examples(torch.randn(N, *shape), torch.arange(N) % 2)
    with pytest.raises(UserError, match="by_length groups sentences, and these examples are none"):
        train(network, network.fresh(0, "init"), examples, SORTED, NOISE)


# -- steps by hand


def by_hand(model, start, examples, recipe, *, groups=None, clip=None, kept=None):
    """The loop with torch's optimizer on the rows of `epoch_order`, a gradient of every trained tensor at a time."""
    module = copy.deepcopy(model.module).double()
    module.load_state_dict(start)
    held = dict(module.named_parameters())
    names = [n for n in held if n not in {m for m in held if m.startswith("bert.embeddings.")}]
    rates = {n: (groups or {}).get(n, recipe.lr) for n in names}
    first, second = ({n: torch.zeros_like(held[n]) for n in names} for _ in range(2))
    kept = kept or {}
    with torch.no_grad():
        for n, k in kept.items():
            held[n].mul_(k)
    total, per_epoch = recipe.steps(len(examples)), math.ceil(len(examples) / recipe.batch)
    for step in range(total):
        order = epoch_order(examples, recipe, NOISE("order", epoch=step // per_epoch))
        rows = order[step % per_epoch * recipe.batch :][: recipe.batch]
        loss = F.cross_entropy(module(examples.x[rows]), examples.y[rows])
        found = dict(zip(names, torch.autograd.grad(loss, [held[n] for n in names]), strict=True))
        found = {n: g * kept[n] if n in kept else g for n, g in found.items()}
        if clip is not None:
            norm = math.sqrt(sum(float((g**2).sum()) for g in found.values()))
            found = {n: g * min(1.0, clip / (norm + 1e-6)) for n, g in found.items()}
        with torch.no_grad():
            for n, g in found.items():
                lr = rates[n] * (total - step) / total if recipe.schedule == "linear" else rates[n]
                if recipe.optimizer == "sgd":
                    first[n] = recipe.momentum * first[n] + g + recipe.weight_decay * held[n]
                    held[n] -= lr * first[n]
                else:
                    first[n] = 0.9 * first[n] + 0.1 * g
                    second[n] = 0.999 * second[n] + 0.001 * g**2
                    held[n].mul_(1 - lr * recipe.weight_decay)
                    root = (second[n] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
                    held[n] -= lr * first[n] / (1 - 0.9 ** (step + 1)) / root
                if n in kept:
                    held[n].mul_(kept[n])
    return {n: t.detach() for n, t in module.state_dict().items()}


def test_adamw_on_sentences_is_the_loop_by_hand(model):
    start, examples = start_of(model), tiny_text.many(N)
    found = train(model, start, examples, ADAMW, NOISE).state
    close(found, by_hand(model, start, examples, ADAMW))
    assert not torch.equal(found["classifier.weight"], start["classifier.weight"])


@pytest.mark.parametrize("clip", [0.05, 1e6])
@pytest.mark.parametrize("masked", [False, True])
def test_clipping_is_by_the_norm_of_all_gradients(model, clip, masked):
    """Of a pruned network's: weights that are gone have none."""
    recipe = Recipe(length="3it", batch=4, lr=0.3, momentum=0.5, clip=clip)
    start, examples, mask = start_of(model), tiny_text.many(N), half(model) if masked else None
    found = train(model, start, examples, recipe, NOISE, mask=mask).state
    close(found, by_hand(model, start, examples, recipe, clip=clip, kept=mask.kept if mask else None))
    plain = train(model, start, examples, recipe.model_copy(update={"clip": None}), NOISE, mask=mask).state
    assert same(found, plain) == (clip == 1e6)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_the_head_has_a_rate_of_its_own(model, optimizer):
    recipe = Recipe(length="5it", batch=4, optimizer=optimizer, lr=1e-3, head_lr=3e-2, schedule="linear", weight_decay=0.1)
    start, examples = start_of(model), tiny_text.many(N)
    found = train(model, start, examples, recipe, NOISE).state
    close(found, by_hand(model, start, examples, recipe, groups=dict.fromkeys(model.head, 3e-2)))
    equal = train(model, start, examples, recipe.model_copy(update={"head_lr": recipe.lr}), NOISE).state
    none = train(model, start, examples, recipe.model_copy(update={"head_lr": None}), NOISE).state
    close(equal, none)
    assert not torch.equal(found["classifier.weight"], none["classifier.weight"])


def test_a_rate_of_a_head_needs_a_head():
    model = convnet()
    with pytest.raises(UserError, match="head_lr is a learning rate of the task's head, and this network names none"):
        train(model, uneven(model), examples_of(model, N), Recipe(length="1it", head_lr=0.1), NOISE)


# -- what stays as it is


@pytest.mark.parametrize("head_lr", [None, 1e-2])
def test_frozen_embeddings_stay_and_are_no_optimizer_s(model, directory, monkeypatch, head_lr):
    recipe, start, examples = ADAMW.model_copy(update={"head_lr": head_lr}), start_of(model), tiny_text.many(N)
    held, real = [], training_run.optimizer_of
    monkeypatch.setattr(training_run, "optimizer_of", lambda *a: held.append(real(*a)) or held[-1])
    found = train(model, start, examples, recipe, NOISE).state
    assert len(model.frozen) == 5 and all(torch.equal(found[n], start[n]) for n in model.frozen)
    assert all(not torch.equal(found[n], start[n]) for n in model.parameters if "key.bias" not in n)
    inside = [p for group in held[0].param_groups for p in group["params"]]
    assert sum(p.numel() for p in inside) == sum(start[n].numel() for n in model.parameters)
    thawed = tiny_text.model_of(directory, frozen="none")
    moved = train(thawed, start, examples, recipe, NOISE).state
    assert all(not torch.equal(moved[n], start[n]) for n in model.frozen)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_pruned_weights_are_exactly_zero(model, clip):
    start, mask = start_of(model, torch.float32), half(model)
    recipe = ADAMW.model_copy(update={"head_lr": 1e-2, "clip": clip, "batches": "by_length"})
    found = train(model, start, tiny_text.many(N), recipe, NOISE, mask=mask).state
    assert len(mask.kept) == 12
    for name, kept in mask.kept.items():
        assert not bool(found[name][~kept].any()) and bool((found[name][kept] != 0).all())


@pytest.mark.parametrize("at", [1, 3, 4])
def test_an_interrupted_training_goes_on_bit_by_bit(model, at):
    """Three steps an epoch: within the first, at its end, within the second."""
    recipe = Recipe(length="2ep", batch=4, optimizer="adamw", lr=3e-3, head_lr=3e-2, schedule="linear", batches="by_length")
    start, examples, mask = start_of(model, torch.float32), tiny_text.many(N), half(model)

    def task(progress):
        return train(model, start, examples, recipe, NOISE, mask=mask, progress=progress)

    whole, resumed = train(model, start, examples, recipe, NOISE, mask=mask), interrupted("step", at, task)
    assert same(whole.state, resumed.state) and whole.losses == resumed.losses and whole.cost == resumed.cost


# -- sentences in, numbers out


def test_outputs_do_not_depend_on_order_or_padding(model):
    state, examples = start_of(model), tiny_text.many(N)
    alone = torch.cat([model(state, row[None, :, : int((row[1] > 0).sum())]) for row in examples.x]).detach()
    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(1))
    padded = F.pad(examples.x, (0, 4))
    for batch in (1, 3, 512):
        torch.testing.assert_close(outputs(model, state, examples, batch=batch), alone, rtol=1e-9, atol=1e-11)
        found = outputs(model, state, examples.take(shuffled), batch=batch)
        torch.testing.assert_close(found, alone[shuffled], rtol=1e-9, atol=1e-11)
        found = outputs(model, state, Examples(padded, examples.y), batch=batch)
        torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-11)
    score = evaluate(model, state, examples, batch=3)
    assert score.loss == pytest.approx(float(F.cross_entropy(alone, examples.y)), rel=1e-10)
    wrong = sum(int(row.argmax()) != int(y) for row, y in zip(alone, examples.y, strict=True))
    assert score.error == wrong / N and score.count == N and 0 < wrong < N
    assert evaluate(model, state, examples.take(shuffled), batch=4).loss == pytest.approx(score.loss, rel=1e-10)


def test_numbers_are_fitted_and_scored(directory):
    """Labels that are numbers: one output, squared error, and Pearson's r of all outputs together."""
    model, examples = tiny_text.model_of(directory, 1), tiny_text.many(N)
    examples = Examples(examples.x, torch.linspace(-1, 1, N))
    state = start_of(model)
    found = train(model, state, examples, ADAMW.model_copy(update={"length": "30it"}), NOISE)
    before, after = (evaluate(model, s, examples, batch=3) for s in (state, found.state))
    assert after.loss < before.loss
    out = outputs(model, found.state, examples)[:, 0]
    assert after.loss == pytest.approx(float(((out - examples.y) ** 2).mean()), rel=1e-9)
    assert after.error == pytest.approx(1 - objective.pearson(out, examples.y), rel=1e-12)


def test_training_learns_the_class_that_a_piece_says(model):
    examples = tiny_text.many(60)
    recipe = Recipe(length="20ep", batch=8, optimizer="adamw", lr=3e-3, head_lr=3e-2, batches="by_length")
    found = train(model, model.fresh(0, "init"), examples, recipe, NOISE)
    assert evaluate(model, found.state, tiny_text.many(40, seed=9)).error < 0.1 and found.losses[-1] < found.losses[0] / 3


def test_operations_are_counted_at_the_mean_length(model):
    examples = tiny_text.sentences(3, 3, 6, 12, 12)  # 7.2 tokens
    step = flops_of_step(model, 5, torch.Size((2, 7)), torch.int32)
    assert flops_of_examples(model, 5, examples) == step > flops_of_step(model, 5, torch.Size((2, 6)), torch.int32)
    recipe = Recipe(length="1ep", batch=2, lr=0.01)
    cost = train(model, model.fresh(0, "init"), examples, recipe, NOISE).cost
    two, one = (flops_of_step(model, n, torch.Size((2, 7)), torch.int32) for n in (2, 1))
    assert (cost.images, cost.steps, cost.flops) == (5, 3, 2 * two + one)
    assert cost == training_cost(model, 5, torch.Size((2, 7)), 2, 0, 3, torch.int32)


# -- what is refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"augment": "flip"}, "augment is for images, and these examples are text"), ({"cutmix": 0.5}, "cutmix is for images")],
)
@pytest.mark.parametrize("kind", ["tokens", "embeddings"])
def test_augmentation_of_text_is_refused(model, directory, changes, message, kind):
    network, examples = model, tiny_text.many(N)
    if kind == "embeddings":
        network = tiny_text.model_of(directory, shape=(5, 16))
        examples = Examples(torch.randn(N, 5, 16), examples.y)
    with pytest.raises(UserError, match=message):
        train(network, network.fresh(0, "init"), examples, Recipe(length="1it", **changes), NOISE)


def test_smoothing_over_several_heads_is_refused(directory, model):
    union = tiny_text.model_of(directory, 5, heads=(2, 3))
    recipe = Recipe(length="1it", label_smoothing=0.1)
    with pytest.raises(UserError, match="label_smoothing would reach the classes of other tasks' heads"):
        train(union, union.fresh(0, "init"), tiny_text.many(N), recipe, NOISE)
    train(model, model.fresh(0, "init"), tiny_text.many(N), recipe, NOISE)


def test_a_head_learns_nothing_of_another_task(directory):
    """Of a union, sentences of task 0 leave the other task's block of the head as it is."""
    union, examples = tiny_text.model_of(directory, 5, heads=(2, 3)), tiny_text.many(N)
    start = start_of(union)
    found = train(union, start, examples, Recipe(length="4it", batch=4, lr=0.1, momentum=0.0), NOISE).state
    for name in union.head:
        assert torch.equal(found[name][2:], start[name][2:]) and not torch.equal(found[name][:2], start[name][:2])
    single = tiny_text.model_of(directory)
    alone = {n: t[:2] if n in union.head else t for n, t in start.items()}
    other = train(single, alone, examples, Recipe(length="4it", batch=4, lr=0.1, momentum=0.0), NOISE).state
    close({n: t[:2] if n in union.head else t for n, t in found.items()}, other)
