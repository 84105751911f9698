"""CIFAR ResNet: the residual network of the lottery-ticket literature. Depth 20 and width 16 are its ResNet-20.

6n + 2 layers: a stem, three stages of n basic blocks with width, 2 width and 4 width channels, and one linear layer.
Where the shape changes, the shortcut is a 1x1 convolution with its norm, as in OpenLTH (He et al. pad with zeros). OpenLTH
trains it with `init: kaiming_normal` and `norm_init: uniform`.

References:
    | Deep Residual Learning for Image Recognition, section 4.2 (He et al., 2016), https://arxiv.org/abs/1512.03385
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis (Frankle et al., 2020), https://arxiv.org/abs/1912.05671
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator
from torch import nn

from distill_prune.errors import Misfit
from distill_prune.models.layers import NormedSettings, initialised
from distill_prune.models.residual import ResNet


class Settings(NormedSettings):
    name: Literal["cifar_resnet"] = "cifar_resnet"
    depth: int = Field(20, ge=8, description="6n + 2 layers: 8, 14, 20, 32, 44, 56, 110")
    width: int = Field(16, ge=1, description="channels of the first stage")

    @field_validator("depth")
    @classmethod
    def _whole_blocks(cls, depth: int) -> int:
        if (depth - 2) % 6:
            raise Misfit("a CIFAR ResNet has 6n + 2 layers", got=depth, expected="8, 14, 20, 32, 44, 56, 110, ...")
        return depth


def build(settings: Settings, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Logits (N, classes) of images (N, *shape).

    Raises:
        ValueError: instance norm, and images so small that the last map has one pixel.
    """
    stages = [settings.width * 2**i for i in range(3)]
    module = ResNet(shape, stages, (settings.depth - 2) // 6, settings.norm, classes)
    return initialised(module, settings.init, settings.norm_init)
