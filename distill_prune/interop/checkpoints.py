"""State dicts as files: named tensors, of PyTorch or safetensors, read without executing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from distill_prune.errors import DataError
from distill_prune.interop.files import load, packed, present, tensor
from distill_prune.tree import State, clone

SAFE = ".safetensors"


def read_tensors(path: Path) -> State:
    """The tensors of a state dict by name, dense, on the CPU, in fresh memory. A file is one of safetensors where its name
    ends so, else one of PyTorch.

    Raises:
        DataError: there is no such file, it would execute, it is damaged, or it holds something else.
    """
    content = _safetensors(path) if path.suffix == SAFE else load(path)
    if not isinstance(content, Mapping) or not content or not all(isinstance(name, str) for name in content):
        raise DataError(
            f"'{path}' is not a state dict",
            got=type(content).__name__ if content else "nothing",
            expected="tensors by name, as torch.save(module.state_dict()) writes them",
        )
    return clone({name: tensor(path, value, f"'{name}'").contiguous() for name, value in content.items()})


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(present(path))
    except (OSError, ValueError, SafetensorError) as problem:
        raise DataError(f"'{path}' cannot be read as a safetensors file", got=problem) from problem


def torch_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """What torch.save writes of the tensors, each with its own memory alone; equal tensors give equal bytes."""
    return packed(clone(tensors))
