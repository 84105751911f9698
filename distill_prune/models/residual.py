"""Residual networks of basic blocks for small images: what `cifar_resnet` and `resnet` build.

    x <- relu(f(x) + s(x)),   f: 3x3 convolution, norm, ReLU, 3x3 convolution, norm
    s(x) = x, or norm(1x1 convolution of x) where stride or width change

Convolutions have biases only where no norm follows. Tensors have OpenLTH's names and order, so that its tickets fit;
`bn` holds whichever norm was asked for.

References:
    | Deep Residual Learning for Image Recognition (He et al., 2016), https://arxiv.org/abs/1512.03385
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch.nn.functional as F
from torch import Tensor, nn

from distill_prune.arithmetic import ceil_div
from distill_prune.models.layers import Norm, norm

if TYPE_CHECKING:
    from distill_prune.models.permutations import Groups


class Block(nn.Module):
    """(N, before, H, W) to (N, after, H / stride, W / stride), rounded up; the result has `pixels` pixels."""

    def __init__(self, before: int, after: int, stride: int, kind: Norm, pixels: int) -> None:
        super().__init__()
        bias = kind == "none"
        self.conv1 = nn.Conv2d(before, after, 3, stride, padding=1, bias=bias)
        self.bn1 = norm(kind, after, pixels)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=bias)
        self.bn2 = norm(kind, after, pixels)
        self.shortcut = nn.Sequential()
        if stride != 1 or before != after:
            self.shortcut = nn.Sequential(nn.Conv2d(before, after, 1, stride, bias=bias), norm(kind, after, pixels))

    def forward(self, x: Tensor) -> Tensor:
        inner = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(inner)) + self.shortcut(x))


class ResNet(nn.Module):
    """A 3x3 stem, stages of `blocks` blocks, mean over pixels, one linear layer; each stage but the first halves the map.

    Args:
        shape: (C, H, W) of the images.
        stages: The channels of each stage; the stem has those of the first.
    """

    def __init__(self, shape: tuple[int, int, int], stages: Sequence[int], blocks: int, kind: Norm, classes: int) -> None:
        super().__init__()
        (channels, height, width), before = shape, stages[0]
        self.conv = nn.Conv2d(channels, before, 3, padding=1, bias=kind == "none")
        self.bn = norm(kind, before, height * width)
        stack = []
        for i, after in enumerate(stages):
            for j in range(blocks):
                stride = 2 if i > 0 and j == 0 else 1
                height, width = ceil_div(height, stride), ceil_div(width, stride)
                stack.append(Block(before, after, stride, kind, height * width))
                before = after
        self.blocks = nn.Sequential(*stack)
        self.fc = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.blocks(F.relu(self.bn(self.conv(x))))
        logits: Tensor = self.fc(x.mean((2, 3)))
        return logits

    def units(self, groups: Groups) -> None:
        """One order goes along the skip path of each stage, one is inside of each block."""
        main = groups.layer("conv", None)
        groups.norm("bn", main)
        for i, block in enumerate(self.blocks):
            name = f"blocks.{i}"
            inner = groups.layer(f"{name}.conv1", main)
            groups.norm(f"{name}.bn1", inner)
            projects = len(block.shortcut) > 0  # type: ignore[arg-type]
            after = groups.layer(f"{name}.conv2", inner, joins=None if projects else main)
            groups.norm(f"{name}.bn2", after)
            if projects:
                groups.layer(f"{name}.shortcut.0", main, joins=after)
                groups.norm(f"{name}.shortcut.1", after)
            main = after
        groups.layer("fc", main, last=True)
