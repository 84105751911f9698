"""State dicts as files: named tensors, of PyTorch or safetensors, read without executing anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from distill_prune.checkpoints import load, present, tensor
from distill_prune.errors import DataError
from distill_prune.limits import Budget
from distill_prune.outside import check_safetensors
from distill_prune.tree import State, clone

SAFE = ".safetensors"


def read_tensors(path: Path, budget: Budget | None = None) -> State:
    """The tensors of a state dict by name, dense, on the CPU, in fresh memory. A file is one of safetensors where its name
    ends so, else one of PyTorch. A checkpoint may have one state dict among other things, as `{epoch, state_dict}`.

    The `budget` is that of the source that the file is a part of.

    Raises:
        DataError: there is no such file, it would execute, it is damaged or too large, or it holds something else.
    """
    budget = budget or Budget(path)
    content = safe_tensors(path, budget) if path.suffix == SAFE else load(path, budget=budget, copies=1)
    if not isinstance(content, Mapping) or not content or not all(isinstance(name, str) for name in content):
        raise DataError(
            f"'{path}' is not a state dict",
            got=type(content).__name__ if content else "nothing",
            expected="tensors by name, as torch.save(module.state_dict()) writes them",
        )
    tensors = {name: tensor(path, value, f"'{name}'") for name, value in _state_dict(path, content).items()}
    # names may share memory in the file, and do not share it here
    budget.take(sum(value.numel() * value.element_size() for value in tensors.values()))
    return clone({name: value.contiguous() for name, value in tensors.items()})


def _state_dict(path: Path, content: Mapping[str, object]) -> Mapping[str, object]:
    """The state dict that `content` is, or the only one in it."""
    if any(isinstance(value, Tensor) for value in content.values()):
        return content
    inside = {name: value for name, value in content.items() if isinstance(value, Mapping) and _of_tensors(value)}
    if len(inside) > 1:
        raise DataError(
            f"'{path}' holds more than one state dict",
            got=", ".join(list(inside)[:10]),
            expected="one",
            fix=f"save the one that is meant: torch.save(torch.load(path)['{next(iter(inside))}'], other_path)",
        )
    return next(iter(inside.values()), content)


def _of_tensors(value: Mapping[object, object]) -> bool:
    return bool(value) and all(isinstance(n, str) and isinstance(v, Tensor) for n, v in value.items())


def safe_tensors(path: Path, budget: Budget) -> dict[str, Tensor]:
    """The tensors of a safetensors file, by name; the budget pays for its size.

    Raises:
        DataError: there is no such file, or it is damaged or too large.
    """
    present(path)
    try:
        check_safetensors(path, budget)
        return load_file(path)
    except (OSError, ValueError, SafetensorError) as problem:
        raise DataError(f"'{path}' cannot be read as a safetensors file", got=f"{problem!s:.200}") from problem
