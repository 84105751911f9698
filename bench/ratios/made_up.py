"""Networks and images that rows are measured on: content does not matter there."""

from __future__ import annotations

import copy

import torch
from torch import nn

from distill_prune.artifacts import Examples
from distill_prune.models import Model, build_model, convnet
from distill_prune.rng import stream


def network(depth: int, width: int, shape: tuple[int, ...]) -> Model:
    return build_model(convnet.Settings(depth=depth, width=width, norm="instance"), shape, 10)


def images(count: int, shape: tuple[int, ...], device: str) -> Examples:
    """Noise, with labels of ten classes."""
    draws = stream(0, "bench")
    return Examples(torch.randn(count, *shape, generator=draws), torch.randint(10, (count,), generator=draws)).to(device)


def of_torch(network: nn.Module) -> nn.Module:
    """The same network with torch's own pooling: what plain sides compute."""
    network = copy.deepcopy(network)
    for name, layer in list(network.named_modules()):
        if isinstance(layer, nn.AvgPool2d):
            network.set_submodule(name, nn.AvgPool2d(layer.kernel_size))
    return network
