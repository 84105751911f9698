"""VGG for small images: 3x3 convolutions with norms in five groups, max pooling between them, one linear layer.

Groups have width, 2, 4, 8 and 8 width channels. The last map is averaged over its pixels; a pooling is left out where the
map has no two pixels a side, so that any image fits. Tensors have OpenLTH's names and order, so that its tickets fit; `bn`
holds whichever norm was asked for. OpenLTH trains it with `init: kaiming_normal` and `norm_init: uniform`, and does not
prune the linear layer.

References:
    | Very Deep Convolutional Networks for Large-Scale Image Recognition (Simonyan and Zisserman, 2015),
      https://arxiv.org/abs/1409.1556
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis (Frankle et al., 2020), https://arxiv.org/abs/1912.05671
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from distill_prune.models.layers import Norm, NormedSettings, initialised, norm

if TYPE_CHECKING:
    from distill_prune.models.permutations import Groups

GROUP_SIZES = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}
"""Convolutions in each group, by depth."""


class Settings(NormedSettings):
    name: Literal["vgg"] = "vgg"
    depth: Literal[11, 13, 16, 19] = Field(16, description="layers")


class Layer(nn.Module):
    """relu(norm(3x3 convolution)): (N, before, H, W) to (N, after, H, W)."""

    def __init__(self, before: int, after: int, kind: Norm, pixels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(before, after, 3, padding=1)
        self.bn = norm(kind, after, pixels)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)))


class VGG(nn.Module):
    """Groups of layers, the mean over pixels, one linear layer."""

    def __init__(self, settings: Settings, shape: tuple[int, int, int], classes: int) -> None:
        super().__init__()
        before, height, width = shape
        layers: list[nn.Module] = []
        for i, count in enumerate(GROUP_SIZES[settings.depth]):
            if i > 0:
                # An identity keeps the numbers in the names of the layers behind it.
                halved = min(height, width) > 1
                layers.append(nn.MaxPool2d(2) if halved else nn.Identity())
                height, width = (height // 2, width // 2) if halved else (height, width)
            for _ in range(count):
                after = settings.width * min(2**i, 8)
                layers.append(Layer(before, after, settings.norm, height * width))
                before = after
        self.layers = nn.Sequential(*layers)
        self.fc = nn.Linear(before, classes)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.layers(x).mean((2, 3)))
        return logits

    def units(self, groups: Groups) -> None:
        """The channels of each convolution, in any order."""
        group = None
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Layer):
                group = groups.layer(f"layers.{i}.conv", group)
                groups.norm(f"layers.{i}.bn", group)
        groups.layer("fc", group, last=True)


def build(settings: Settings, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Logits (N, classes) of images (N, *shape).

    Raises:
        ValueError: instance norm, and images so small that the last map has one pixel.
    """
    return initialised(VGG(settings, shape, classes), settings.init, settings.norm_init)
