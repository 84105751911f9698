"""What every noun is written as, its cost, and the check that numbers are numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, PlainValidator
from torch import Tensor

from distill_prune.errors import NonFiniteError
from distill_prune.settings import Settings, digest

Kind = Literal["floats", "integers", "bytes or floats", "integers or floats"]
"""Of the values of a tensor."""


@dataclass(frozen=True)
class Parts:
    """What of an artifact is written: tensors by name, and JSON numbers."""

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def content(self) -> str:
        """sha256 over the tensors (name, type, shape, bytes) and numbers."""
        tensors = {}
        for name, tensor in self.tensors.items():
            flat = tensor.detach().cpu().contiguous().reshape(-1)
            raw = flat.view(torch.uint8) if flat.numel() else flat
            tensors[name] = [str(tensor.dtype), list(tensor.shape), hashlib.sha256(raw.numpy().data).hexdigest()]
        return digest({"tensors": tensors, "numbers": dict(self.numbers)})

    def tensor(self, name: str, dims: int, kind: Kind) -> Tensor:
        """The tensor `name`, of so many dimensions and of a kind.

        Raises:
            ValueError: there is none, or it is empty or another.
        """
        tensor = self.tensors.get(name)
        if tensor is None or not tensor.numel():
            raise ValueError(f"tensor '{name}' is {'missing' if tensor is None else 'empty'}")
        if tensor.dim() != dims or not _KINDS[kind](tensor):
            raise ValueError(f"tensor '{name}' has {tensor.dim()} dimensions of {tensor.dtype}, expected {dims} of {kind}")
        return tensor


def _is_integer(tensor: Tensor) -> bool:
    return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype == torch.bool)


_KINDS: Mapping[Kind, Callable[[Tensor], bool]] = {
    "floats": Tensor.is_floating_point,
    "integers": _is_integer,
    "bytes or floats": lambda tensor: tensor.is_floating_point() or tensor.dtype == torch.uint8,
    "integers or floats": lambda tensor: tensor.is_floating_point() or _is_integer(tensor),
}


class Numbers(Settings):
    """Base of what is read of a noun's numbers: of the very types that JSON gives. What else is among them is left alone.

    A noun that is made of numbers of other types raises a ValueError.
    """

    model_config = ConfigDict(strict=True, extra="ignore")


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("Input should be a valid string")
    return value


Text = Annotated[str, PlainValidator(_text)]
"""A name out of the data: a folder's may hold bytes that are no UTF-8, which pydantic's own strings refuse."""


class CostNumbers(Numbers):
    images: int | float = Field(ge=0)
    steps: int | float = Field(ge=0)
    flops: int | float = Field(ge=0)


def finite(name: str, tensor: Tensor) -> None:
    """Raise NonFiniteError where a floating-point tensor holds infinities or NaN."""
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise NonFiniteError(f"tensor '{name}' is not finite", got=f"{int((~torch.isfinite(tensor)).sum())} bad values")


@dataclass(frozen=True)
class Cost:
    """What a computation spent: training examples seen, optimizer steps, floating-point operations."""

    images: int = 0
    steps: int = 0
    flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.images + other.images, self.steps + other.steps, self.flops + other.flops)

    def times(self, n: int) -> Cost:
        return Cost(self.images * n, self.steps * n, self.flops * n)

    def json(self) -> dict[str, int]:
        return {"images": self.images, "steps": self.steps, "flops": self.flops}


class MeasurementsNumbers(Numbers):
    analysis: str


@dataclass(frozen=True)
class Measurements:
    """The result of one analysis: JSON numbers, every estimate with its uncertainty and count."""

    analysis: str
    numbers: Mapping[str, Any]

    def parts(self) -> Parts:
        return Parts({}, {"analysis": self.analysis, **self.numbers})

    @classmethod
    def of(cls, p: Parts) -> Measurements:
        MeasurementsNumbers.model_validate(p.numbers)
        numbers = dict(p.numbers)
        return cls(numbers.pop("analysis"), numbers)
