"""Normalization: x' = (x - mean) / std for each channel, population statistics of the training part."""

from __future__ import annotations

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
    mean = torch.stack([pixels[part].double().sum((0, 2, 3)) for part in parts]).sum(0) / count
    centre = mean.view(1, -1, 1, 1)
    squares = torch.stack([(pixels[part].double() - centre).square_().sum((0, 2, 3)) for part in parts]).sum(0)
    mean, std = mean / scale, (squares / count).sqrt() / scale
    if bool((std < _CONSTANT).any()):
        channel = int(std.argmin())
        raise DataError(
            f"channel {channel} of the training images is constant",
            got=f"every pixel {float(mean[channel]):g}",
            expected="pixels that vary",
        )
    return Transform("normalize", {"mean": mean.float(), "std": std.float()})
