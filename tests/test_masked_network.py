"""The network that says what is asked: its head, what it computes, its training, and what is measured of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny_bert
import tiny_masked
import tiny_text
import torch
import torch.nn.functional as F
from reference_inputs import copies_of
from reference_training import half
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill_prune.analyze import disagreement, metrics
from distill_prune.artifacts import Examples, Mask
from distill_prune.errors import ConfigError, DataError, UserError
from distill_prune.models import Model, bert, build_model, predicting, resolved
from distill_prune.models.convnet import Settings as ConvNet
from distill_prune.prune import snip
from distill_prune.prune.inputs import LevelImages
from distill_prune.rng import Streams
from distill_prune.training import CountFlops, Recipe, evaluate, flops_of_step, order, outputs, train
from distill_prune.training.hessian import Products

pytest.importorskip("transformers")

NOISE = Streams(0, ("retrain",))
POOLED = {"pooling": "cls_pooler", "prune_pooler": True}
HEAD = ("dense.weight", "dense.bias", "LayerNorm.weight", "LayerNorm.bias")


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_masked.write(tmp_path_factory.mktemp("bert") / "tiny")


@pytest.fixture(scope="module")
def model(directory: Path) -> Model:
    return tiny_masked.model_of(directory)


@pytest.fixture(scope="module")
def pooled(directory: Path) -> Model:
    return tiny_masked.model_of(directory, **POOLED)


def double(model: Model) -> dict[str, Tensor]:
    return {n: t.double() for n, t in model.fresh(0, "init").items()}


def one_by_one(model: Model, state: dict[str, Tensor], held: Examples) -> list[tuple[list[float], int]]:
    """The logits of every word piece that is asked, and the label, of each example by itself."""
    found = []
    for i in range(len(held)):
        logits = model(state, held.x[i : i + 1])
        found += [(row.tolist(), y) for row, (_, y) in zip(logits, tiny_masked.pairs(held, i), strict=True)]
    return found


def mean_loss(model: Model, state: dict[str, Tensor], held: Examples) -> Tensor:
    rows = [(i, y) for i in range(len(held)) for _, y in tiny_masked.pairs(held, i)]
    logits = torch.cat([model(state, held.x[i : i + 1]) for i in range(len(held))])
    return -logits.log_softmax(1)[torch.arange(len(rows)), [y for _, y in rows]].mean()


# -- what it is


def test_logits_are_those_of_transformers(model: Model, tmp_path: Path) -> None:
    assert model.head  # the first import of transformers goes through the door of torchvision
    from transformers import BertConfig, BertForMaskedLM

    torch.manual_seed(3)
    theirs = BertForMaskedLM(BertConfig(**{**tiny_bert.CONFIG, "initializer_range": 0.3}))
    theirs.save_pretrained(tmp_path)
    model, held = tiny_masked.model_of(tmp_path), tiny_masked.examples(9)
    state, lengths = double(model), held.x[:, 1] > 0
    want = (
        theirs.double()
        .eval()(
            input_ids=held.x[:, 0].long(),
            attention_mask=lengths.long(),
            token_type_ids=((held.x[:, 1] - 1).clamp_min(0) % 2).long(),
        )
        .logits
    )
    places = [(i, place) for i in range(len(held)) for place, _ in tiny_masked.pairs(held, i)]
    assert len(places) > 20 and len({i for i, _ in places}) == 9
    torch.testing.assert_close(model(state, held.x), torch.stack([want[i, p] for i, p in places]), rtol=0, atol=1e-11)
    assert want.std() > 0.5
    padded = model(state, F.pad(held.x, (0, 4)))
    torch.testing.assert_close(padded, model(state, held.x), rtol=0, atol=1e-11)


def test_names_of_its_head_and_of_what_is_pruned(directory: Path, model: Model, pooled: Model) -> None:
    assert set(model.head) == {*(f"predictions.transform.{n}" for n in HEAD), "predictions.bias"}
    assert model.prunable == tiny_text.model_of(directory).prunable and len(model.prunable) == 12
    assert pooled.prunable == tiny_text.model_of(directory, **POOLED).prunable and len(pooled.prunable) == 13
    assert not any("pooler" in n for n in tiny_masked.model_of(directory, pooling="cls_pooler").module.state_dict())
    assert set(model.frozen) == {n for n in model.module.state_dict() if n.startswith("bert.embeddings.")}
    plain = bert.Settings(path=str(directory))
    assert "masked" not in plain.identity() and predicting(plain).identity()["masked"] is True


@pytest.mark.parametrize("form", ["as saved", "old names", "decoder's bias"])
def test_it_begins_at_the_pre_trained_head(directory: Path, tmp_path: Path, form: str) -> None:
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"} if form == "old names" else {}
    old |= {"predictions.bias": "predictions.decoder.bias"} if form == "decoder's bias" else {}
    tiny_masked.write(tmp_path)
    held, stored = load_file(directory / "model.safetensors"), {}
    for name, tensor in held.items():
        for new, other in old.items():
            name = name.replace(new, other)
        stored[name] = tensor
    stored["cls.predictions.decoder.weight"] = held["bert.embeddings.word_embeddings.weight"].clone()
    save_file(stored, tmp_path / "model.safetensors")
    model = tiny_masked.model_of(tmp_path)
    state, own = model.fresh(0, "init"), {n.removeprefix("cls."): t for n, t in held.items() if "pooler" not in n}
    assert state.keys() == own.keys() and all(torch.equal(t, own[n]) for n, t in state.items())
    stored["cls.predictions.decoder.weight"] += 1
    save_file(stored, tmp_path / "model.safetensors")
    with pytest.raises(DataError, match=r"has a matrix of its own\n  got:      cls.predictions.decoder.weight that differs"):
        tiny_masked.model_of(tmp_path).fresh(0, "init")


def test_weights_without_a_head(tmp_path: Path) -> None:
    settings: Any = bert.Settings(path=str(tiny_bert.write(tmp_path / "a")))
    message = (
        r"a' has no masked-language-model head\n.*without cls.*\n  expected: cls.*\n  fix:      weights that .* BertForMaskedLM"
    )
    with pytest.raises(DataError, match=message):
        resolved(predicting(settings))
    known = resolved(settings)
    with pytest.raises(DataError, match=message):
        bert.pretrained(predicting(known), {})  # type: ignore[arg-type]
    with pytest.raises(UserError, match="model 'convnet' has no masked-language-model head"):
        predicting(ConvNet())
    with pytest.raises(ConfigError, match=r"(?s)which of its own they are.*2 classes.*64, and no heads"):
        build_model(predicting(known), (2, 12), 2)


def test_tokens_that_ask_nothing_and_classes_that_are_asked(directory: Path, model: Model) -> None:
    state, held = model.fresh(0, "init"), tiny_masked.examples(4)
    with pytest.raises(DataError, match=r"no word piece is asked\n  got:      segments up to 1\n  expected: 3 or 4"):
        model(state, tiny_text.many(4).x)
    with pytest.raises(DataError, match="word embeddings do not say which word pieces are asked"):
        model(state, torch.zeros(1, 5, 16))
    plain = tiny_text.model_of(directory)
    with pytest.raises(
        DataError, match=r"no head for, or with word pieces that are asked\n  got:      segment [34], of task 1"
    ):
        plain(plain.fresh(0, "init"), held.x)


# -- how it is trained and scored


def test_a_batch_at_a_time_is_scored_as_the_whole(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(order, "TOKENS", 36)  # three sentences together
    held, state = tiny_masked.examples(23), double(model)
    apart = one_by_one(model, state, held)
    found = outputs(model, state, held)
    torch.testing.assert_close(found, torch.tensor([row for row, _ in apart], dtype=torch.float64), rtol=0, atol=1e-11)
    said = [max(range(64), key=row.__getitem__) for row, _ in apart]
    assert outputs(model, state, held, arg_max=True).tolist() == said
    score = evaluate(model, state, held)
    assert score.count == len(apart) and score.error == sum(s != y for s, (_, y) in zip(said, apart, strict=True)) / len(apart)
    assert score.loss == pytest.approx(float(mean_loss(model, state, held)), rel=1e-12)
    scored = metrics.measure(metrics.Settings(), copies_of(model, [state], test=held)).numbers
    assert scored["copies"] == [{"accuracy": 1 - score.error}] and set(scored) == {"copies", "accuracy"}


def test_training_descends_the_mean_over_what_is_asked(model: Model) -> None:
    held, recipe = tiny_masked.examples(8), Recipe(length="3it", batch=8, lr=0.1, momentum=0.0)
    mask = half(model)
    state = mask.apply(double(model))
    found = train(model, state, held, recipe, NOISE, mask=mask).state
    by_hand = {n: t.clone() for n, t in state.items()}
    for _ in range(3):
        leaves = {n: by_hand[n].requires_grad_() for n in model.parameters}
        loss = mean_loss(model, {**by_hand, **leaves}, held)
        steps = torch.autograd.grad(loss, list(leaves.values()))
        by_hand |= {n: (t - 0.1 * g).detach() for (n, t), g in zip(leaves.items(), steps, strict=True)}
        by_hand = mask.apply(by_hand)
    for name, tensor in by_hand.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-11)
    assert not torch.equal(found["predictions.bias"], state["predictions.bias"])


def test_recipes_of_text(pooled: Model) -> None:
    """Each goes through with a pooler that is pruned, that nothing reads, and that therefore stays as it is."""
    held, state = tiny_masked.examples(12), pooled.fresh(0, "init")
    recipe = Recipe(
        length="2ep", batch=5, lr=1e-2, optimizer="adamw", weight_decay=0.1, head_lr=1e-1, clip=1.0, label_smoothing=0.1
    )
    mask = half(pooled)
    for changes in ({"batches": "by_length"}, {"precision": "bfloat16"}, {"optimizer": "sgd", "momentum": 0.9}):
        found = train(pooled, state, held, Recipe.model_validate({**recipe.model_dump(), **changes}), NOISE, mask=mask)
        name = "bert.pooler.dense.weight"
        assert torch.equal(found.state[name], state[name] * mask.kept[name]) and found.losses[1] < found.losses[0]


def test_operations_are_those_of_a_share_of_the_places(model: Model) -> None:
    x = torch.ones(2, 2, 12, dtype=torch.int32) * 5
    x[:, 1] = 1
    x[:, 1, 3:5] = 3  # 2 of 12 are 15%, rounded
    module = model.instance(model.fresh(0, "init"))
    with CountFlops() as counter:  # type: ignore[no-untyped-call]
        module(x).sum().backward()
    assert flops_of_step(model, 2, torch.Size((2, 12)), torch.int32) == counter.total


# -- what is measured


@pytest.mark.parametrize("kind", ["model", "pooled"])
def test_products_with_the_hessian(kind: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(kind)
    held, state, mask = tiny_masked.examples(5), double(model), half(model)
    state = mask.apply(state)
    products = Products(model, state, mask, held)
    assert products.loss == pytest.approx(float(mean_loss(model, state, held)), rel=1e-12)
    v = torch.randn(1, products.survivors, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    kept, h = [mask.kept[n] for n in model.prunable], 1e-5
    along = dict(zip(model.prunable, [torch.zeros(k.shape, dtype=v.dtype) for k in kept], strict=True))
    for name, part in zip(model.prunable, v[0].split([int(k.sum()) for k in kept]), strict=True):
        along[name][mask.kept[name]] = part

    def gradient(step: float) -> Tensor:
        leaves = {n: (state[n] + step * along[n]).requires_grad_() for n in model.prunable}
        loss = mean_loss(model, {**state, **leaves}, held)
        gradients = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        return torch.cat([g[k] for g, k in zip(gradients, kept, strict=True)])

    product = products.times(v)[0]
    torch.testing.assert_close(product, (gradient(h) - gradient(-h)) / (2 * h), rtol=1e-5, atol=1e-7)
    assert float(product.abs().max()) > 1e-3
    if kind == "pooled":
        assert not bool(product[products.layers["bert.pooler.dense.weight"]].any())


def test_sensitivity_is_of_the_mean_over_what_is_asked(pooled: Model) -> None:
    held, state = tiny_masked.examples(6), double(pooled)
    mask = Mask.dense(state, pooled.prunable)
    found = snip.scores(snip.Settings(), LevelImages(state, mask, Streams(0, ("p",)), pooled, held))
    leaves = {n: state[n].clone().requires_grad_() for n in pooled.prunable}
    loss = mean_loss(pooled, {**state, **leaves}, held)
    slopes = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
    for (name, score), g in zip(found.items(), slopes, strict=True):
        torch.testing.assert_close(score, (g * state[name]).abs(), rtol=1e-9, atol=1e-13)
    assert not bool(found["bert.pooler.dense.weight"].any())


def test_disagreement_is_of_what_is_asked(model: Model) -> None:
    held, start = tiny_masked.examples(20), double(model)
    copies = [train(model, start, held, Recipe(length="4it", batch=8, lr=0.3 + i, momentum=0.0), NOISE).state for i in range(2)]
    given = copies_of(model, copies, train=held, streams=Streams(0), start=start, test=held)
    got = disagreement.measure(disagreement.Settings(), given).numbers
    said = [[max(range(64), key=r.__getitem__) for r, _ in one_by_one(model, c, held)] for c in copies]
    truth = [y for i in range(20) for _, y in tiny_masked.pairs(held, i)]
    assert got["pairs"][0]["test"] == sum(a != b for a, b in zip(*said, strict=True)) / len(truth) > 0
    expected = 0.0
    for y in set(truth):
        a, b = ([s for s, t in zip(side, truth, strict=True) if t == y] for side in said)
        expected += len(a) * sum(p != q for p in a for q in b) / (len(a) * len(b)) / len(truth)
    assert got["pairs"][0]["expected_test"] == pytest.approx(expected, rel=1e-12)
