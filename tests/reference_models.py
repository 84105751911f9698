"""Every network at a size for tests, real or on the meta device, and its input."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from distill_prune.models import MODELS, Model, build_model

CIFAR, MNIST, DIGITS = (3, 32, 32), (1, 28, 28), (1, 8, 8)
NORMS = ("batch", "instance", "layer", "group", "none")
NORMED = ("convnet", "cifar_resnet", "resnet", "vgg")
TINY: dict[str, dict[str, Any]] = {
    "convnet": {"depth": 2, "width": 4},
    "alexnet": {},
    "lenet": {"hidden": (7, 5)},
    "lenet5": {},
    "cifar_resnet": {"depth": 8, "width": 4},
    "resnet": {"depth": 10, "width": 4},
    "vgg": {"depth": 11, "width": 4},
}
"""Networks for images; those for text have tests of their own."""


def built(name: str, shape: tuple[int, ...] = DIGITS, classes: int = 3, **changes: Any) -> Model:
    return build_model(MODELS[name].Settings(**{**TINY[name], **changes}), shape, classes)


def on_meta(name: str, shape: tuple[int, ...], classes: int = 10, **settings: Any) -> nn.Module:
    with torch.device("meta"):
        return MODELS[name].build(MODELS[name].Settings(**settings), shape, classes)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
