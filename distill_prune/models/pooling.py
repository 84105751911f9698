"""Means over 2x2 pixels: those of `nn.AvgPool2d(2)` to the bit, faster on a CPU.

    forward     y_ij = (((x_2i,2j + x_2i,2j+1) + x_2i+1,2j) + x_2i+1,2j+1) / 4
    backward    each pixel gets a quarter of its mean's gradient

torch takes pixels one by one. Here the means are four sums of whole tensors, in torch's order. Their gradient is one matrix
product: a row (W / 2) of it times S (W / 2, 2 W), which has a quarter where a pixel of the two rows belongs to the mean. All
other products are zero, so no sum rounds.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

PIECE = 2**19
"""Numbers of a tensor that are taken at a time."""
LARGE = 2**15
"""Up to so many numbers of a tensor torch's own form takes less time."""


class HalvingPool(nn.AvgPool2d):
    """(N, C, H, W) to (N, C, H / 2, W / 2). What traces, transforms or counts operations sees those of torch."""

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() <= LARGE or x.device.type != "cpu" or x.dtype not in (torch.float32, torch.float64) or _observed():
            return super().forward(x)
        return super().forward(x) if x.dim() != 4 or x.shape[2] % 2 or x.shape[3] % 2 else _means(x)


def _observed() -> bool:
    return torch.compiler.is_compiling() or is_in_torch_dispatch_mode() or torch._C._are_functorch_transforms_active()


def _means(x: Tensor) -> Tensor:
    if torch.is_grad_enabled() and x.requires_grad:
        y: Tensor = _Means.apply(x)  # type: ignore[no-untyped-call]
        return y
    images, channels, height, width = x.shape
    y = x.new_empty(images, channels, height // 2, width // 2)
    # The sums read and write the same places again and again: in the cache, where they take some images at a time.
    size = max(1, PIECE // (channels * height * width))
    for part, means in zip(torch.split(x, size), torch.split(y, size), strict=True):
        torch.add(part[..., ::2, ::2], part[..., ::2, 1::2], out=means)
        means += part[..., 1::2, ::2]
        means += part[..., 1::2, 1::2]
        means *= 0.25
    return y


def _spread(g: Tensor) -> Tensor:
    if torch.is_grad_enabled() and g.requires_grad:
        x: Tensor = _Spread.apply(g)  # type: ignore[no-untyped-call]
        return x
    *maps, height, width = g.shape
    return (g.reshape(-1, width) @ _quarters(width, g.dtype)).view(*maps, 2 * height, 2 * width)


@cache
def _quarters(width: int, kind: torch.dtype) -> Tensor:
    """S (width, 4 width)."""
    return torch.eye(width, dtype=kind).mul_(0.25).repeat_interleave(2, 1).repeat(1, 2)


class _Means(torch.autograd.Function):
    @staticmethod
    def forward(_: object, x: Tensor) -> Tensor:
        return _means(x)

    @staticmethod
    def backward(_: object, g: Tensor) -> Tensor:
        return _spread(g)


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(_: object, g: Tensor) -> Tensor:
        return _spread(g)

    @staticmethod
    def backward(_: object, x: Tensor) -> Tensor:
        return _means(x)
