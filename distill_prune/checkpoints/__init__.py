"""Tensors out of files of torch.save and safetensors, read without executing anything; sizes are counted first."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from distill_prune.checkpoints.declared import check
from distill_prune.checkpoints.pickles import Calls, Refused
from distill_prune.errors import DataError, UserError, system_error
from distill_prune.limits import Budget
from distill_prune.outside import opened

_POINTER = b"version https://git-lfs"
_CALL = re.compile(r"GLOBAL ([\w.]+)")


class _Inert:
    """Stands in for a constructor whose results nobody needs: it takes anything and keeps nothing."""

    def __init__(self, *given: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def present(path: Path) -> Path:
    """`path`, where it is a file that has a content.

    Raises:
        DataError: it is not, or stands for a file that was never fetched.
    """
    if not path.exists():
        raise DataError(f"there is no file '{path}'")
    try:
        with opened(path) as file:
            head = file.read(len(_POINTER))
    except OSError as problem:
        raise system_error(f"'{path}' cannot be read", problem, kind=DataError) from problem
    if head == _POINTER:
        raise DataError(
            f"'{path}' is a pointer of Git LFS, not the file itself", fix="run `git lfs pull` in the repository it is from"
        )
    if not head:
        raise DataError(f"'{path}' is empty")
    return path


def load(path: Path, *, inert: Sequence[str] = (), budget: Budget | None = None, copies: int = 4) -> object:
    """What `torch.save` wrote to `path`, on the CPU; nothing is executed, and sizes are counted first.

    `inert` names constructors ("numpy.dtype") whose results nobody needs: what stands there is read over. The `budget` is
    that of the source that the file is a part of; it pays for `copies` of the numbers: those that are loaded, their copies
    as float32, and what is hashed and written.

    Raises:
        DataError: there is no such file, it is no such file, it takes too much memory, or it holds what would have to be
            executed.
    """
    present(path)
    try:
        check(path, inert, budget or Budget(path), copies)
        with warnings.catch_warnings(), torch.serialization.safe_globals([(_Inert, name) for name in inert]):
            warnings.simplefilter("ignore")  # of pickle's protocol, about which nobody can do anything
            return torch.load(path, map_location="cpu", weights_only=True)
    except UserError:
        raise
    except Exception as problem:  # a damaged pickle can fail anywhere in the unpickler, with any error
        call = str(problem) if isinstance(problem, Calls) else (_CALL.search(str(problem)) or ("", ""))[1]
        if call:
            raise DataError(
                f"'{path}' is refused, not executed",
                got=f"a pickle that calls {call[:120]}",
                expected="tensors, numbers, lists and dictionaries",
            ) from problem
        reason = (str(problem).splitlines() or [""])[0]
        raise DataError(
            f"'{path}' cannot be read as a file of torch.save, or is only a part of one",
            got=reason[:200] if isinstance(problem, Refused) else f"{type(problem).__name__}: {reason[:120]}",
        ) from problem


def tensor(path: Path, value: object, what: str) -> Tensor:
    """`value`, called `what` in messages, as a plain tensor: dense, on the CPU, real, without gradient.

    Raises:
        DataError: it is none, or has more elements than the file holds numbers for it.
    """
    if not isinstance(value, Tensor):
        raise DataError(f"{what} of '{path}'", got=type(value).__name__, expected="a tensor")
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
        raise DataError(
            f"{what} of '{path}'",
            got=f"{value.dtype}, {value.layout}, on {value.device}",
            expected="a dense tensor of real numbers",
        )
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise DataError(
            f"{what} of '{path}' claims more numbers than the file holds",
            got=f"{tuple(value.shape)} from {value.untyped_storage().nbytes()} bytes",
        )
    return value.detach()
