"""One .npz file of images: found arrays, checked when read, pixels decoded for the rows that are asked for."""

from __future__ import annotations

import io
import math
import sys
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from distill_prune.data.image_file import DAMAGE, picture
from distill_prune.errors import DataError, UserError
from distill_prune.limits import Budget
from distill_prune.outside import opened, unzipped

_PLAIN, _PACKED, _LABELS = ("x", "images"), ("webp", "jpeg"), ("y", "labels")
_CHANNELS = (1, 3)
_KNOWN = (*_PLAIN, *_PACKED, *_LABELS, "offsets", "classes")
_COPIES = 2
"""Of an array in memory: what is read, and the rows that are chosen."""
_BLOCK, _ROWS = 2**20, 1024
"""Bytes that are unpacked at once, and rows that are copied at once."""
_SOFT = (
    "a data set has one class an image; for a distilled set: torch.save images and labels as images.pt and labels.pt of one "
    "folder, and `distill-prune import ddranking FOLDER --set labels=logits` (or probabilities)"
)
_NAMED = "classes, y = np.unique(labels, return_inverse=True), and save both"

Array = NDArray[Any]


@dataclass(frozen=True)
class Archive:
    """The labels (N,) int64 and class names of a file, and its images, raw (N, ...) or packed (bytes, with offsets)."""

    path: Path
    labels: Tensor
    classes: tuple[str, ...] | None
    images: Array
    offsets: Array | None
    budget: Budget

    @classmethod
    def read(cls, path: Path, budget: Budget | None = None) -> Archive:
        """Read and check a file. The `budget` is that of the source that the file is a part of.

        Raises:
            DataError: it is no such file, is too large, or does not hold what it should.
        """
        budget = budget or Budget(path)
        arrays = _arrays(path, budget)
        kind = _one(path, arrays, (*_PLAIN, *_PACKED), "images")
        labels = arrays[_one(path, arrays, _LABELS, "labels")]
        offsets = None
        if kind in _PACKED:
            offsets = _check_offsets(path, arrays[kind], arrays.get("offsets"))
        count = len(arrays[kind]) if offsets is None else len(offsets) - 1
        if labels.dtype.kind not in "iu" or labels.shape != (count,) or count == 0:
            soft = labels.dtype.kind == "f" and labels.ndim == 2 and len(labels) == count
            named = labels.dtype.kind in "US" and labels.shape == (count,)
            raise DataError(
                f"labels of '{path}'" + (" are soft: a number for each class" if soft else ""),
                got=f"{labels.dtype} {labels.shape}",
                expected=f"integers ({count},), one for each image" if count else "at least one image",
                fix=_SOFT if soft else _NAMED if named else None,
            )
        return cls(
            path,
            torch.from_numpy(labels.astype(np.int64)),
            _check_classes(path, arrays.get("classes")),
            arrays[kind] if offsets is not None else _channels_first(path, arrays[kind]),
            offsets,
            budget,
        )

    def pixels(self, rows: Tensor, room: int = 0) -> Tensor:
        """Images (N, C, H, W) of the rows: uint8, or float32 in [0, 1]; with `room` for so many more behind them, which are
        not filled.

        Raises:
            DataError: a row cannot be decoded, is not finite, or lies outside [0, 1].
        """
        index = rows.numpy()
        if self.offsets is not None:
            return self._decode(self.images, self.offsets, index, room)
        kind = np.uint8 if self.images.dtype == np.uint8 else np.float32
        whole = np.empty((len(index) + room, *self.images.shape[1:]), kind)
        (self._bytes if kind is np.uint8 else self._floats)(index, whole)
        return torch.from_numpy(whole)

    def _parts(self, index: Array) -> Iterator[tuple[slice, Array]]:
        """The images of the rows in `index`, some at a time, with their places: a copy of all would be one more."""
        for begin in range(0, len(index), _ROWS):
            place = slice(begin, min(begin + _ROWS, len(index)))
            yield place, self.images[index[place]]

    def _bytes(self, index: Array, whole: Array) -> None:
        for place, images in self._parts(index):
            whole[place] = images

    def _floats(self, index: Array, whole: Array) -> None:
        outside: list[Array] = []
        low, high = np.inf, -np.inf
        for place, images in self._parts(index):
            bad = ~np.isfinite(images)
            if bad.any():
                raise DataError(
                    f"images of '{self.path}' are not finite",
                    got=f"row {int(index[place][_first(bad)])}",
                    expected="numbers, no NaN or infinity",
                )
            bad = (images < 0) | (images > 1)
            if bad.any():
                outside.append(index[place][_first(bad)])
            low, high = min(low, images.min()), max(high, images.max())
            whole[place] = images
        if outside:
            raise DataError(
                f"float images of '{self.path}' lie outside [0, 1]",
                got=f"values {low:g} to {high:g}, first in row {int(outside[0])}",
                expected="pixels from 0 to 1",
                fix="undo any normalization, or store uint8",
            )

    def _decode(self, packed: Array, offsets: Array, index: Array, room: int) -> Tensor:
        """Packed images as uint8 (N, C, H, W) of the rows in `index`, at least one; C is that of the first."""
        rows, count = index.tolist(), len(index) + room
        whole: Array = np.empty(0, np.uint8)
        for place, row in enumerate(rows):
            data = packed[offsets[row] : offsets[row + 1]].tobytes()
            try:
                with picture(io.BytesIO(data), ("WEBP", "JPEG"), self.budget) as image:
                    gray, (width, height) = image.mode == "L", image.size
                    if place == 0:
                        shape = (1 if gray else 3, height, width)
                        self.budget.take(count * math.prod(shape), f"{count} images like row {row}, {shape}")
                        whole = np.empty((count, *shape), np.uint8)
                    pixels = np.asarray(image if gray else image.convert("RGB")).reshape(height, width, -1).transpose(2, 0, 1)
            except DAMAGE as problem:
                raise DataError(
                    f"image in row {row} of '{self.path}' cannot be decoded",
                    got=f"{problem!s:.200}",
                    expected="the bytes of one WebP or JPEG image",
                ) from problem
            if pixels.shape != whole.shape[1:]:
                raise DataError(
                    f"image in row {row} of '{self.path}' differs in shape",
                    got=pixels.shape,
                    expected=f"{whole.shape[1:]} as in row {rows[0]}",
                )
            whole[place] = pixels
        return torch.from_numpy(whole)


def _first(bad: Array) -> int:
    """The first position (of axis 0) that has a bad value."""
    return int(bad.reshape(len(bad), -1).any(1).argmax())


def _arrays(path: Path, budget: Budget) -> Mapping[str, Array]:
    """The arrays of a file by name; of those that nobody asks for the names alone."""
    try:
        with opened(path) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of headers that Python 2 wrote
            archive = unzipped(file)
            names = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
            return {n: _array(archive, info, path, budget) if n in _KNOWN else np.empty(0) for n, info in names.items()}
    except UserError:
        raise
    except Exception as problem:  # a header is parsed as Python, and a member unpacked: both fail with many kinds of error
        part = isinstance(problem, zipfile.BadZipFile) and "CRC" not in str(problem)
        raise DataError(
            f"'{path}' is not an .npz file, or only a part of one" if part else f"'{path}' cannot be read as an .npz file",
            got=f"{problem!s:.200}" or type(problem).__name__,
            expected="named arrays (np.savez)",
        ) from problem


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, path: Path, budget: Budget) -> Array:
    """An array whose header declares as much as the archive, after the budget has paid for it."""
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{info.filename} is compressed in a way that NumPy does not write")
    with archive.open(info) as member:
        head, (shape, by_column, dtype) = _header(member)
        if dtype.hasobject:
            raise DataError(
                f"'{path}' is refused",
                got="pickled Python objects, which can execute",
                expected="plain arrays of numbers or text",
            )
        if not shape:
            raise ValueError(f"{info.filename} is a single value, and no array")
        size = math.prod(shape) * dtype.itemsize
        if dtype.itemsize == 0 or min(shape, default=0) < 0 or size != info.file_size - head:
            raise ValueError(f"{info.filename}: {dtype} {shape} are {size} bytes, and {info.file_size - head} are there")
        budget.take(_COPIES * size, f"with the array {info.filename.removesuffix('.npy')}, {dtype} {shape}")
        raw = np.empty(size, np.uint8)
        at, view = 0, raw.data
        while at < size and (more := member.readinto(view[at : at + _BLOCK])):  # type: ignore[attr-defined]
            at += more
        if at < size or member.read(1):
            raise EOFError(f"{info.filename} is only a part of an array")
    values = raw.view(dtype)
    return values.reshape(shape[::-1]).transpose() if by_column else values.reshape(shape)


def _header(member: IO[bytes]) -> tuple[int, tuple[tuple[int, ...], bool, np.dtype[Any]]]:
    """The length of an array's header; and its shape, whether it is stored column by column, and its type."""
    version = np.lib.format.read_magic(member)
    if version != (1, 0):  # later ones are for structures of many fields, and their headers may be of any length
        raise ValueError(f"version {version} of the format of arrays")
    described = np.lib.format.read_array_header_1_0(member)
    return member.tell(), described


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
    letters = np.frombuffer(classes.tobytes(), f"{classes.dtype.str[0]}u4")
    if letters.size and int(letters.max()) > sys.maxunicode:  # Python makes no text of these
        raise DataError(f"classes of '{path}'", got="letters that there are not", expected="text (K,)")
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
