"""BERT that begins at the weights of a local directory: config.json and model.safetensors, as `save_pretrained` writes.

Nothing is downloaded, and nothing in the directory is executed. Only the encoder is read, with its pooler where the head needs
it; the heads of the pre-training are left out, and the task's own head is drawn. For masked language modelling the head is that
of the pre-training, which the directory must have. The six matrices of every layer are prunable, with the pooler 85,524,480
weights in BERT-base; biases, norms, embeddings and the head never are.

References:
    | The Lottery Ticket Hypothesis for Pre-trained BERT Networks (Chen et al., 2020), https://arxiv.org/abs/2007.12223
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from distill_prune.errors import DataError
from distill_prune.fingerprints import Remembered, file_hash
from distill_prune.limits import Budget
from distill_prune.models.encoder import Configuration, EncoderSettings
from distill_prune.models.transformer import build as build
from distill_prune.outside import check_safetensors, read_json
from distill_prune.tree import State

STEP_SECONDS = 4.0
S = TypeVar("S", bound=EncoderSettings)
CONFIG, WEIGHTS = "config.json", "model.safetensors"
WORDS, DECODER = "bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight"


class Settings(EncoderSettings):
    OUTSIDE_KEYS: ClassVar[frozenset[str]] = frozenset({"path"})

    name: Literal["bert"] = "bert"
    path: str | None = Field(None, description="the directory that holds config.json and model.safetensors")


def resolved(settings: Settings, remembered: Remembered | None = None) -> Settings:
    """`settings` with the encoder's sizes and the hash of its weights; as they are where both are known.

    Raises:
        DataError: the directory has no BERT, or not the one that `settings` name.
    """
    if settings.config is not None and settings.weights:
        return settings
    return read(settings, _place(settings), remembered)


def pretrained(settings: Settings, drawn: State) -> State:
    """The encoder's tensors, and of a masked language model the head's, float32, by the network's names.

    Raises:
        DataError: the directory is missing, or its weights are not those of `settings`.
    """
    return tensors(settings, _place(settings))


def _place(settings: Settings) -> str:
    if settings.path is None:
        raise DataError("model 'bert' begins at pre-trained weights", fix="`path`: the directory that holds them")
    return settings.path


# -- a directory, whoever named it


def read(settings: S, place: str, remembered: Remembered | None = None) -> S:
    """`settings` with the sizes and the weights' hash of the BERT in the directory `place`, whose tensors fit these sizes.

    Raises:
        DataError: there is none, it is of another kind, a tensor is missing or of another shape, a head that is asked for is
            not there, or `settings` name others.
    """
    directory = Path(place).expanduser()
    config = _configuration(directory)
    weights = file_hash(_file(directory, WEIGHTS), remembered)
    complete = settings.model_copy(update={"config": config.model_dump(), "weights": weights})
    _check(settings, complete, directory)
    _names(complete, directory)
    return complete


_hashes: Remembered = {}
"""Of the files that this process has read: every start of a training asks for one."""


def tensors(settings: EncoderSettings, place: str) -> State:
    """The tensors of encoder and pre-trained head in the directory `place`, float32, by the network's names.

    Raises:
        DataError: they are missing, or not those of `settings`, or the head is not tied to the word embeddings.
    """
    directory = Path(place).expanduser()
    weights = file_hash(_file(directory, WEIGHTS), _hashes)
    _check(settings, settings.model_copy(update={"weights": weights}), directory)
    names = _names(settings, directory)
    with safe_open(directory / WEIGHTS, framework="pt") as file:
        state: dict[str, Tensor] = {name: file.get_tensor(stored) for name, stored in names.items()}
        # Files of other tools may hold the tied matrix twice.
        if settings.masked and DECODER in file.keys() and not torch.equal(file.get_tensor(DECODER), state[WORDS]):  # noqa: SIM118
            raise DataError(
                f"the masked-language-model head in '{directory}' has a matrix of its own",
                got=f"{DECODER} that differs from the word embeddings",
                expected="one tensor for both, as BERT has it",
            )
    return {name: tensor.float().clone() for name, tensor in state.items()}


def _file(directory: Path, name: str) -> Path:
    path = directory / name
    if not path.is_file():
        raise DataError(
            f"no {name} in '{directory}'",
            got=", ".join(sorted(p.name for p in directory.iterdir())) if directory.is_dir() else "no such directory",
            fix="a directory of transformers' save_pretrained, which writes config.json and model.safetensors",
        )
    return path


_ONLY: dict[str, Any] = {
    "model_type": "bert",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "pad_token_id": 0,
}
"""What config.json must say where it says anything of it; the first must stand there."""


def _configuration(directory: Path) -> Configuration:
    path = _file(directory, CONFIG)
    try:
        stated = read_json(path)
        stated["model_type"]
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise DataError(f"'{path}' describes no network", got=problem, expected="a JSON object with model_type") from None
    for name, only in _ONLY.items():
        if stated.get(name, only) != only:
            raise DataError(
                f"'{path}' is of another kind of network", got=f"{name}: {stated[name]}", expected=f"{name}: {only}"
            )
    try:
        return Configuration(**{name: stated[name] for name in Configuration.model_fields if name in stated})
    except ValidationError as problem:
        first = problem.errors()[0]
        raise DataError(f"'{path}' describes no BERT", got=f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None


def _check(named: EncoderSettings, found: EncoderSettings, directory: Path) -> None:
    """The directory's network is the one that the settings name, where they do."""
    for what, expected, got in (("config", named.config, found.config), ("weights", named.weights, found.weights)):
        if expected and got != expected:
            raise DataError(
                f"the network in '{directory}' is not the one that model '{named.name}' names by its {what}",
                got=got,
                expected=expected,
                fix=f"the directory that was meant, or no `{what}` in the settings",
            )


def shapes(config: Configuration, pooler: bool) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an encoder's tensors, as transformers' BertModel has them."""
    wide, inner = config.hidden_size, config.intermediate_size
    layer: dict[str, tuple[int, ...]] = {f"attention.self.{part}": (wide, wide) for part in ("query", "key", "value")}
    layer |= {
        "attention.output.dense": (wide, wide),
        "attention.output.LayerNorm": (wide,),
        "intermediate.dense": (inner, wide),
        "output.dense": (wide, inner),
        "output.LayerNorm": (wide,),
    }
    biased: dict[str, tuple[int, ...]] = {"embeddings.LayerNorm": (wide,)}
    for i in range(config.num_hidden_layers):
        biased |= {f"encoder.layer.{i}.{part}": shape for part, shape in layer.items()}
    if pooler:
        biased["pooler.dense"] = (wide, wide)
    whole: dict[str, tuple[int, ...]] = {
        "embeddings.word_embeddings.weight": (config.vocab_size, wide),
        "embeddings.position_embeddings.weight": (config.max_position_embeddings, wide),
        "embeddings.token_type_embeddings.weight": (config.type_vocab_size, wide),
    }
    for name, shape in biased.items():
        whole |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return whole


def head_shapes(config: Configuration) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the head of masked language modelling, as transformers' BertForMaskedLM has them below `cls`."""
    wide = config.hidden_size
    return {
        "predictions.transform.dense.weight": (wide, wide),
        "predictions.transform.dense.bias": (wide,),
        "predictions.transform.LayerNorm.weight": (wide,),
        "predictions.transform.LayerNorm.bias": (wide,),
        "predictions.bias": (config.vocab_size,),
    }


def _names(settings: EncoderSettings, directory: Path) -> dict[str, str]:
    """For every tensor that `settings` describe, by the network's names, its name in the file, where its shape is right."""
    path, config = directory / WEIGHTS, Configuration(**(settings.config or {}))
    try:
        check_safetensors(path, Budget(path))
        with safe_open(path, framework="pt") as file:
            stored = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as problem:
        raise DataError(f"'{path}' is no safetensors file", got=problem) from None
    # Whole networks have a prefix, and norms of the first releases other names.
    short = {_modern(name): name for name in stored}
    names, head = {}, head_shapes(config) if settings.masked else {}
    for name, shape in (shapes(config, settings.has_pooler) | {f"cls.{name}": shape for name, shape in head.items()}).items():
        if name not in short and name.startswith("cls."):
            raise DataError(
                f"the network in '{directory}' has no masked-language-model head",
                got=f"{len(stored)} tensors without {name}",
                expected=f"{name} {shape}",
                fix="weights that were saved from BertForMaskedLM or BertForPreTraining",
            )
        if name not in short:
            raise DataError(
                f"'{path}' lacks a tensor of the network that {CONFIG} describes",
                got=f"{len(stored)} tensors, such as {min(stored, default='none')}",
                expected=f"{name} {shape}",
                fix="pooling: mean" if name.startswith("pooler.") else f"the {CONFIG} that belongs to these weights",
            )
        if stored[short[name]] != shape:
            raise DataError(
                f"'{path}' does not fit its {CONFIG}", got=f"{name} {stored[short[name]]}", expected=f"{name} {shape}"
            )
        names[name.removeprefix("cls.") if name.startswith("cls.") else f"bert.{name}"] = short[name]
    return names


def _modern(name: str) -> str:
    """A stored tensor's name as today's networks have it."""
    for old, new in (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"), (".decoder.bias", ".bias")):
        name = name.replace(old, new)
    return name.removeprefix("bert.")
