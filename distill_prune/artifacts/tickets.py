"""What pruning makes and retraining keeps: masks, tickets, weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.artifacts.basis import CostNumbers, Numbers, Parts, finite
from distill_prune.errors import RunError
from distill_prune.tree import State


@dataclass(frozen=True)
class Mask:
    """Which prunable weights survive: one bool tensor a prunable weight, by name. At least one weight survives."""

    kept: dict[str, Tensor]

    def __post_init__(self) -> None:
        for name, tensor in self.kept.items():
            if tensor.dtype != torch.bool:
                raise RunError(f"mask '{name}' is not binary", got=tensor.dtype, expected=torch.bool)
        if self.total == 0 or self.remaining == 0:
            raise RunError("a mask that keeps no weight", got=f"0 of {self.total}", fix="prune fewer levels")

    @classmethod
    def of(cls, p: Parts) -> Mask:
        """That of a ticket's parts."""
        order = TicketNumbers.model_validate(p.numbers).order
        if missing := [name for name in order if f"mask/{name}" not in p.tensors]:
            raise ValueError(f"tensor 'mask/{missing[0]}' is missing")
        return cls({name: p.tensors[f"mask/{name}"] for name in order})

    @classmethod
    def dense(cls, state: State, prunable: Sequence[str]) -> Mask:
        return cls({n: torch.ones(state[n].shape, dtype=torch.bool) for n in prunable})

    @property
    def total(self) -> int:
        return sum(t.numel() for t in self.kept.values())

    @property
    def remaining(self) -> int:
        return sum(int(t.sum()) for t in self.kept.values())

    @property
    def sparsity(self) -> float:
        """Share of prunable weights that are zero."""
        return 1 - self.remaining / self.total

    def layers(self) -> dict[str, dict[str, int]]:
        """Remaining and total weights of each prunable tensor."""
        return {n: {"remaining": int(t.sum()), "total": t.numel()} for n, t in self.kept.items()}

    def inside(self, other: Mask) -> bool:
        """Whether every weight that survives here survives in `other`: masks of a chain are nested."""
        return all(bool((other.kept[n] | ~t).all()) for n, t in self.kept.items())

    def apply(self, state: State) -> State:
        """`state` with pruned weights exactly zero; other tensors as they are."""
        return {
            n: torch.where(self.kept[n].to(t.device), t, torch.zeros_like(t)) if n in self.kept else t for n, t in state.items()
        }

    def to(self, device: str | torch.device) -> Mask:
        return Mask({n: t.to(device) for n, t in self.kept.items()})


class WeightsNumbers(Numbers):
    """`frozen` are the parameters that no training changes: the ticket has them."""

    frozen: list[str] = Field(default_factory=list)


@dataclass(frozen=True)
class Weights:
    """Every tensor of a network, parameters and buffers, all finite."""

    state: State
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tensor in self.state.items():
            finite(name, tensor)

    def parts(self) -> Parts:
        return Parts(self.state, self.numbers)

    @classmethod
    def of(cls, p: Parts) -> Weights:
        WeightsNumbers.model_validate(p.numbers)
        return cls(dict(p.tensors), dict(p.numbers))


class LayerNumbers(Numbers):
    remaining: int
    total: int


class TicketNumbers(Numbers):
    """`order` are the prunable weights in the network's order."""

    level: int = Field(ge=0)
    sparsity: float = Field(ge=0, le=1)
    remaining: int = Field(ge=1)
    total: int = Field(ge=1)
    order: list[str]
    layers: dict[str, LayerNumbers]
    cost: CostNumbers | None = None


@dataclass(frozen=True)
class Ticket:
    """One level of a chain: a mask, and the full state (W_k) that survivors are rewound to, pruned weights zero."""

    mask: Mask
    state: State
    level: int
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kept in self.mask.kept.items():
            if name not in self.state or self.state[name].shape != kept.shape:
                raise RunError(f"the mask of '{name}' does not fit the network")
            if bool((self.state[name][~kept] != 0).any()):
                raise RunError(f"pruned weights of '{name}' are not zero")

    def parts(self, base: State | None) -> Parts:
        """Masks, and of the state what cannot be had by masking `base` (level 0's state; None at level 0 itself)."""
        rewound = {} if base is None else self.mask.apply(base)
        stored = {n: t for n, t in self.state.items() if n not in rewound or not torch.equal(rewound[n], t)}
        tensors = {f"mask/{n}": t for n, t in self.mask.kept.items()} | {f"state/{n}": t for n, t in stored.items()}
        return Parts(
            tensors,
            {
                "level": self.level,
                "sparsity": self.mask.sparsity,
                "remaining": self.mask.remaining,
                "total": self.mask.total,
                "order": list(self.mask.kept),
                "layers": self.mask.layers(),
                **self.numbers,
            },
        )

    @classmethod
    def of(cls, p: Parts, base: State | None) -> Ticket:
        n = TicketNumbers.model_validate(p.numbers)
        mask = Mask.of(p)
        stored = {name.removeprefix("state/"): t for name, t in p.tensors.items() if name.startswith("state/")}
        return cls(mask, stored if base is None else {**mask.apply(base), **stored}, n.level, dict(p.numbers))
