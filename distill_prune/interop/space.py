"""Which input space foreign images live in: files of network input do not say how it was made from pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.artifacts import Transform
from distill_prune.errors import ConfigError, DataError
from distill_prune.interop import Origin
from distill_prune.interop.sets import PIXELS, SetSettings

Space = Literal["normalize", "zca", "pixels"]


class SpaceSettings(SetSettings):
    """Options of formats of network input.

    `space` says what the images are: normalized or ZCA-whitened network input, or pixels. `mean` and `std` (one number a
    channel) are those that normalized images were made with, where they are not those of `dataset`.
    """

    space: Space | None = Field(None, description="what the images are: normalized or whitened network input, or pixels")
    mean: tuple[float, ...] | None = Field(
        None, description="means that normalized images were made with, one number a channel"
    )
    std: tuple[float, ...] | None = Field(
        None, description="deviations that normalized images were made with, one number a channel"
    )


def transform_of(path: Path, settings: SpaceSettings, origin: Origin, images: Tensor) -> Transform:
    """The transform that the images (N, C, H, W) of `path` have been through.

    For `normalize` the given `mean` and `std`, else the data set's own; for `zca` the data set's own.

    Raises:
        ConfigError: it was not given, or cannot be what was given.
        DataError: it does not fit the images.
    """
    space, given = settings.space, origin.transform
    if space is None:
        raise ConfigError(
            f"'{path}' does not say which input space its images live in",
            fix="--set space=normalize, space=zca or space=pixels",
        )
    if space != "normalize" and (settings.mean is not None or settings.std is not None):
        raise ConfigError(f"`mean` and `std` mean nothing to space '{space}'", fix="leave them out, or --set space=normalize")
    if space == "pixels":
        return PIXELS
    if space == "zca" and (given is None or given.kind != "zca"):
        raise ConfigError(
            f"'{path}' would be a ZCA-whitened set without its transform",
            got="no `dataset`" if given is None else f"a data set with transform '{given.kind}'",
            fix="prepare the data with `data.transform: zca` and give --set dataset=KEY",
        )
    if given is not None and given.kind != space:
        raise ConfigError(
            f"the images of '{path}' and the data set live in different input spaces",
            got=f"space '{space}', a data set with transform '{given.kind}'",
            fix=f"--set space={given.kind}, or a data set with `data.transform: {space}`",
        )
    if settings.mean is not None or settings.std is not None:
        given = _normalize(settings)
    if given is None:
        raise ConfigError(
            f"'{path}' does not say how its images were normalized",
            fix="--set dataset=REF, or --set mean=[...] and --set std=[...], one number a channel",
        )
    _check_size(path, given, images)
    return given


def _normalize(settings: SpaceSettings) -> Transform:
    mean, std = settings.mean, settings.std
    if not mean or not std or len(mean) != len(std) or min(std) <= 0:
        raise ConfigError(
            "`mean` and `std` of normalized images",
            got=f"mean {mean}, std {std}",
            expected="both, one number a channel, and positive std",
        )
    return Transform("normalize", {"mean": torch.tensor(mean), "std": torch.tensor(std)})


def _check_size(path: Path, transform: Transform, images: Tensor) -> None:
    name, size = ("mean", images.shape[1]) if transform.kind == "normalize" else ("mean_vector", images[0].numel())
    if transform.tensors[name].numel() != size:
        raise DataError(
            f"the transform does not fit the images of '{path}'",
            got=f"{transform.tensors[name].numel()} means, images {tuple(images.shape[1:])}",
            expected=f"{size} means",
        )
