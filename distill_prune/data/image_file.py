"""Image files to pixels: decoded once, scaled where asked, all of one shape.

Gray becomes colour and colour gray as `channels` asks; transparency is dropped, and a camera's note on orientation is not
followed, as torchvision's image folders do.
"""

from __future__ import annotations

import contextlib
import struct
import warnings
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill_prune.errors import DataError
from distill_prune.limits import Budget
from distill_prune.outside import opened

if TYPE_CHECKING:
    from PIL import Image

Pixel = TypeVar("Pixel", np.uint8, np.float32)
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")
DAMAGE = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error, MemoryError)
"""What Pillow raises of images that are damaged."""
_DECODING = 16
"""Bytes of memory for a pixel while an image is decoded: its coefficients, its colours, and those that are asked for."""


def size_of(file: Path, budget: Budget) -> tuple[int, int, bool]:
    """Width and height of an image, and whether it is gray; its pixels are not decoded.

    Raises:
        DataError: it is no such image, or its pixels would take more memory than the `budget` has.
    """
    try:
        with opened(file) as content, picture(content, _FORMATS, budget) as image:
            return (*image.size, image.mode in ("1", "L", "LA"))
    except DAMAGE as problem:
        raise DataError(f"'{file}' cannot be read", got=problem, expected="a PNG, JPEG, WebP or BMP image") from problem


@contextlib.contextmanager
def picture(file: IO[bytes], formats: tuple[str, ...], budget: Budget) -> Iterator[Image.Image]:
    """An image that the budget can pay for, to be decoded; without a word of what Pillow thinks of it.

    Raises:
        DataError: it takes too much memory.
    """
    from PIL import Image

    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # a limit of its own, that no option raises
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=formats) as image:
                budget.check(_DECODING * image.width * image.height, f"to decode {image.width}x{image.height} pixels")
                yield image
    finally:
        Image.MAX_IMAGE_PIXELS = before


def decode(files: Sequence[Path], size: int | None, channels: int, budget: Budget) -> Tensor:
    """The images (N, C, H, W) uint8 of the files, of which there is at least one.

    With `size`, the shorter side is scaled to `size` (bilinear, antialiased) and the middle size x size pixels are taken.

    Raises:
        DataError: a file cannot be decoded, all take more memory than the `budget` has, or, without `size`, two images
            differ in size.
    """
    whole: NDArray[np.uint8] = np.empty(0, np.uint8)
    for place, file in enumerate(files):
        pixels = _pixels(file, size, channels, budget)
        if place == 0:
            budget.take(len(files) * pixels.size, f"{len(files)} images of {pixels.shape[1]}x{pixels.shape[0]} pixels")
            whole = np.empty((len(files), channels, *pixels.shape[:2]), np.uint8)
        if pixels.shape[:2] != whole.shape[2:]:
            raise DataError(
                "images differ in size",
                got=f"{pixels.shape[1]}x{pixels.shape[0]} in '{file}'",
                expected=f"{whole.shape[3]}x{whole.shape[2]} as in '{files[0]}'",
                fix="set data.size, to scale the shorter side to it and cut out the middle",
            )
        whole[place] = pixels.transpose(2, 0, 1)
    return torch.from_numpy(whole)


def _pixels(file: Path, size: int | None, channels: int, budget: Budget) -> NDArray[np.uint8]:
    """One image (H, W, C)."""
    try:
        with opened(file) as content, picture(content, _FORMATS, budget) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(
                    f"'{file}' holds more than 8 bits for a pixel", got=f"mode {image.mode}", expected="8 bits for a channel"
                )
            shown = image.convert("L" if channels == 1 else "RGB")
            if size is not None:
                shown = _middle(shown, size, budget, f"'{file}'")
            return np.asarray(shown).reshape(shown.height, shown.width, channels)
    except DAMAGE as problem:
        raise DataError(
            f"'{file}' cannot be decoded", got=f"{problem!s:.200}", expected="a whole PNG, JPEG, WebP or BMP image"
        ) from problem


def scaled(images: NDArray[Pixel], size: int, budget: Budget) -> NDArray[Pixel]:
    """Images (N, C, H, W), uint8 or float32, as `decode` scales those of files: (N, C, size, size)."""
    from PIL import Image

    whole = np.empty((*images.shape[:2], size, size), images.dtype)
    for place, channel in np.ndindex(*images.shape[:2]):
        whole[place, channel] = np.asarray(_middle(Image.fromarray(images[place, channel]), size, budget, "an image"))
    return whole


def _middle(image: Image.Image, size: int, budget: Budget, name: str) -> Image.Image:
    """The image with its shorter side scaled to `size`, and of that the middle size x size pixels. Messages have its name."""
    from PIL import Image

    width, height = (max(size, round(side * size / min(image.size))) for side in image.size)
    budget.check(_DECODING * width * height, f"to scale {name} to {width}x{height} pixels")
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
