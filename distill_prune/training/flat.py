"""The trained parameters of a laned network in one piece of memory, so that a step updates them as one vector.

Every parameter is a block that begins at a multiple of WIDTH numbers, and the vector ends at one. Kernels take numbers WIDTH at
a time, and those that are left over in another way, which rounds differently (a product and a sum in one): here none is left
over, so that a lane's numbers do not depend on its place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill_prune.arithmetic import ceil_div

WIDTH = 64
"""A multiple of the numbers that a vector register holds, of any processor and type."""


@dataclass(frozen=True)
class Flat:
    """`values` (N,) and its gradient hold the parameters and theirs, as views; `blocks` are each one's first number and shape,
    (lanes, ...), in order."""

    values: nn.Parameter
    blocks: tuple[tuple[int, torch.Size], ...]

    @classmethod
    def of(cls, parameters: Sequence[nn.Parameter]) -> Flat:
        """Move the parameters into one vector, whose views they become."""
        starts, end = [], 0
        for p in parameters:
            starts.append(end)
            end += ceil_div(p.numel(), WIDTH) * WIDTH
        flat = cls(
            nn.Parameter(parameters[0].detach().new_zeros(end)),
            tuple((start, p.shape) for start, p in zip(starts, parameters, strict=True)),
        )
        gradient = torch.zeros_like(flat.values)
        flat.values.grad = gradient
        for parameter, block, slot in zip(parameters, flat.views(flat.values.detach()), flat.views(gradient), strict=True):
            block.copy_(parameter.detach())
            parameter.data, parameter.grad = block, slot
        return flat

    def views(self, vector: Tensor) -> list[Tensor]:
        """The blocks of a vector of this layout, each (lanes, ...)."""
        return [vector[start : start + shape.numel()].view(shape) for start, shape in self.blocks]

    def lane(self, vector: Tensor, index: int) -> Tensor:
        """One lane's numbers of a vector of this layout (P,)."""
        return torch.cat([block[index].reshape(-1) for block in self.views(vector)])

    def joined(self, lanes: Sequence[Tensor]) -> Tensor:
        """The vector of this layout whose lanes have the given numbers (P,)."""
        vector = torch.zeros_like(self.values.detach())
        sizes = [shape[1:].numel() for _, shape in self.blocks]
        for index, numbers in enumerate(lanes):
            for block, part in zip(self.views(vector), torch.split(numbers, sizes), strict=True):
                block[index] = part.view(block.shape[1:]).to(vector)
        return vector


def slots_of(optimizer: torch.optim.Optimizer, flats: Sequence[Flat], index: int, prefix: str) -> dict[str, Tensor]:
    """One lane's part of the tensors of an optimizer of `flats`, by name; counters are everybody's."""
    slots = {}
    for number, flat in enumerate(flats):
        for slot, value in optimizer.state[flat.values].items():
            if isinstance(value, Tensor):
                slots[f"{prefix}{number}/{slot}"] = flat.lane(value, index) if value.dim() else value
    return slots


def load_slots(
    optimizer: torch.optim.Optimizer, flats: Sequence[Flat], lanes: Sequence[Mapping[str, Tensor]], prefix: str
) -> None:
    """Put back what `slots_of` gave of each lane."""
    for number, flat in enumerate(flats):
        start = f"{prefix}{number}/"
        for name in (n for n in lanes[0] if n.startswith(start)):
            parts = [tensors[name] for tensors in lanes]
            optimizer.state[flat.values][name.removeprefix(start)] = flat.joined(parts) if parts[0].dim() else parts[0]
