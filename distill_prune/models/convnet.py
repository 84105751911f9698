"""ConvNet-D: the network of the distillation literature.

`depth` blocks of 3x3 convolution, norm, ReLU and 2x2 average pooling, then one linear layer. "Instance" norm is group
norm with one group a channel and a learned affine map, as there.

References:
    | Few-shot learning without forgetting (Gidaris and Komodakis, 2018), https://arxiv.org/abs/1804.09458
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), https://arxiv.org/abs/2203.11932
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from distill_prune.settings import Entry as Base


class Settings(Base):
    name: Literal["convnet"] = "convnet"
    depth: int = Field(3, ge=1, le=8)
    width: int = Field(128, ge=1)
    norm: Literal["instance", "batch", "none"] = "instance"


def _norm(kind: str, width: int) -> list[nn.Module]:
    if kind == "instance":
        return [nn.GroupNorm(width, width)]
    return [nn.BatchNorm2d(width)] if kind == "batch" else []


def build(settings: Settings, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Logits (N, classes) of images (N, *shape).

    Raises:
        ValueError: the images are too small for the depth.
    """
    channels, height, width = shape
    if min(height, width) >> settings.depth < 1:
        raise ValueError(f"{height}x{width} pixels cannot be halved {settings.depth} times")
    layers: list[nn.Module] = []
    for _ in range(settings.depth):
        layers += [
            nn.Conv2d(channels, settings.width, 3, padding=1),
            *_norm(settings.norm, settings.width),
            nn.ReLU(),
            nn.AvgPool2d(2),
        ]
        channels, height, width = settings.width, height // 2, width // 2
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))
