"""A classification network of torchvision by its name there (`arch: resnet18`), fitted to the data's channels and classes.

For images below 64 pixels a side the first reductions are left out (see `fitting`): a ResNet gets the 3x3 stem without
pooling that is usual for CIFAR. Auxiliary outputs, dropout and stochastic depth are off. It begins at drawn weights, or with
`path` at those of a local file; nothing is downloaded. Transformers on windows (Swin, MaxViT) are refused: their fused
attention cannot be differentiated twice. A vision transformer (ViT) takes square images whose side its patches divide.

An architecture keeps its meaning between versions of torchvision, so the version is in manifests and not in keys.

References:
    | https://pytorch.org/vision/stable/models.html#classification
"""

from __future__ import annotations

import re
from functools import cache
from typing import Literal

import torch
from pydantic import Field, field_validator
from torch import Tensor, nn

from distill_prune.errors import Misfit, nearest
from distill_prune.models.fitting import (
    SMALL,
    USUAL,
    Reductions,
    checked,
    for_channels,
    outlined,
    reductions,
    repeatable,
    without,
)
from distill_prune.models.weights import PretrainedSettings, read
from distill_prune.models.weights import resolved as resolved
from distill_prune.tree import State
from distill_prune.vision import classifier, classifiers

STEP_SECONDS = 0.3
_WINDOWS = re.compile("swin|maxvit")
_AUXILIARY = re.compile(r"aux\d\.|AuxLogits\.")
_OLD_DENSE = re.compile(r"(denselayer\d+\.(?:norm|conv))\.(\d)\.")


class Settings(PretrainedSettings):
    name: Literal["torchvision"] = "torchvision"
    arch: str = Field("resnet18", description="the network's name in torchvision: resnet18, mobilenet_v3_small, vgg11, ...")

    @field_validator("arch")
    @classmethod
    def _known(cls, arch: str) -> str:
        if arch not in classifiers():
            raise Misfit(f"torchvision has no classification network '{arch}'", expected=nearest(arch, classifiers()))
        if _WINDOWS.match(arch):
            raise Misfit(f"'{arch}' has fused attention on windows, which cannot be differentiated twice")
        return arch


class Attention(nn.Module):
    """Self-attention as `nn.MultiheadAttention` has it, of layers that are run as layers, and differentiable any number of
    times: (N, S, D) to (N, S, D)."""

    def __init__(self, before: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = before.num_heads
        self.in_proj = nn.Linear(before.embed_dim, 3 * before.embed_dim)
        self.out_proj = nn.Linear(before.embed_dim, before.embed_dim)
        with torch.no_grad():
            for layer, weight, bias in (
                (self.in_proj, before.in_proj_weight, before.in_proj_bias),
                (self.out_proj, before.out_proj.weight, before.out_proj.bias),
            ):
                layer.weight.copy_(weight)
                layer.bias.copy_(bias)

    def forward(self, x: Tensor, *_: Tensor, need_weights: bool = False) -> tuple[Tensor, None]:
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in self.in_proj(x).chunk(3, 2))
        shares = (q @ k.transpose(2, 3) / q.shape[3] ** 0.5).softmax(3)
        return self.out_proj((shares @ v).transpose(1, 2).flatten(2)), None


def _unfitted(arch: str, side: int, classes: int) -> nn.Module:
    """The network as torchvision has it, for three channels."""
    more: dict[str, object] = {}
    if arch in ("googlenet", "inception_v3"):
        more = {"aux_logits": False, "init_weights": True}
    elif arch.startswith("vit"):
        more = {"image_size": side}
    module = classifier(arch, classes, **more)
    if arch.startswith("mnasnet"):  # its own reader of states asks for a version, which states do not have here
        module.__class__ = type("MNASNet", (type(module),), {"_load_from_state_dict": nn.Module._load_from_state_dict})
    for layer in [*module.modules()]:
        for name, inner in [*layer.named_children()]:
            if isinstance(inner, nn.MultiheadAttention):
                setattr(layer, name, Attention(inner))
    return repeatable(module)


@cache
def _reductions(arch: str) -> Reductions:
    return reductions(outlined(lambda: _unfitted(arch, USUAL, 1)))


def _fitted(arch: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    channels, height, width = shape
    patches = arch.startswith("vit")
    if patches and height != width:
        raise ValueError("a vision transformer takes square images")
    module = _unfitted(arch, height, classes)
    if not patches and min(height, width) < SMALL:
        module = without(module, _reductions(arch))
    return for_channels(module, channels)


def build(settings: Settings, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Logits (N, classes) of images (N, *shape).

    Raises:
        ConfigError: the network cannot take such images.
        ValueError: they are no images.
    """
    return checked(_fitted, settings.arch, shape, classes)


def pretrained(settings: Settings, drawn: State) -> State:
    """The tensors of the file at `path`, by the network's names; none without a `path`.

    Raises:
        DataError: the file is missing, is another one, or does not fit the network.
    """
    return read(settings, drawn, _renamed)


def _renamed(name: str) -> str | None:
    """The network's name of a tensor as torchvision's files have it; None of auxiliary outputs."""
    if _AUXILIARY.match(name):
        return None
    return _OLD_DENSE.sub(r"\1\2.", name).replace(".in_proj_", ".in_proj.")
