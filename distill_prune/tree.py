"""Algebra on dict[str, Tensor]: the states of networks as vectors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from distill_prune.arithmetic import ceil_div

_WORD = 16
"""Bytes; every tensor of a shared piece of memory begins at a multiple of them."""

State = dict[str, Tensor]
"""Every tensor of a network by dotted name: parameters and buffers."""


def flatten(state: Mapping[str, Tensor], names: Iterable[str] | None = None) -> Tensor:
    """The tensors of `names` (default: all, in order) as one vector of shape (P,)."""
    return torch.cat([state[n].reshape(-1) for n in (state if names is None else names)])


def unflatten(vector: Tensor, shapes: Mapping[str, torch.Size]) -> State:
    """Views of `vector` (P,) with the given names and shapes, in order."""
    parts = torch.split(vector, [s.numel() for s in shapes.values()])
    return {n: p.view(s) for (n, s), p in zip(shapes.items(), parts, strict=True)}


def shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    """Names and shapes, in order."""
    return {n: t.shape for n, t in state.items()}


def select(state: Mapping[str, Tensor], names: Iterable[str]) -> State:
    """The entries of `names`, in the order of `names`."""
    return {n: state[n] for n in names}


def clone(state: Mapping[str, Tensor]) -> State:
    """Detached copies in fresh memory."""
    return {n: t.detach().clone() for n, t in state.items()}


def to(state: Mapping[str, Tensor], device: str | torch.device) -> State:
    """Every tensor on `device`."""
    return {n: t.to(device) for n, t in state.items()}


def moved(tensors: Sequence[Tensor], device: str | torch.device) -> list[Tensor]:
    """Small tensors of any types on `device`: those of the CPU are copied there all together, and share memory."""
    if all(t.device == torch.device(device) for t in tensors):
        return list(tensors)
    starts = list(accumulate((ceil_div(t.nbytes, _WORD) * _WORD for t in tensors), initial=0))
    together = torch.empty(starts.pop(), dtype=torch.uint8)
    for start, tensor in zip(starts, tensors, strict=True):
        together[start : start + tensor.nbytes] = tensor.contiguous().view(-1).view(torch.uint8)
    there = together.to(device)
    return [there[s : s + t.nbytes].view(t.dtype).view(t.shape) for s, t in zip(starts, tensors, strict=True)]


def lerp(a: Mapping[str, Tensor], b: Mapping[str, Tensor], alpha: float) -> State:
    """(1 - alpha) a + alpha b, exact at both ends.

    Integer tensors (such as counters of batches) cannot be interpolated; they must be equal in `a` and `b` or are
    taken from `a`: no network's output may depend on them.
    """
    if alpha == 0.0:
        return dict(a)
    if alpha == 1.0:
        return dict(b)
    return {n: (1 - alpha) * t + alpha * b[n] if t.is_floating_point() else t for n, t in a.items()}


def dot(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Tensor:
    """Sum over all entries of a times b; a scalar."""
    return torch.stack([(t * b[n]).sum() for n, t in a.items()]).sum()


def norm(a: Mapping[str, Tensor]) -> Tensor:
    """The Euclidean norm over all entries; a scalar."""
    return dot(a, a).sqrt()
