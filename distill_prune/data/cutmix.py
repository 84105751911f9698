"""CutMix: a box of every image of a batch is taken from another one, and the labels are shared by area.

    x'_i = x_i outside the box, x_p(i) inside it                p a permutation of the batch
    loss = s CE(f(x'), y) + (1 - s) CE(f(x'), y_p)              s the share of the pixels outside the box

The box has sides floor(H sqrt(1 - lambda)) and floor(W sqrt(1 - lambda)) with lambda ~ Beta(beta, beta). Its centre is any
pixel; the part beyond the border is cut off, and s counts the pixels of the rest. One box serves the whole batch.

This is not quite the box of IDC's code, which runs from c - floor(a / 2) to c + floor(a / 2) for a centre c and a side a: where
a is odd, the side here is one pixel longer. At 32x32 and beta 1 a mixed image keeps .690 of its pixels on average, there .701.

References:
    | CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features (Yun et al., 2019),
      https://arxiv.org/abs/1905.04899
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Cut:
    """The cut of one batch: image i gets the box `rows` x `columns` of image `pairs[i]`, (N,), and keeps `share` of its label.
    Cuts are drawn on the CPU."""

    pairs: Tensor
    rows: slice
    columns: slice
    share: float


def draw(probability: float, beta: float, shape: tuple[int, ...], generator: torch.Generator) -> Cut | None:
    """The cut of a batch of the given shape (N, C, H, W); None with the probability 1 - `probability`."""
    if float(torch.rand((), generator=generator, dtype=torch.float64)) >= probability:
        return None
    from scipy.special import betaincinv

    n, _, height, width = shape
    # by inversion: torch draws a Beta from its global generator alone
    kept = float(betaincinv(beta, beta, float(torch.rand((), generator=generator, dtype=torch.float64))))
    rows, columns = (_side(side, math.sqrt(1 - kept), generator) for side in (height, width))
    area = (rows.stop - rows.start) * (columns.stop - columns.start)
    return Cut(torch.randperm(n, generator=generator), rows, columns, 1 - area / (height * width))


def _side(side: int, ratio: float, generator: torch.Generator) -> slice:
    """The part of 0..side-1 that the box covers."""
    size = int(side * ratio)
    begin = int(torch.randint(side, (), generator=generator)) - size // 2
    return slice(max(begin, 0), min(begin + size, side))


def apply(x: Tensor, cut: Cut) -> Tensor:
    """The batch `x` (N, C, H, W) with the box of each image taken from its pair; the cut is on the images' device."""
    mixed = x.clone()
    mixed[:, :, cut.rows, cut.columns] = x[:, :, cut.rows, cut.columns][cut.pairs]
    return mixed
