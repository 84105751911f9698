"""Multi-formation: one stored image holds f x f smaller ones, each enlarged to full size before it is used.

    decode: (N, C, H, W) -> (f^2 N, C, H, W), the patches in row order, for each patch all images

An image is cut into f x f patches of ceil(H / f) x ceil(W / f) pixels (padded at the lower right where f does not divide
its sides), and every patch is enlarged bilinearly, half-pixel centres, as `nn.Upsample(mode="bilinear")` does. Enlarging is
two products with a matrix: differentiable any number of times, and deterministic on every device.

References:
    | Dataset Condensation via Efficient Synthetic-Data Parameterization (Kim et al., 2022), https://arxiv.org/abs/2205.14959
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_prune.arithmetic import ceil_div


@functools.cache
def enlarging(small: int, large: int, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu") -> Tensor:
    """The matrix (large, small) of bilinear enlargement along one axis."""
    unit = torch.eye(small, dtype=torch.float64).unsqueeze(1)
    matrix = F.interpolate(unit, size=large, mode="linear", align_corners=False).squeeze(1).T.contiguous()
    return matrix.to(device, dtype)


def decode(images: Tensor, factor: int, *, fill: float = 0.0) -> Tensor:
    """The f^2 N images (f^2 N, C, H, W) that `images` (N, C, H, W) hold; `fill` pads where f does not divide a side."""
    if factor == 1:
        return images
    height, width = images.shape[2:]
    rows, columns = ceil_div(height, factor), ceil_div(width, factor)
    padded = F.pad(images, (0, columns * factor - width, 0, rows * factor - height), value=fill)
    patches = torch.cat([p for band in torch.split(padded, rows, 2) for p in torch.split(band, columns, 3)])
    kind = patches.dtype, patches.device
    return enlarging(rows, height, *kind) @ patches @ enlarging(columns, width, *kind).T
