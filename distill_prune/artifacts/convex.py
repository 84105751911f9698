"""Convex experts: the first and the last checkpoint alone, and in place of the others points on the line between them.

    theta_l(t) = (1 - a_l(t)) theta_l(0) + a_l(t) theta_l(T)                      for every tensor l, and any time t in [0, T]
    a_l(t) = sum_{i=1..t} ||theta_l(i) - theta_l(i-1)|| / sum_{i=1..T} ||theta_l(i) - theta_l(i-1)||      at the end of epoch t

a_l is the share of its way that the tensor has behind it, so the line is passed at the expert's own pace: in steps of the
lengths of its own. Between the ends of epochs a_l is linear. Of a tensor that never moves, a_l(t) = t / T. The shares are
computed once, of all checkpoints, in float64; after that a trajectory takes two rows and T + 1 numbers a tensor.

References:
    | Towards Stable and Storage-efficient Dataset Distillation: Matching Convexified Trajectory (Zhong et al., 2025),
      https://arxiv.org/abs/2406.19827
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor


class Rows(Protocol):
    """Checkpoints by index: a tensor (T, P), or a file that is read one row at a time."""

    def __getitem__(self, index: int, /) -> Tensor: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Line:
    """Rows (T + 1, P) that lie on the line between two, `ends` (2, P).

    `progress` (T + 1, L), float64, holds a_l at the ends of epochs; `sizes` are the lengths of the L tensors of a row.

    Raises:
        ValueError: they do not fit each other, or a tensor does not go from 0 to 1, or goes back.
    """

    ends: Rows
    progress: Tensor
    sizes: Sequence[int]

    def __post_init__(self) -> None:
        a = self.progress
        if len(self.ends) != 2 or a.dim() != 2 or len(a) < 2 or a.shape[1] != len(self.sizes):
            got = f"{len(self.ends)} rows, progress {tuple(a.shape)}"
            raise ValueError(f"a line of the wrong shape: {got}, expected 2 rows, progress (T + 1, {len(self.sizes)})")
        if bool((a[0] != 0).any()) or bool((a[-1] != 1).any()) or not bool((a[1:] >= a[:-1]).all()):
            raise ValueError("progress along a line does not go from 0 to 1")

    def __len__(self) -> int:
        return len(self.progress)

    def __getitem__(self, epoch: int) -> Tensor:
        return self.at(epoch)

    def at(self, time: float) -> Tensor:
        """The point (P,) at a time in epochs, in fresh memory; at 0 and at T the checkpoints themselves.

        Raises:
            IndexError: the time is not in [0, T].
        """
        if not 0 <= time <= len(self) - 1:
            raise IndexError(f"time {time} on a line of {len(self) - 1} epochs")
        before = math.floor(time)
        shares = self.progress[before]
        if time > before:
            shares = shares + (time - before) * (self.progress[before + 1] - shares)
        pairs = (torch.split(self.ends[i], list(self.sizes)) for i in (0, 1))
        return torch.cat([torch.lerp(a, b, share) for a, b, share in zip(*pairs, shares.tolist(), strict=True)])


def progress(rows: Tensor, sizes: Sequence[int]) -> Tensor:
    """The shares a_l (T + 1, L), float64, of checkpoints (T + 1, P)."""
    lengths = []
    for earlier, later in pairwise(rows):  # one step at a time: never all of it in float64
        step = torch.split(later.double() - earlier.double(), list(sizes))
        lengths.append(torch.stack([torch.linalg.vector_norm(part) for part in step]))
    way = torch.cat([rows.new_zeros(1, len(sizes), dtype=torch.float64), torch.stack(lengths).cumsum(0)])
    even = torch.linspace(0, 1, len(rows), dtype=torch.float64, device=rows.device)[:, None]
    moves = way[-1] > 0
    return torch.where(moves, way / torch.where(moves, way[-1], 1.0), even)


def convexified(rows: Tensor, shapes: Mapping[str, torch.Size]) -> Line:
    """The line of checkpoints (T + 1, P)."""
    sizes = [shape.numel() for shape in shapes.values()]
    return Line(torch.stack([rows[0], rows[-1]]), progress(rows, sizes), sizes)
