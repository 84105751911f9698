"""AlexNet as the distillation literature cuts it for small images: five convolutions, no norm, no dropout.

Convolutions 5x5 of 128 and 192 channels and 3x3 of 256, 192 and 192, ReLU after each, 2x2 max pooling after the first,
second and last, then one linear layer: 1,871,232 prunable weights at 3x32x32 and 10 classes.

References:
    | ImageNet Classification with Deep Convolutional Neural Networks (Krizhevsky et al., 2012)
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), https://arxiv.org/abs/2203.11932
    | Distilled Pruning: Using Synthetic Data to Win the Lottery (McDermott and Cummings, 2023),
      https://arxiv.org/abs/2307.03364
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from distill_prune.models.layers import Init, initialised
from distill_prune.settings import Entry as Base

LAYERS = ((128, 5, True), (192, 5, True), (256, 3, False), (192, 3, False), (192, 3, True))
"""Of each convolution: its channels, its kernel, and whether pooling follows."""


class Settings(Base):
    name: Literal["alexnet"] = "alexnet"
    first_padding: int = Field(2, ge=0, description="zeros around the images; 4 makes 28 pixels 32, as MTT does for 1 channel")
    init: Init = Field("default", description="weights of convolutions and linear layers; default: torch's")


def build(settings: Settings, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Logits (N, classes) of images (N, *shape).

    Raises:
        ValueError: the images are too small to be pooled three times.
    """
    channels, height, width = shape
    least = 12 - 2 * settings.first_padding
    if min(height, width) < least:
        raise ValueError(f"{height}x{width} pixels cannot be pooled 3 times: the least is {least}x{least}")
    height, width = (side + 2 * settings.first_padding - 4 for side in (height, width))
    layers: list[nn.Module] = []
    for i, (after, kernel, pooled) in enumerate(LAYERS):
        padding = kernel // 2 if i else settings.first_padding
        layers += [nn.Conv2d(channels, after, kernel, padding=padding), nn.ReLU(), *([nn.MaxPool2d(2)] if pooled else [])]
        channels = after
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * (height // 8) * (width // 8), classes))
    return initialised(module, settings.init)
