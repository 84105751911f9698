"""A second device without hardware: `far:0`. Its tensors are in CPU memory, and it refuses what a GPU would refuse.

Importing this file registers the device, once and for all of the process: a test that needs it starts a process of its own.
Operators on far tensors run on the CPU's kernels, so results have the CPU's bits. What a GPU would refuse raises
RuntimeError:

    operands on two devices, where the one on the CPU is more than a number
    draws from a generator of the CPU, or from one of the device: streams belong to the CPU
    operators that have no deterministic form on a GPU, in deterministic mode
    `.numpy()` of a far tensor, which torch itself refuses

What makes a GPU's host wait is counted in `TRAFFIC`, by the line of the package that asks for it:

    reads     the host needs a value, or a size that values decide: `item`, `tolist`, `.cpu()`, `nonzero`, `x[mask]`, `equal`
    copies    a tensor goes from the host to the device: `.to("far")`, `torch.tensor(..., device="far")`, `x[rows of the CPU]`
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._pytree import tree_map
from torch.utils.backend_registration import _DummyBackendModule, _setup_privateuseone_for_python_backend

import distill_prune

DEVICE = "far:0"
PACKAGE = str(Path(distill_prune.__file__).parent)

READER = "run/reader.py"
"""What it copies to the device is kept between artifacts."""

aten = torch.ops.aten
INDEXING = (aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_)
"""Operators that a GPU gives rows of the CPU, after copying these."""

UNDETERMINED = {
    "_adaptive_avg_pool2d_backward",
    "adaptive_max_pool2d_backward",
    "cumsum",
    "grid_sampler_2d_backward",
    "histc",
    "kthvalue",
    "median",
    "nll_loss2d",
    "put_",
    "reflection_pad2d_backward",
    "replication_pad2d_backward",
    "upsample_bicubic2d_backward",
    "upsample_bilinear2d_backward",
    "upsample_linear1d_backward",
}
"""Operators that CUDA refuses in deterministic mode, as the documentation of torch.use_deterministic_algorithms lists them."""

LOWERED = ("conv2d", "linear", "matmul", "mm", "bmm", "addmm", "baddbmm")
"""What computes in autocast's type, as on other devices."""


@dataclass
class Traffic:
    """Reads of the host and copies to the device, each by the line of the package that asks for it."""

    reads: Counter[str] = field(default_factory=Counter)
    copies: Counter[str] = field(default_factory=Counter)

    def taken(self) -> Traffic:
        """What was counted since the last call."""
        taken = Traffic(+self.reads, +self.copies)
        self.reads.clear()
        self.copies.clear()
        return taken


TRAFFIC = Traffic()
REFUSED: list[str] = []
"""What was refused in backward passes."""


def _place() -> str:
    """The innermost line of the package; a line of READER where one is further out. Another thread's is of a backward pass."""
    frame, place = sys._getframe(1), ""
    while frame is not None:
        file, line = frame.f_code.co_filename, frame.f_lineno
        if file.startswith(PACKAGE):
            name = file[len(PACKAGE) + 1 :]
            place = f"{name}:{line}" if name == READER or not place else place
        frame = frame.f_back  # type: ignore[assignment]
    return place or "a backward pass"


class Far(torch.Tensor):
    """A tensor on the device; `near` holds its values on the CPU."""

    near: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, near: Tensor) -> Far:
        shape, strides, offset = near.shape, near.stride(), near.storage_offset()
        far: Far = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, shape, strides=strides, storage_offset=offset, dtype=near.dtype, device=DEVICE
        )
        far.near = near
        return far

    @classmethod
    def __torch_dispatch__(
        cls, func: OpOverload, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        return _computed(func, args, kwargs or {})

    def __repr__(self) -> str:  # type: ignore[override]
        return f"Far({self.near})"

    @property
    def data(self) -> Tensor:  # type: ignore[override]
        return self.detach()

    @data.setter
    def data(self, other: Far) -> None:
        torch.Tensor.data.__set__(self, other)  # type: ignore[attr-defined]
        self.near = other.near

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def untyped_storage(self) -> torch.UntypedStorage:
        return self.near.untyped_storage()


def _near(value: Any) -> Any:
    """The same on the CPU: of a tensor, or of a list of them."""
    if isinstance(value, Far):
        return value.near
    return [_near(part) for part in value] if type(value) in (list, tuple) else value


def _far(value: Any) -> Any:
    """Results as far tensors."""
    if isinstance(value, Tensor):
        return Far(value)
    return type(value)(_far(part) for part in value) if type(value) in (list, tuple) else value


def _tensors(values: Iterable[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif type(value) in (list, tuple):
            yield from _tensors(value)


@dataclass(frozen=True)
class _Operator:
    """What is known of an operator. `written` are the arguments that it changes and returns, by place and name."""

    draws: bool
    undetermined: bool
    indexes: bool
    copies: bool
    reads: bool
    reshapes: bool
    written: tuple[tuple[int, str], ...]

    @classmethod
    @cache
    def of(cls, func: OpOverload) -> _Operator:
        tags, packet, arguments = func.tags, func.overloadpacket, enumerate(func._schema.arguments)
        return cls(
            torch.Tag.nondeterministic_seeded in tags,
            packet.__name__ in UNDETERMINED,
            packet in INDEXING,
            packet is aten.copy_,
            packet not in INDEXING and bool({torch.Tag.dynamic_output_shape, torch.Tag.data_dependent_output} & set(tags)),
            torch.Tag.inplace_view in tags,
            tuple((i, a.name) for i, a in arguments if a.alias_info is not None and a.alias_info.is_write),
        )


def _computed(func: OpOverload, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The operator's result, on the CPU's kernels."""
    operator, tensors = _Operator.of(func), list(_tensors((*args, *kwargs.values())))
    device = kwargs.get("device")
    homeward = device is not None and torch.device(device).type == "cpu"
    _refuse(func, operator, kwargs, tensors)
    _count(operator, args, tensors, homeward)
    placed = {name: _near(value) for name, value in kwargs.items()}
    if device is not None:
        placed["device"] = torch.device("cpu")
    result = func(*map(_near, args), **placed)
    if operator.reshapes:
        with torch._C._DisableTorchDispatch():  # the shape that the far tensor itself says
            func(*args, **kwargs)
    if operator.written:
        outputs = [args[place] if place < len(args) else kwargs[name] for place, name in operator.written]
        return None if result is None else outputs[0] if isinstance(result, Tensor) else tuple(outputs)
    return result if homeward else _far(result)


def _refuse(func: OpOverload, operator: _Operator, kwargs: Mapping[str, Any], tensors: Sequence[Tensor]) -> None:
    """Raise where a GPU would. An error in a backward pass, whose thread is torch's own, would end the process: it is kept."""
    strangers = [tuple(t.shape) for t in tensors if not isinstance(t, Far) and t.dim()]
    if operator.draws or kwargs.get("generator") is not None:
        problem = f"{func} draws on {DEVICE}: draws come from streams, which belong to the CPU"
    elif operator.undetermined and torch.are_deterministic_algorithms_enabled():
        problem = f"{func} has no deterministic form on a GPU"
    elif strangers and not operator.indexes and not operator.copies:
        problem = f"{func}: operands on {DEVICE} and on the CPU, the latter {strangers}"
    else:
        return
    if threading.current_thread() is threading.main_thread():
        raise RuntimeError(problem)
    REFUSED.append(problem)


def _count(operator: _Operator, args: Sequence[Any], tensors: Sequence[Tensor], homeward: bool) -> None:
    """Count what makes the host wait."""
    reads, copies = operator.reads or homeward, 0
    if operator.indexes:
        rows = list(_tensors(args[1]))
        copies = sum(not isinstance(index, Far) for index in rows)
        reads = any(index.dtype == torch.bool for index in rows)
    elif operator.copies and not all(isinstance(t, Far) for t in tensors):
        reads, copies = not isinstance(args[0], Far), int(isinstance(args[0], Far))
    if reads or copies:
        place = _place()
        TRAFFIC.reads[place] += reads
        TRAFFIC.copies[place] += copies


# -- registration


class _Module(_DummyBackendModule):
    """`torch.far`."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def _empty(size: Sequence[int], dtype: torch.dtype | None = None, *_: object, **more: object) -> Far:
    return Far(torch.empty(size, dtype=dtype))


def _empty_strided(size: Sequence[int], stride: Sequence[int], dtype: torch.dtype | None = None, **more: object) -> Far:
    return Far(torch.empty_strided(size, stride, dtype=dtype))


def _copy_from(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    """`torch.tensor(..., device="far")` passes Far's own dispatch by."""
    TRAFFIC.copies.update([_place()])
    _near(target).copy_(_near(source))
    return target


def _lowered(operator: OpOverload) -> Callable[..., Any]:
    def low(value: Any) -> Any:
        return value.to(torch.bfloat16) if isinstance(value, Far) and value.dtype == torch.float32 else value

    def kernel(*args: Any, **kwargs: Any) -> Any:
        with torch._C._ExcludeDispatchKeyGuard(torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastPrivateUse1)):
            return operator(*tree_map(low, args), **tree_map(low, kwargs))

    return kernel


def _registered(kernels: Iterable[tuple[str, Callable[..., Any], str]]) -> list[torch.library.Library]:
    """Libraries that hold the kernels, as long as they live."""
    _setup_privateuseone_for_python_backend("far", backend_module=_Module())
    operators, every = torch.library.Library("aten", "IMPL"), torch.library.Library("_", "IMPL")
    every.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    for name, kernel, key in kernels:
        operators.impl(name, kernel, key)
    return [operators, every]


_LIBRARIES = _registered(
    [
        ("empty.memory_format", _empty, "PrivateUse1"),
        ("empty_strided", _empty_strided, "PrivateUse1"),
        ("_copy_from", _copy_from, "PrivateUse1"),
        *((name, _lowered(getattr(aten, name).default), "AutocastPrivateUse1") for name in LOWERED),
    ]
)
