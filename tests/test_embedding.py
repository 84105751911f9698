"""Distilled text, against the same by hand: where it begins, its gradients, and that it goes on where it stopped."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest
import tiny_bert
import tiny_text
import torch
import torch.nn.functional as F
from reference import convnet, interrupted

from distill_prune.analyze import evaluation
from distill_prune.analyze.inputs import SetInput
from distill_prune.artifacts import Examples, Mask, SyntheticSet, Ticket, Transform
from distill_prune.distill import METHODS, Source, check_kind
from distill_prune.distill.embedding import Settings, distill, filled, gradients, initial
from distill_prune.distill.gradient import distance, matched_names
from distill_prune.errors import ConfigError, DataError
from distill_prune.models import Model, bert, build_model
from distill_prune.progress import SILENT
from distill_prune.prune.imp import Step, next_level
from distill_prune.prune.magnitude import Settings as Magnitude
from distill_prune.rng import Streams, seed_of
from distill_prune.training import Recipe, evaluate, train
from distill_prune.tree import to

pytest.importorskip("transformers")

STREAMS = Streams(0, ("distill",))
SMALL = {"ipc": 2, "tokens": 5, "iterations": 3, "inner_loop": 2, "batch_real": 6, "net_steps": 2, "net_batch": 4}
TEXT = Transform("text", {})

directory = pytest.fixture(scope="module")(tiny_bert.made)


@pytest.fixture(scope="module")
def source(directory: Path) -> Source:
    return Source(tiny_text.many(30), ("no", "yes"), TEXT, tiny_text.model_of(directory))


def as_double(model: Model, seed: int = 0):
    return {n: t.double() * (20 if n in model.head else 1) for n, t in model.fresh(seed, "x").items()}


def sentence(*ids: int, second: int = 0, long: int = 8) -> torch.Tensor:
    """Tokens (1, 2, long) of these pieces, the last `second` of the second sentence."""
    x = torch.zeros(1, 2, long, dtype=torch.int32)
    x[0, 0, : len(ids)] = torch.tensor(ids)
    x[0, 1, : len(ids)] = 1
    x[0, 1, len(ids) - second : len(ids)] = 2 if second else x[0, 1, len(ids) - second : len(ids)]
    return x


# -- where samples begin


@pytest.mark.parametrize(
    ("ids", "length", "expected"),
    [
        ((2, 10, 11, 12, 3), 5, [2, 10, 11, 12, 3]),
        ((2, 10, 11, 12, 3), 4, [2, 10, 11, 3]),
        ((2, 10, 11, 12, 3), 3, [2, 10, 3]),
        ((2, 10, 11, 3), 7, [2, 10, 11, 10, 11, 10, 3]),
        ((2, 10, 3), 6, [2, 10, 10, 10, 10, 3]),
        ((2, 10, 11, 12, 13, 14, 15, 3), 8, [2, 10, 11, 12, 13, 14, 15, 3]),  # no padding at all
    ],
)
def test_places_are_filled(ids, length, expected):
    x = sentence(*ids)
    before = x.clone()
    found = filled(x, length)
    assert found.shape == (1, 2, length) and found.dtype == torch.int32
    assert found[0, 0].tolist() == expected and bool((found[0, 1] > 0).all())
    assert torch.equal(x, before)


def test_an_empty_sentence_is_filled():
    """[CLS] [SEP] and nothing between: what is repeated is [SEP]."""
    assert filled(sentence(2, 3), 5)[0, 0].tolist() == [2, 3, 3, 3, 3]


def test_segments_go_with_their_pieces():
    found = filled(sentence(2, 10, 3, 11, 3, second=2), 6)
    assert found[0, 0].tolist() == [2, 10, 3, 11, 10, 3] and found[0, 1].tolist() == [1, 1, 1, 2, 1, 2]


def test_samples_begin_at_the_embeddings_of_real_sentences(source):
    settings = Settings(ipc=3, tokens=5)
    x, y = initial(source, source.model, settings, STREAMS)
    assert x.shape == (6, 5, 16) and x.dtype == torch.float32 and y.tolist() == [0, 0, 0, 1, 1, 1]
    words = source.model.fresh(0, "init")["bert.embeddings.word_embeddings.weight"]
    all_of = {}
    for row, label in zip(filled(source.train.x, 5), source.train.y.tolist(), strict=True):
        all_of.setdefault(label, []).append(torch.stack([words[int(i)] for i in row[0]]))
    for sample, label in zip(x, y.tolist(), strict=True):
        assert any(torch.equal(sample, real) for real in all_of[label])
    assert len({tuple(s.flatten().tolist()) for s in x}) == 6, "no sentence twice"
    assert not torch.equal(x, initial(source, source.model, settings, Streams(1, ("distill",)))[0])


def test_labels_begin_at_the_asked_certainty(source):
    for k, certainty in ((2, 0.9), (3, 0.7)):
        model = source.model if k == 2 else build_three(source)
        settings = Settings(**SMALL | {"iterations": 1, "inner_loop": 1}, lr_labels=0, certainty=certainty)
        on = replace(source, model=model, classes=tuple("abc"[:k]), train=tiny_text.many(30, classes=k))
        made = distill(settings, on, STREAMS, "cpu", SILENT).set
        assert made.label_kind == "logits" and made.targets.shape == (2 * k, k)
        for row, label in zip(made.targets.tolist(), [c for c in range(k) for _ in range(2)], strict=True):
            assert row[label] == pytest.approx(certainty) and sum(row) == pytest.approx(1)
            assert max(v for i, v in enumerate(row) if i != label) == pytest.approx((1 - certainty) / (k - 1))


def build_three(source):
    settings = embedding_settings(source.model)
    found = build_model(settings, (2, 12), 3)
    return replace(found, pretrained=source.model.pretrained)


def embedding_settings(model):
    return bert.Settings(pooling="mean", config=model.module.config.model_dump())


# -- gradients


def test_the_gradient_is_that_of_every_matched_weight(source):
    model, state = source.model, as_double(source.model)
    names = matched_names(model, "cosine")
    assert set(names) == {*model.prunable, "classifier.weight"}, "no bias, no norm, no frozen embedding"
    x, y = source.train.x[:4], source.train.y[:4]
    found = gradients(model, state, names, x, y)
    for name, gradient in zip(names, found, strict=True):
        place, step = (1, 2), 1e-6
        values = []
        for sign in (1, -1):
            moved = {n: t.clone() for n, t in state.items()}
            moved[name][place] += sign * step
            values.append(float(F.cross_entropy(model(moved, x), y)))
        assert float(gradient[place]) == pytest.approx((values[0] - values[1]) / (2 * step), rel=1e-5, abs=1e-9)


@pytest.mark.parametrize("metric", ["cosine", "mse"])
def test_the_matching_distance_s_gradient_is_a_difference_quotient(source, metric):
    """With respect to one entry of an embedding and one logit of a label, in float64."""
    model, state = source.model, as_double(source.model)
    names = matched_names(model, metric)
    assert ("classifier.weight" in names) == (metric == "cosine")
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 4, 16, generator=generator, dtype=torch.float64)
    labels = torch.randn(3, 2, generator=generator, dtype=torch.float64)
    real = gradients(model, state, names, source.train.x[:5], source.train.y[:5])

    def value(x, labels, graph=False):
        return distance(real, gradients(model, state, names, x, labels.softmax(1), graph=graph), metric)

    x.requires_grad_(), labels.requires_grad_()
    found = torch.autograd.grad(value(x, labels, graph=True), [x, labels])
    for which, place in ((0, (1, 2, 3)), (0, (0, 0, 15)), (1, (2, 1)), (1, (0, 0))):
        values, step = [], 1e-6
        for sign in (1, -1):
            moved = [x.detach().clone(), labels.detach().clone()]
            moved[which][place] += sign * step
            values.append(float(value(*moved)))
        quotient = (values[0] - values[1]) / (2 * step)
        assert abs(quotient) > 1e-8 and float(found[which][place]) == pytest.approx(quotient, rel=1e-4)


def test_one_step_is_adam_s_on_that_gradient(source):
    """An iteration of one matching step, by hand: Adam's first step is the rate times the gradient's sign."""
    settings = Settings(**SMALL | {"iterations": 1, "inner_loop": 1})
    made = distill(settings, source, STREAMS, "cpu", SILENT)
    model = source.model
    x, y = initial(source, model, settings, STREAMS)
    apart = math.log(0.9 / 0.1)
    labels = torch.zeros(4, 2)
    labels[torch.arange(4), y] = apart
    state = model.fresh(0, "distill", "network", iteration=0)
    rows = torch.randperm(30, generator=STREAMS("real", iteration=0, inner=0))[:6]
    names = matched_names(model, "cosine")
    real = gradients(model, state, names, source.train.x[rows], source.train.y[rows])
    x.requires_grad_(), labels.requires_grad_()
    loss = distance(real, gradients(model, state, names, x, labels.softmax(1), graph=True), "cosine")
    for leaf, gradient, rate, found in zip(
        (x, labels), torch.autograd.grad(loss, [x, labels]), (0.01, 0.05), (made.set.images, made.set.labels), strict=True
    ):
        torch.testing.assert_close(found, leaf.detach() - rate * gradient / (gradient.abs() + 1e-8), rtol=1e-4, atol=1e-6)
    assert made.record["loss"] == [pytest.approx(float(loss.detach()), rel=1e-5)]
    assert (made.cost.images, made.cost.steps) == (6 + 4, 1)


def test_the_cost_counts_matching_and_the_network(source):
    """3 iterations of 2 matching steps of 6 + 4 sentences, and between them 2 steps of 4."""
    made = distill(Settings(**SMALL), source, STREAMS, "cpu", SILENT)
    assert (made.cost.images, made.cost.steps) == (3 * (2 * 10 + 2 * 4), 3 * (2 + 2)) and made.cost.flops > 0


# -- runs


def test_the_loss_falls(source):
    settings = Settings(**SMALL | {"iterations": 40, "inner_loop": 1, "batch_real": 30}, lr_embeddings=0.05)
    losses = distill(settings, source, STREAMS, "cpu", SILENT).record["loss"]
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_run_goes_on_bit_by_bit(source, at):
    settings = Settings(**SMALL)

    def task(progress):
        return distill(settings, source, STREAMS, "cpu", progress)

    whole, resumed = task(SILENT), interrupted("iteration", at, task)
    assert torch.equal(whole.set.images, resumed.set.images) and torch.equal(whole.set.labels, resumed.set.labels)
    assert whole.record == resumed.record and whole.cost == resumed.cost


def test_labels_that_do_not_learn_stay(source):
    fixed, moved = (distill(Settings(**SMALL, lr_labels=lr), source, STREAMS, "cpu", SILENT).set for lr in (0, 0.05))
    expected = math.log(0.9 / 0.1) * F.one_hot(torch.tensor([0, 0, 1, 1]), 2).float()
    assert torch.equal(fixed.labels, expected) and not torch.equal(moved.labels, expected)
    assert fixed.hard.tolist() == [0, 0, 1, 1]


def test_the_set_can_be_kept_trained_on_and_pruned_with(source):
    made = distill(Settings(**SMALL | {"iterations": 10}), source, STREAMS, "cpu", SILENT).set
    again = SyntheticSet.of(made.parts())
    assert again.transform.kind == "text" and again.classes == ("no", "yes") and again.method == "embedding"
    assert torch.equal(again.images, made.images) and torch.equal(again.labels, made.labels) and again.fits(TEXT)
    examples = again.examples(TEXT)
    assert examples.x.shape == (4, 5, 16) and not examples.tokens and examples.lengths is None
    assert torch.equal(examples.y, made.labels.softmax(1))
    model = source.model
    begin = model.fresh(0, "init")
    dense, recipe = Ticket(Mask.dense(begin, model.prunable), begin, 0), Recipe(length="4it", batch=4, lr=0.1)
    on = {"examples": examples, "recipe": recipe, "first": 0, "device": "cpu", "progress": SILENT}
    step = Step(rate=0.2, criterion=Magnitude())
    ticket = next_level(model, dense, dense, step, Streams(0, ("prune",)), **on)
    assert ticket.mask.remaining == 4096 - 819
    score = evaluate(model, begin, examples)
    assert score.count == 4 and score.loss == pytest.approx(
        float(F.cross_entropy(model(begin, examples.x), examples.y).detach()), rel=1e-6
    )


def test_a_set_is_evaluated_by_fresh_networks(source):
    made = distill(Settings(**SMALL), source, STREAMS, "cpu", SILENT).set
    settings = evaluation.Settings(nets=2, length="3it", batch=4, lr=3e-3, optimizer="adamw", weight_decay=0.0)
    parts = {"test": tiny_text.many(12, seed=1)}
    streams = Streams(0, ("evaluation",))
    found = evaluation.measure(settings, SetInput(source.model, made, parts, TEXT, streams, network="bert")).numbers
    assert found["recipe"]["optimizer"] == "adamw" and len(found["nets"]) == 2
    noise = streams.under("evaluation", net=0)
    start = source.model.fresh(seed_of(0, "evaluation", "evaluation", "init", net=0))
    recipe = Recipe(length="3it", batch=4, lr=3e-3, optimizer="adamw", schedule="step", milestones=(0.5,))
    state = train(source.model, start, made.examples(TEXT), recipe, noise).state
    assert found["nets"][0]["test"]["loss"] == pytest.approx(evaluate(source.model, to(state, "cpu"), parts["test"]).loss)


# -- what is refused


def test_methods_are_for_their_kind():
    for name in METHODS:
        kinds = {"embedding": ("text",), "subset": ("images", "text")}.get(name, ("images",))
        for kind in ("images", "text"):
            if kind in kinds:
                check_kind(name, kind == "text")
            else:
                with pytest.raises(ConfigError, match=rf"method '{name}' is for {kinds[0]}, and the data are {kind}"):
                    check_kind(name, kind == "text")


def test_a_network_without_embeddings_is_refused(source):
    with pytest.raises(ConfigError, match="'embedding' needs a network with word embeddings\n  got:      Sequential"):
        distill(Settings(**SMALL), replace(source, model=convnet()), STREAMS, "cpu", SILENT)


def test_too_many_samples_are_refused(source):
    with pytest.raises(DataError, match="more than class 'no' has"):
        distill(Settings(**SMALL | {"ipc": 16}), source, STREAMS, "cpu", SILENT)


def test_samples_longer_than_the_network_are_refused(source):
    with pytest.raises(DataError, match="too long for the network\n  got:      17 tokens"):
        distill(Settings(**SMALL | {"tokens": 17}), source, STREAMS, "cpu", SILENT)


def test_numbers_have_no_sets(source):
    """Labels that are numbers are of no class."""
    numbers = Examples(source.train.x, torch.linspace(0, 1, 30))
    for name in ("embedding", "subset"):
        settings = METHODS[name].Settings(ipc=1)
        with pytest.raises(DataError, match="labels of these data are numbers"):
            METHODS[name].distill(settings, replace(source, classes=(), train=numbers), STREAMS, "cpu", SILENT)


def test_embeddings_of_another_width_are_refused(tmp_path):
    wide = tiny_text.model_of(tiny_bert.write(tmp_path / "wide", hidden_size=32))
    with pytest.raises(DataError, match="word embeddings of another network's width\n  got:      16\n  expected: 32"):
        wide(wide.fresh(0, "init"), torch.zeros(1, 4, 16))
