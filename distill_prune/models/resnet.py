"""ResNet-10 and ResNet-18 for small images: ImageNet's four stages of basic blocks behind a 3x3 stem without pooling.

Stages have width, 2, 4 and 8 width channels. Width 64 is the usual ResNet-18; width 32 is the narrow network that IDC
condenses with, and with it the networks of the linear-mode-connectivity study of distilled pruning: 1,226,080 weights of
convolutions and the linear layer at depth 10, 2,792,800 at depth 18 (10 classes, 3 channels).

References:
    | Deep Residual Learning for Image Recognition, table 1 (He et al., 2016), https://arxiv.org/abs/1512.03385
    | Dataset Condensation via Efficient Synthetic-Data Parameterization (Kim et al., 2022), https://arxiv.org/abs/2205.14959
    | Linear Mode Connectivity in Sparse Neural Networks (McDermott and Cummings, 2023), https://arxiv.org/abs/2310.18769
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from distill_prune.models.layers import NormedSettings, initialised
from distill_prune.models.residual import ResNet


class Settings(NormedSettings):
    name: Literal["resnet"] = "resnet"
    depth: Literal[10, 18] = Field(18, description="layers")


def build(settings: Settings, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Logits (N, classes) of images (N, *shape).

    Raises:
        ValueError: instance norm, and images so small that the last map has one pixel.
    """
    stages = [settings.width * 2**i for i in range(4)]
    module = ResNet(shape, stages, (settings.depth - 2) // 8, settings.norm, classes)
    return initialised(module, settings.init, settings.norm_init)
