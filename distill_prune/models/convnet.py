"""ConvNet-D: the network of the distillation literature.

`depth` blocks of 3x3 convolution, norm, ReLU and 2x2 average pooling, then one linear layer. "Instance" norm is group
norm with one group a channel and a learned affine map, as there. MTT pads images of one channel by 3 at the first
convolution (`first_padding`), so that 28x28 pixels become 32x32.

References:
    | Few-shot learning without forgetting (Gidaris and Komodakis, 2018), https://arxiv.org/abs/1804.09458
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), https://arxiv.org/abs/2203.11932
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import nn

from distill_prune.models.layers import Init, Norm, NormedSettings, NormInit, initialised, norm
from distill_prune.models.pooling import HalvingPool
from distill_prune.settings import Later


class Settings(NormedSettings):
    name: Literal["convnet"] = "convnet"
    depth: int = Field(3, ge=1, le=8, description="blocks of convolution, norm, ReLU and pooling")
    width: int = Field(128, ge=1, description="channels of every block")
    norm: Norm = Field(
        "instance", description="the norm behind each convolution; instance: group norm with one group a channel"
    )
    norm_init: NormInit = Later("ones", description="weights of norms: ones, or drawn from U(0, 1)")
    init: Init = Later("default", description="weights of convolutions and linear layers; default: torch's")
    first_padding: int = Later(1, ge=0, description="zeros around the images; 3 makes 28 pixels 32")


def build(settings: Settings, shape: tuple[int, int, int], classes: int) -> nn.Module:
    """Logits (N, classes) of images (N, *shape).

    Raises:
        ValueError: the images are too small for the depth.
    """
    channels, height, width = shape
    height, width = (side + 2 * settings.first_padding - 2 for side in (height, width))
    if min(height, width) >> settings.depth < 1:
        raise ValueError(f"{height}x{width} pixels cannot be halved {settings.depth} times")
    layers: list[nn.Module] = []
    for i in range(settings.depth):
        layers.append(nn.Conv2d(channels, settings.width, 3, padding=1 if i else settings.first_padding))
        if settings.norm != "none":  # an identity would move the numbers in the layers' names
            layers.append(norm(settings.norm, settings.width, height * width))
        layers += [nn.ReLU(), HalvingPool()]
        channels, height, width = settings.width, height // 2, width // 2
    module = nn.Sequential(*layers, nn.Flatten(), nn.Linear(channels * height * width, classes))
    return initialised(module, settings.init, settings.norm_init)
