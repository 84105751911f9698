"""LeNet-5 with ReLU and max pooling: the variant of the lottery-ticket and distillation literature.

Convolution 5x5 of 6 channels, pooling, convolution 5x5 of 16 channels, pooling, linear layers of 120, 84 and the classes.
LeCun's had scaled tanh, trained subsampling, sparse connections between the maps, and 28x28 images on a 32x32 field, which
`first_padding` 2 amounts to; 0 is the form for 32x32 images. A map below 6x6 is padded before the second convolution,
which then keeps its size.

References:
    | Gradient-based learning applied to document recognition (LeCun et al., 1998)
    | Dataset Condensation with Gradient Matching (Zhao et al., 2021), https://arxiv.org/abs/2006.05929
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from distill_prune.models.layers import Init, initialised
from distill_prune.settings import Entry as Base


class Settings(Base):
    name: Literal["lenet5"] = "lenet5"
    first_padding: int = Field(2, ge=0, description="zeros around the images: 2 for 28x28, 0 for 32x32 as DC and MTT have it")
    init: Init = Field("default", description="weights of convolutions and linear layers; default: torch's")


def build(settings: Settings, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Logits (N, classes) of images (N, *shape).

    Raises:
        ValueError: the images are too small to be pooled twice.
    """
    channels, height, width = shape
    least = 8 - 2 * settings.first_padding
    if min(height, width) < least:
        raise ValueError(f"{height}x{width} pixels cannot be pooled twice: the least is {least}x{least}")
    height, width = ((side + 2 * settings.first_padding - 4) // 2 for side in (height, width))
    padding = 2 if min(height, width) < 6 else 0
    height, width = ((side + 2 * padding - 4) // 2 for side in (height, width))
    module = nn.Sequential(
        *(nn.Conv2d(channels, 6, 5, padding=settings.first_padding), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5, padding=padding), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(16 * height * width, 120), nn.ReLU()),
        *(nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, classes),
    )
    return initialised(module, settings.init)
