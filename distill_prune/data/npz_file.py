"""One .npz file of images: found arrays, checked when read, pixels decoded for the rows that are asked for."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill_prune.errors import DataError

_PLAIN, _PACKED, _LABELS = ("x", "images"), ("webp", "jpeg"), ("y", "labels")
_CHANNELS = (1, 3)

Array = NDArray[Any]


@dataclass(frozen=True)
class Archive:
    """The labels (N,) int64 and class names of a file, and its images, raw (N, ...) or packed (bytes, with offsets)."""

    path: Path
    labels: Tensor
    classes: tuple[str, ...] | None
    images: Array
    offsets: Array | None

    @classmethod
    def read(cls, path: Path) -> Archive:
        """Read and check a file.

        Raises:
            DataError: it is no such file, or does not hold what it should.
        """
        arrays = _arrays(path)
        kind = _one(path, arrays, (*_PLAIN, *_PACKED), "images")
        labels = arrays[_one(path, arrays, _LABELS, "labels")]
        offsets = None
        if kind in _PACKED:
            offsets = _check_offsets(path, arrays[kind], arrays.get("offsets"))
        count = len(arrays[kind]) if offsets is None else len(offsets) - 1
        if labels.dtype.kind not in "iu" or labels.shape != (count,) or count == 0:
            raise DataError(
                f"labels of '{path}'",
                got=f"{labels.dtype} {labels.shape}",
                expected=f"integers ({count},), one for each image" if count else "at least one image",
            )
        return cls(
            path,
            torch.from_numpy(labels.astype(np.int64)),
            _check_classes(path, arrays.get("classes")),
            arrays[kind] if offsets is not None else _channels_first(path, arrays[kind]),
            offsets,
        )

    def pixels(self, rows: Tensor) -> Tensor:
        """Images (N, C, H, W) of the rows: uint8, or float32 in [0, 1].

        Raises:
            DataError: a row cannot be decoded, is not finite, or lies outside [0, 1].
        """
        index = rows.numpy()
        if self.offsets is not None:
            return _decode(self.path, self.images, self.offsets, index)
        images = self.images[index]
        if images.dtype == np.uint8:
            return torch.from_numpy(images).contiguous()
        bad = ~np.isfinite(images)
        if bad.any():
            raise DataError(
                f"images of '{self.path}' are not finite",
                got=f"row {int(index[_first(bad)])}",
                expected="numbers, no NaN or infinity",
            )
        bad = (images < 0) | (images > 1)
        if bad.any():
            raise DataError(
                f"float images of '{self.path}' lie outside [0, 1]",
                got=f"values {images.min():g} to {images.max():g}, first in row {int(index[_first(bad)])}",
                expected="pixels from 0 to 1",
                mend="undo any normalization, or store uint8",
            )
        return torch.from_numpy(images.astype(np.float32)).contiguous()


def _first(bad: Array) -> int:
    """The first position (of axis 0) that has a bad value."""
    return int(bad.reshape(len(bad), -1).any(1).argmax())


def _arrays(path: Path) -> Mapping[str, Array]:
    if not zipfile.is_zipfile(path):
        raise DataError(f"'{path}' is not an .npz file, or only a part of one", expected="named arrays (np.savez)")
    try:
        with np.load(path, allow_pickle=False) as loaded:
            known = (*_PLAIN, *_PACKED, *_LABELS, "offsets", "classes")
            return {name: loaded[name] if name in known else np.empty(0) for name in loaded.files}
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error) as problem:
        if "pickle" in str(problem):
            raise DataError(
                f"'{path}' is refused",
                got="pickled Python objects, which can execute",
                expected="plain arrays of numbers or text",
            ) from problem
        raise DataError(f"'{path}' cannot be read as an .npz file", got=problem) from problem


def _one(path: Path, arrays: Mapping[str, Array], names: tuple[str, ...], what: str) -> str:
    present = [name for name in names if name in arrays]
    if len(present) != 1:
        raise DataError(
            f"'{path}' has {'more than one array' if present else 'no array'} of {what}",
            got=f"arrays {', '.join(sorted(arrays)) or '(none)'}",
            expected=f"one of {', '.join(names)}",
        )
    return present[0]


def _check_offsets(path: Path, packed: Array, offsets: Array | None) -> Array:
    if offsets is None:
        raise DataError(f"'{path}' has packed images without 'offsets'", expected="offsets (N + 1,) into the bytes")
    fits = (
        packed.dtype == np.uint8
        and packed.ndim == 1
        and offsets.dtype.kind in "iu"
        and offsets.ndim == 1
        and len(offsets) > 0
        and offsets[0] == 0
        and offsets[-1] == len(packed)
        and bool((offsets[1:] >= offsets[:-1]).all())
    )
    if not fits:
        raise DataError(
            f"packed images of '{path}' and their offsets do not fit together",
            got=f"{packed.dtype} {packed.shape}, offsets {offsets.dtype} {offsets.shape}",
            expected="uint8 bytes, and offsets that rise from 0 to their number",
        )
    return offsets


def _check_classes(path: Path, classes: Array | None) -> tuple[str, ...] | None:
    if classes is None:
        return None
    if classes.ndim != 1 or classes.dtype.kind != "U":
        raise DataError(f"classes of '{path}'", got=f"{classes.dtype} {classes.shape}", expected="text (K,)")
    return tuple(str(c) for c in classes)


def _channels_first(path: Path, images: Array) -> Array:
    """Raw images as (N, C, H, W); which axis holds the channels must be beyond doubt."""
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise DataError(f"images of '{path}'", got=images.dtype, expected="uint8, or floats in [0, 1]")
    if 0 in images.shape or images.ndim not in (3, 4):
        raise DataError(
            f"images of '{path}' have the wrong shape", got=images.shape, expected="(N, H, W), (N, H, W, C) or (N, C, H, W)"
        )
    if images.ndim == 3:
        return images[:, None]
    first, last = images.shape[1] in _CHANNELS, images.shape[3] in _CHANNELS
    if first == last:
        raise DataError(
            f"the axis of the channels of '{path}' is " + ("ambiguous" if first else "not to be found"),
            got=images.shape,
            expected="1 or 3 channels, in the second or the last axis, but not in both",
        )
    return images if first else images.transpose(0, 3, 1, 2)


def _decode(path: Path, packed: Array, offsets: Array, index: Array) -> Tensor:
    """Packed images as uint8 (N, C, H, W) of the rows in `index`, at least one; C is that of the first."""
    from PIL import Image

    def image_of(row: int) -> Array:
        data = packed[offsets[row] : offsets[row + 1]].tobytes()
        try:
            with Image.open(io.BytesIO(data), formats=("WEBP", "JPEG")) as image:
                return np.asarray(image if image.mode == "L" else image.convert("RGB"))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as problem:
            raise DataError(
                f"image in row {row} of '{path}' cannot be decoded", got=problem, expected="the bytes of one WebP or JPEG image"
            ) from problem

    rows = index.tolist()
    first = image_of(rows[0])
    whole = np.empty((len(rows), *first.shape), np.uint8)
    whole[0] = first
    for place, row in enumerate(rows[1:], 1):
        pixels = image_of(row)
        if pixels.shape != first.shape:
            raise DataError(
                f"image in row {row} of '{path}' differs in shape",
                got=pixels.shape,
                expected=f"{first.shape} as in row {rows[0]}",
            )
        whole[place] = pixels
    images = whole[:, None] if whole.ndim == 3 else whole.transpose(0, 3, 1, 2)
    return torch.from_numpy(np.ascontiguousarray(images))
