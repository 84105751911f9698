"""LeNet-300-100: two hidden layers on flat pixels.

References:
    | Gradient-based learning applied to document recognition (LeCun et al., 1998)
    | The Lottery Ticket Hypothesis (Frankle and Carbin, 2019), https://arxiv.org/abs/1803.03635
"""

from __future__ import annotations

import itertools
import math
from typing import Annotated, Literal

from pydantic import Field
from torch import nn

from distill_prune.models.layers import Init, initialised
from distill_prune.settings import Entry as Base
from distill_prune.settings import Later


class Settings(Base):
    name: Literal["lenet"] = "lenet"
    hidden: tuple[Annotated[int, Field(ge=1)], ...] = Field((300, 100), description="units of each hidden layer")
    init: Init = Later("default", description="weights of linear layers; default: torch's")


def build(settings: Settings, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Logits (N, classes) of images (N, *shape)."""
    sizes = [math.prod(shape), *settings.hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for before, after in itertools.pairwise(sizes):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return initialised(nn.Sequential(*layers, nn.Linear(sizes[-1], classes)), settings.init)
