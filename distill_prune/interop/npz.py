"""Sets in one .npz file: `images`, `labels` (N,) and, where they have names, `classes`. Other arrays are left alone.

    images    uint8 pixels, or floating-point pixels or network input, which the file does not say (`space`);
              (N, H, W, C) or (N, C, H, W) with C 1 or 3

In: as data sets in .npz files, but for floats outside [0, 1]; float16 and float64 become float32. `lr` and `factor` are not in
such a file and can be given. Out: pixels that are exact multiples of 1/255 as uint8 (N, H, W, C), all else as float32
(N, C, H, W), without transform, learning rate and factor. So uint8 and float32 files come back with equal images, and float16
ones with images that astype(float16) makes equal.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import Field

from distill_prune.artifacts import SyntheticSet
from distill_prune.checkpoints import present
from distill_prune.data.npz_file import Archive
from distill_prune.errors import ConfigError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import one, publish
from distill_prune.interop.sets import PIXELS, Content, Rate, images_of, named, outgoing
from distill_prune.interop.space import SpaceSettings, transform_of

KIND = "set"
_FLOATS = 8
"""Bytes of memory for a value as float32, before and after it is checked or scaled."""


class Settings(SpaceSettings):
    """`factor` squared training images are in each stored one; `lr` is the learned learning rate."""

    name: Literal["npz"] = "npz"
    lr: Rate = Field(None, description="the learned learning rate")
    factor: int = Field(1, ge=1, description="f x f training images are in each stored one")


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> SyntheticSet:
    """The set of one file.

    Raises:
        ConfigError: floating-point images and no `space`, or another option is missing.
        DataError: the file is missing, hostile or damaged, or something does not fit.
    """
    path = present(one(paths, "a set of format npz"))
    file = Archive.read(path)
    if file.offsets is not None or file.images.dtype == np.uint8:
        if settings.space not in (None, "pixels") or settings.mean or settings.std:
            raise ConfigError(f"images of '{path}' are pixels", got="bytes", fix="leave `space`, `mean` and `std` out")
        pixels = file.pixels(torch.arange(len(file.labels)))
        file.budget.take(_FLOATS * pixels.numel(), "with its pixels as float32")
        images, transform = pixels.float() / 255, PIXELS
    else:
        file.budget.take(_FLOATS * file.images.size, "with its images as float32")
        images = images_of(path, torch.from_numpy(file.images.astype(np.float32)))
        transform = transform_of(path, settings, origin, images)
    names = named(path, settings, origin, file.classes)
    return Content(path, "npz", images, file.labels, transform, classes=names, lr=settings.lr, factor=settings.factor).checked(
        settings, origin
    )


def write(export: Export, path: Path) -> list[Path]:
    """One file.

    Raises:
        UserError: it is no set with hard labels, or something stands at `path`.
    """
    synthetic = outgoing(export, "npz", factor=True)
    images = synthetic.images.float()
    whole = (images * 255).round().clamp(0, 255).to(torch.uint8)
    exact = synthetic.transform.kind == "pixels" and torch.equal(whole.float() / 255, images)
    buffer = io.BytesIO()
    np.savez(
        buffer,
        images=whole.permute(0, 2, 3, 1).contiguous().numpy() if exact else images.contiguous().numpy(),
        labels=synthetic.labels.numpy().astype(np.min_scalar_type(len(synthetic.classes) - 1)),
        classes=np.array(synthetic.classes),
    )
    return publish(path, buffer.getvalue())
