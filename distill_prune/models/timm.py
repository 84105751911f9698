"""A network of timm by its name there, such as `arch: convnext_atto`, fitted to the data's channels, image size and classes.

For images below 64 pixels a side the first reductions are left out (see `fitting`), but for networks whose image size is fixed
when they are built, as that of vision transformers: these are built for the data's. Dropout and stochastic depth are off, and
attention is computed as written. It begins at drawn weights, or with `path` at those of a local file; nothing is downloaded.

An architecture keeps its meaning between versions of timm, so the version is in manifests and not in keys.

References:
    | PyTorch Image Models (Wightman, 2019), https://github.com/huggingface/pytorch-image-models
"""

from __future__ import annotations

import contextlib
import importlib
from functools import cache
from types import ModuleType
from typing import Literal

from pydantic import Field, field_validator
from torch import nn

from distill_prune.errors import Misfit, nearest
from distill_prune.models.encoder import missing
from distill_prune.models.fitting import SMALL, Reductions, checked, outlined, reductions, repeatable, without
from distill_prune.models.weights import PretrainedSettings, read
from distill_prune.models.weights import resolved as resolved
from distill_prune.tree import State
from distill_prune.vision import torchvision

STEP_SECONDS = 0.3


class Settings(PretrainedSettings):
    name: Literal["timm"] = "timm"
    arch: str = Field("resnet18", description="the network's name in timm: resnet18, convnext_atto, vit_tiny_patch16_224, ...")

    @field_validator("arch")
    @classmethod
    def _known(cls, arch: str) -> str:
        if not _timm().is_model(arch):
            raise Misfit(f"timm has no network '{arch}'", expected=nearest(arch, _timm().list_models()))
        return arch


def _timm() -> ModuleType:
    """The package.

    Raises:
        UserError: it, or a package that it needs, is missing.
    """
    with contextlib.suppress(ImportError):
        torchvision()  # timm imports it without the fix that this door knows
    try:
        return importlib.import_module("timm")
    except ImportError as problem:
        raise missing("timm", (problem.name or "timm").partition(".")[0], "timm") from None


def _unfitted(arch: str, channels: int, classes: int, size: tuple[int, ...] | None = None) -> nn.Module:
    """The network as timm has it, for images of its own size, or of `size`."""
    of_size = {} if size is None else {"img_size": size}
    module: nn.Module = _timm().create_model(arch, pretrained=False, in_chans=channels, num_classes=classes, **of_size)
    for layer in module.modules():
        if hasattr(layer, "fused_attn"):  # a fused kernel cannot be differentiated twice
            vars(layer)["fused_attn"] = False
    return repeatable(module)


@cache
def _reductions(arch: str) -> Reductions:
    return reductions(outlined(lambda: _unfitted(arch, 3, 1)))


def _fitted(arch: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    channels, *size = shape
    if _timm().get_pretrained_cfg(arch).fixed_input_size:
        return _unfitted(arch, channels, classes, tuple(size))
    module = _unfitted(arch, channels, classes)
    return without(module, _reductions(arch)) if min(size) < SMALL else module


def build(settings: Settings, shape: tuple[int, ...], classes: int) -> nn.Module:
    """Logits (N, classes) of images (N, *shape).

    Raises:
        UserError: timm is missing.
        ConfigError: the network cannot take such images.
        ValueError: they are no images.
    """
    return checked(_fitted, settings.arch, shape, classes)


def pretrained(settings: Settings, drawn: State) -> State:
    """The tensors of the file at `path`, by the network's names; none without a `path`.

    Raises:
        DataError: the file is missing, is another one, or does not fit the network.
    """
    return read(settings, drawn)
