"""What training costs: floating-point operations, counted by torch, and examples seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from distill_prune.arithmetic import ceil_div
from distill_prune.artifacts import Cost, Examples
from distill_prune.models import Model


class CountFlops(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the floating-point operations of all tensor operations in its block; `total` is their number.

    The number of an operation is that of torch's own table. torch's FlopCounterMode uses the same table, but it hooks into
    modules, and these hooks fail where the block takes a gradient with respect to leaves.
    """

    total: int = 0

    def __torch_dispatch__(
        self,
        func: OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        out = func(*args, **(kwargs or {}))
        if (count := flop_registry.get(func.overloadpacket)) is not None:
            self.total += count(*args, **(kwargs or {}), out_val=out)
        return out


_flops: dict[tuple[str, int, torch.Size, torch.dtype], int] = {}


def flops_of_step(model: Model, batch: int, shape: torch.Size, kind: torch.dtype = torch.float32) -> int:
    """Floating-point operations of one forward and backward pass over a batch, counted by torch, zeros not skipped."""
    key = (model.identity, batch, shape, kind)
    if key not in _flops:
        module = model.instance(model.module.state_dict()).to("meta").train()
        with CountFlops() as counter:  # type: ignore[no-untyped-call]
            module(torch.empty(batch, *shape, device="meta", dtype=kind)).sum().backward()
        _flops[key] = counter.total
    return _flops[key]


def forward_cost(model: Model, x: Tensor) -> Cost:
    """The cost of one pass over network inputs `x` (N, C, H, W) without gradients: no steps."""
    module = model.instance(model.module.state_dict()).to("meta")
    with torch.no_grad(), CountFlops() as counter:  # type: ignore[no-untyped-call]
        module(torch.empty(1, *x.shape[1:], device="meta"))
    return Cost(len(x), 0, counter.total * len(x))


def flops_of_examples(model: Model, batch: int, examples: Examples) -> int:
    """`flops_of_step` for a batch of examples; sentences count by their mean length, for padding is mostly left out."""
    return flops_of_step(model, batch, *input_of(examples))


def input_of(examples: Examples) -> tuple[torch.Size, torch.dtype]:
    """Shape and type of a network's input of one example; of sentences, of the mean length."""
    lengths = examples.lengths
    if lengths is None:
        return examples.shape, torch.float32
    return torch.Size((2, round(float(lengths.float().mean())))), examples.x.dtype


def training_cost(
    model: Model, examples: int, shape: torch.Size, batch: int, first: int, last: int, kind: torch.dtype = torch.float32
) -> Cost:
    """The cost of the steps first..last-1 over a set of so many examples of the given shape."""
    per_epoch = ceil_div(examples, batch)
    full_size = min(batch, examples)
    short_size = examples - (per_epoch - 1) * batch
    short = last // per_epoch - first // per_epoch  # epochs that end in these steps: the last batch of each is short
    full = (last - first) - short
    flops = full * flops_of_step(model, full_size, shape, kind) + short * flops_of_step(model, short_size, shape, kind)
    return Cost(full * full_size + short * short_size, last - first, flops)
