"""Tensors of a file of safetensors: all at once, or one row at a time."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor


def load(path: Path) -> dict[str, Tensor]:
    """The tensors by name, in fresh memory.

    Raises:
        ValueError: the file holds no tensors.
        OSError: it cannot be read.
        RuntimeError: it has gone meanwhile.
    """
    try:
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except SafetensorError as problem:
        raise ValueError(str(problem)) from problem


class FileRows:
    """Rows of the tensor `checkpoints`, each read when it is asked for, into fresh memory.

    Raises:
        ValueError: the file has no such tensor.
        OSError: it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._slice = safe_open(path, framework="pt").get_slice("checkpoints")  # type: ignore[no-untyped-call]
            self._count = int(self._slice.get_shape()[0])
        except SafetensorError as problem:
            raise ValueError(str(problem)) from problem

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        row: Tensor = self._slice[index]
        return row.clone()
