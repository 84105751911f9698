"""Pre-trained weights of a local file, for networks of libraries: a state dict of torch.save, or of safetensors.

Nothing is downloaded, and nothing in the file is executed. Every tensor of the network must be in the file with its shape,
but for the parts that the settings say are drawn: the first convolution, which other channels or small images change, and the
head, which other classes do. The file's hash enters keys, its path does not.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal, TypeVar

import torch
from pydantic import Field, field_validator, model_validator

from distill_prune.checkpoints import present
from distill_prune.checkpoints.state_dicts import read_tensors
from distill_prune.errors import DataError, Misfit
from distill_prune.fingerprints import Remembered, file_hash
from distill_prune.settings import Entry
from distill_prune.tree import State

Part = Literal["first", "head"]


class PretrainedSettings(Entry):
    """Settings of a network that may begin at the weights of a file."""

    OUTSIDE_KEYS: ClassVar[frozenset[str]] = frozenset({"path"})

    path: str | None = Field(
        None, description="a local file of weights to begin at: a state dict of torch.save (.pth), or .safetensors"
    )
    weights: str | None = Field(None, description="sha256 of the file at `path`, which stands for it in keys")
    redraw: tuple[Part, ...] = Field(
        (), description="parts that are drawn and not read from the file: first (convolution), head (last layer)"
    )

    @field_validator("redraw")
    @classmethod
    def _ordered(cls, parts: tuple[Part, ...]) -> tuple[Part, ...]:
        return tuple(part for part in ("first", "head") if part in parts)

    @model_validator(mode="after")
    def _of_a_file(self) -> PretrainedSettings:
        if self.redraw and self.path is None and self.weights is None:
            raise Misfit("it says what is not read from a file of weights, and there is no `path`", ["redraw"])
        return self


S = TypeVar("S", bound=PretrainedSettings)


def resolved(settings: S, remembered: Remembered | None = None) -> S:
    """`settings` with the hash of the file of weights, where they name one.

    Raises:
        DataError: there is no such file.
    """
    if settings.path is None or settings.weights:
        return settings
    return settings.model_copy(update={"weights": file_hash(present(Path(settings.path).expanduser()), remembered)})


_hashes: Remembered = {}
"""Of the files that this process has read: every start of a training asks for one."""


def read(settings: PretrainedSettings, drawn: State, rename: Callable[[str], str | None] = str) -> State:
    """The file's tensors by the network's names, floats in the type of `drawn`, the network's state as it is drawn.

    `rename` gives the network's name of a tensor of the file, None where it is of a part that the network does not have.

    Raises:
        DataError: the file is missing, is not the one that the settings name, or does not fit the network.
    """
    if settings.path is None:
        if settings.weights:
            raise DataError(f"model '{settings.name}' begins at the weights of a file", fix="`path`: the file that holds them")
        return {}
    path = present(Path(settings.path).expanduser())
    if settings.weights and (sha256 := file_hash(path, _hashes)) != settings.weights:
        raise DataError(
            f"the file '{path}' is not the one that model '{settings.name}' names by its weights",
            got=sha256,
            expected=settings.weights,
            fix="the file that was meant, or no `weights` in the settings",
        )
    state = {new: tensor for name, tensor in read_tensors(path).items() if (new := rename(name)) is not None}
    parts = _parts(drawn)
    left_out = {name for part in settings.redraw for name in parts[part]}
    read_in = {name: tensor for name, tensor in drawn.items() if name not in left_out}
    for name, tensor in read_in.items():
        if name in state and state[name].shape == tensor.shape:
            continue
        if name.endswith("num_batches_tracked"):  # files of torch before 1.0 do not have it
            state[name] = tensor
            continue
        part = next((part for part, names in parts.items() if name in names), None)
        raise DataError(
            f"the weights in '{path}' do not fit model '{settings.name}'",
            got=f"{name} {tuple(state[name].shape)}" if name in state else f"{len(state)} tensors without {name}",
            expected=f"{name} {tuple(tensor.shape)}",
            fix="the weights of this network" if part is None else f"redraw: [{', '.join(sorted({*settings.redraw, part}))}]",
        )
    if odd := next((name for name in state if name not in drawn), None):
        raise DataError(
            f"the weights in '{path}' are another network's", got=odd, expected=f"the {len(drawn)} tensors of this one"
        )
    begin = {name: state[name].to(tensor.dtype) for name, tensor in read_in.items()}
    if bad := next((name for name, t in begin.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())), None):
        raise DataError(f"'{bad}' of '{path}' is not finite")
    return begin


def _parts(drawn: State) -> dict[Part, tuple[str, ...]]:
    """Names of the tensors of the layer that reads the image, and of the layer that gives the logits."""
    kernels = [name for name, tensor in drawn.items() if tensor.dim() == 4]
    matrices = [name for name, tensor in drawn.items() if tensor.dim() in (2, 4)]

    def layer(weight: str) -> tuple[str, ...]:
        return tuple(name for name in (weight, f"{weight.removesuffix('weight')}bias") if name in drawn)

    return {"first": layer(kernels[0]), "head": layer(matrices[-1])}
