"""A BERT of six thousand random weights, as a directory that a pipeline's `path` can name; written without transformers."""

from __future__ import annotations

import json
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from distill_prune.models import Model, bert, build_model, resolved
from distill_prune.models.bert import shapes
from distill_prune.models.transformer import Configuration

CONFIG: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}
VOCABULARY = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *ascii_lowercase,
    *(f"##{letter}" for letter in ascii_lowercase),
    *("good", "bad", "film", "plot", "very", "the", "not"),
)
"""64 word pieces: any word of small letters has some, and a few words are one piece. [PAD] is 0, [CLS] 2, [SEP] 3."""


def write(directory: Path, *, seed: int = 0, prefix: str = "bert.", **changes: Any) -> Path:
    """`directory` with config.json, model.safetensors and vocab.txt of an encoder and its pooler, whose weights `seed` draws.

    `changes` are fields of config.json; the tensors' names begin with `prefix`, as in a whole network.
    """
    config = {**CONFIG, **changes}
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    known = {name: value for name, value in config.items() if name in Configuration.model_fields}
    for name, shape in shapes(Configuration(**known), pooler=True).items():
        noise = 0.3 * torch.randn(shape, generator=generator)
        tensors[prefix + name] = noise + 1 if name.endswith("LayerNorm.weight") else noise
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps({"model_type": "bert", **config}), encoding="utf-8")
    (directory / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    save_file(tensors, directory / "model.safetensors")
    return directory


def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made a fixture by its tests: the directory of one encoder."""
    return write(tmp_path_factory.mktemp("bert") / "tiny")


SHAPE = (2, 12)
MINILM = {"hidden_size": 384, "num_hidden_layers": 6, "intermediate_size": 1536}


def settings_of(directory: Path, **changes: Any) -> bert.Settings:
    return resolved(bert.Settings(path=str(directory), **changes))  # type: ignore[return-value]


def model_of(directory: Path, classes: int = 3, **changes: Any) -> Model:
    return build_model(settings_of(directory, **changes), SHAPE, classes)


def sentences(*lengths: int, seed: int = 0, first: int | None = None, task: int = 0, long: int = SHAPE[1]) -> Tensor:
    """Tokens (N, 2, L) of random pieces; the first `first` of each are its first sentence."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.zeros(len(lengths), 2, long, dtype=torch.int32)
    for row, length in zip(x, lengths, strict=True):
        row[0, :length] = torch.randint(1, 64, (length,), generator=generator)
        row[1, :length] = 1 + 2 * task
        if first is not None:
            row[1, first:length] = 2 + 2 * task
    return x
