"""Normalization: x' = (x - mean) / std for each channel, population statistics of the training part."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from distill_prune.artifacts import Transform
from distill_prune.errors import DataError

_CHUNK, _VALUES = 4096, 4096 * 3 * 32 * 32
"""Images that are summed at once, and the most values in them: these are in memory as float64."""
_CONSTANT = 1e-9


def fit_normalize(pixels: Tensor, scale: float, rows: Tensor | None = None) -> Transform:
    """Mean and standard deviation of each channel of `pixels` (N, C, H, W) / scale, summed in float64, kept in float32; of
    `rows` alone, where they are given.

    Raises:
        DataError: a channel is constant.
    """
    rows = torch.arange(len(pixels)) if rows is None else rows
    count = len(rows) * pixels[0, 0].numel()
    parts = torch.split(rows, max(1, min(_CHUNK, _VALUES // max(pixels[0].numel(), 1))))
    mean = _sums(pixels, parts) / count
    squares = _sums(pixels, parts, mean)
    mean, std = mean / scale, (squares / count).sqrt() / scale
    if bool((std < _CONSTANT).any()):
        channel = int(std.argmin())
        raise DataError(
            f"channel {channel} of the training images is constant",
            got=f"every pixel {float(mean[channel]):g}",
            expected="pixels that vary",
        )
    return Transform("normalize", {"mean": mean.float(), "std": std.float()})


def _sums(pixels: Tensor, parts: Sequence[Tensor], mean: Tensor | None = None) -> Tensor:
    """Sum (C,) over the rows in all `parts`, float64; with `mean` (C,) of the squared distances from it.

    One piece of memory serves all parts: a worker's heap keeps what is freed, in pieces that seldom fit what comes next.
    """
    whole = torch.empty(len(parts[0]), *pixels.shape[1:], dtype=torch.float64)
    sums = torch.empty(len(parts), pixels.shape[1], dtype=torch.float64)
    for place, rows in enumerate(parts):
        values = whole[: len(rows)].copy_(pixels[rows])
        if mean is not None:
            values.sub_(mean.view(1, -1, 1, 1)).square_()
        sums[place] = values.sum((0, 2, 3))
    return sums.sum(0)
