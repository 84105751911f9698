"""Image files to pixels: decoded once, scaled where asked, all of one shape.

Gray becomes colour and colour gray as `channels` asks; transparency is dropped, and a camera's note on orientation is not
followed, as torchvision's image folders do.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill_prune.errors import DataError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP")


def size_of(file: Path) -> tuple[int, int, bool]:
    """Width and height of an image, and whether it is gray; its pixels are not decoded.

    Raises:
        DataError: it is no such image.
    """
    from PIL import Image

    try:
        with Image.open(file, formats=_FORMATS) as image:
            return (*image.size, image.mode in ("1", "L", "LA"))
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as problem:
        raise DataError(f"'{file}' cannot be read", got=problem, expected="a PNG, JPEG, WebP or BMP image") from problem


def decode(files: Sequence[Path], size: int | None, channels: int) -> Tensor:
    """The images (N, C, H, W) uint8 of the files, of which there is at least one.

    With `size`, the shorter side is scaled to `size` (bilinear, antialiased) and the middle size x size pixels are taken.

    Raises:
        DataError: a file cannot be decoded, or, without `size`, two images differ in size.
    """
    first = _pixels(files[0], size, channels)
    whole = np.empty((len(files), *first.shape), np.uint8)
    whole[0] = first
    for place, file in enumerate(files[1:], 1):
        pixels = _pixels(file, size, channels)
        if pixels.shape != whole.shape[1:]:
            raise DataError(
                "images differ in size",
                got=f"{pixels.shape[1]}x{pixels.shape[0]} in '{file}'",
                expected=f"{whole.shape[2]}x{whole.shape[1]} as in '{files[0]}'",
                mend="set data.size, to scale the shorter side to it and cut out the middle",
            )
        whole[place] = pixels
    return torch.from_numpy(whole.transpose(0, 3, 1, 2)).contiguous()


def _pixels(file: Path, size: int | None, channels: int) -> NDArray[Any]:
    """One image (H, W, C) uint8."""
    from PIL import Image

    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.mode.startswith(("I", "F")):
                raise DataError(
                    f"'{file}' holds more than 8 bits for a pixel", got=f"mode {image.mode}", expected="8 bits for a channel"
                )
            shown = image.convert("L" if channels == 1 else "RGB")
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as problem:
        raise DataError(
            f"'{file}' cannot be decoded", got=problem, expected="a whole PNG, JPEG, WebP or BMP image"
        ) from problem
    if size is not None:
        shorter = min(shown.size)
        width, height = (max(size, round(side * size / shorter)) for side in shown.size)
        left, top = (width - size) // 2, (height - size) // 2
        shown = shown.resize((width, height), Image.Resampling.BILINEAR).crop((left, top, left + size, top + size))
    return np.asarray(shown).reshape(shown.height, shown.width, channels)
