"""What every noun is written as, its cost, and the check that numbers are numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from distill_prune.errors import NonFiniteError
from distill_prune.settings import digest


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


@dataclass(frozen=True)
class Measurements:
    """The result of one analysis: JSON numbers, every estimate with its uncertainty and count."""

    analysis: str
    numbers: Mapping[str, Any]

    def parts(self) -> Parts:
        return Parts({}, {"analysis": self.analysis, **self.numbers})

    @classmethod
    def of(cls, p: Parts) -> Measurements:
        numbers = dict(p.numbers)
        return cls(numbers.pop("analysis"), numbers)
