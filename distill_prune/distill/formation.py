"""Where synthetic images begin: at real images or at noise, one or f x f of them in each stored image.

With factor f each stored image is a grid of f x f patches, every one a real image of the class, shrunk by averaging:
the start that artifacts/formation.py decodes into f^2 blurred real images.

References:
    | Dataset Condensation via Efficient Synthetic-Data Parameterization (Kim et al., 2022), https://arxiv.org/abs/2205.14959
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_prune.arithmetic import ceil_div
from distill_prune.distill import Source
from distill_prune.distill.classes import class_rows
from distill_prune.distill.subset import real_images
from distill_prune.errors import ConfigError
from distill_prune.rng import Streams

Init = Literal["real", "noise"]
"""Random real images of the class, or normal noise of standard deviation 1 in the network's input space."""


def assembled(images: Tensor, factor: int) -> Tensor:
    """Stored images (N, C, H, W) that hold `images` (f^2 N, C, H, W), in the order of `decode`: for each patch, in row order,
    all images. Where f does not divide a side, the last patches are cut off at the border."""
    if factor == 1:
        return images
    n, (channels, height, width) = len(images) // factor**2, images.shape[1:]
    rows, columns = ceil_div(height, factor), ceil_div(width, factor)
    small = F.interpolate(images, size=(rows, columns), mode="area").view(factor, factor, n, channels, rows, columns)
    grid = small.permute(2, 3, 0, 4, 1, 5).reshape(n, channels, factor * rows, factor * columns)
    return grid[..., :height, :width].contiguous()


def initial(source: Source, ipc: int, factor: int, kind: Init, streams: Streams) -> tuple[Tensor, Tensor]:
    """Stored images (ipc * classes, C, H, W) to begin with and their labels, class-major, on the CPU.

    Raises:
        ConfigError: the images are too small for `factor`.
        DataError: a class has fewer than ipc * factor^2 examples, where they begin at real ones.
    """
    for side in source.train.shape[1:]:
        if (factor - 1) * ceil_div(side, factor) >= side:
            raise ConfigError(
                f"factor {factor} leaves patches without a pixel",
                got=f"images of {'x'.join(map(str, source.train.shape[1:]))} pixels",
                expected=f"sides above {factor - 1} times their {factor}th part, rounded up",
                fix="a smaller factor",
            )
    labels = torch.arange(len(source.classes)).repeat_interleave(ipc)
    if kind == "noise":
        return torch.randn(len(labels), *source.train.shape, generator=streams("init", "noise")), labels
    patches = factor**2
    if patches > 1:
        class_rows(source.train.y, source.classes, ipc * patches, "a smaller ipc or factor")
    images = real_images(source.train, source.classes, ipc * patches, streams.under("init"))[0]
    return torch.cat([assembled(class_images, factor) for class_images in torch.split(images, ipc * patches)]), labels
