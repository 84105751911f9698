"""Images in NumPy's .npz files: a folder with train.npz and test.npz, or one file that is split here.

A folder may have one file each whose name begins so, as train10k.npz.

A file holds images as one of

    x or images     (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3; uint8, or floats in [0, 1]
    webp or jpeg    every image's encoded bytes, end to end (uint8), with `offsets` (N + 1,)

with labels `y` or `labels` (N,) as integers, and the names of the `classes` where it has them. Other arrays are left
alone. Nothing in a file is executed: arrays of Python objects are refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.data.image_file import scaled
from distill_prune.data.labels import check_names, check_numbers
from distill_prune.data.npz_file import Archive
from distill_prune.data.source import Loaded, Remembered, Source, file_hash
from distill_prune.data.split import chosen, hold_out
from distill_prune.errors import DataError
from distill_prune.limits import Budget
from distill_prune.settings import Later

_PARTS = ("train.npz", "test.npz")


class Settings(Source):
    """`rows` and `test_rows` take a stratified part of the train and test images; `test_share` splits a single file."""

    OUTSIDE_KEYS: ClassVar[frozenset[str]] = frozenset({"path", "title"})

    name: Literal["npz"] = "npz"
    path: str = Field(description="a folder with train.npz and test.npz, or one .npz file")
    rows: int | None = Field(None, ge=1, description="how many training images, stratified by class; null: all")
    test_rows: int | None = Field(None, ge=1, description="how many test images, stratified by class; null: all")
    test_share: float = Field(0.2, gt=0, lt=1, description="share that becomes the test part, of a single file")
    title: str = Field("", description="what the page calls the data; default: the name of the folder or file")
    size: int | None = Later(
        None, ge=1, description="scale the shorter side to so many pixels, and cut out the middle; null: images as they are"
    )


def _files(settings: Settings) -> list[Path]:
    """The files of the train and the test part in a folder, or the single file."""
    path = Path(settings.path).expanduser()
    if not path.exists():
        raise DataError(
            f"there is no data at '{path}'",
            fix="give the path of a folder with train.npz and test.npz, or of one .npz file",
            setting="path",
        )
    if not path.is_dir():
        return [path]
    return [_part(path, name) for name in _PARTS]


def _part(folder: Path, name: str) -> Path:
    """The file of a part: of this name, else the only one whose name begins so, as train10k.npz."""
    if (folder / name).is_file():
        return folder / name
    alike = [file for file in folder.glob(f"{Path(name).stem}*.npz") if file.is_file()]
    if len(alike) == 1:
        return alike[0]
    present = ", ".join(sorted(f.name for f in folder.iterdir())[:20]) or "nothing"
    raise DataError(
        f"the folder '{folder}' has no {name}",
        got=present,
        expected=" and ".join(_PARTS),
        setting="path",
        fix="for data without a test part give the path of the one file, which is split",
    )


def fingerprint(settings: Settings, remembered: Remembered | None = None) -> str:
    """sha256 of the file's bytes, or of the names and hashes of a folder's two files.

    Raises:
        DataError: a file is missing.
    """
    files = _files(settings)
    if len(files) == 1:
        return file_hash(files[0], remembered)
    hashes = [[file.name, file_hash(file, remembered)] for file in sorted(files)]
    return hashlib.sha256(json.dumps(hashes, separators=(",", ":")).encode("ascii")).hexdigest()


def _classes(files: list[Archive]) -> tuple[str, ...]:
    """The names that the files give, else the numbers 0.. up to the largest label."""
    named = [file.classes for file in files if file.classes is not None]
    if len(set(named)) > 1:
        raise DataError(
            "the two files name different classes",
            got=f"{list(named[1])} in {files[1].path}",
            expected=f"{list(named[0])} as in {files[0].path}",
        )
    highest = max(int(file.labels.max()) for file in files)
    if named:
        check_names(named[0], str(files[0].path))
    else:
        distinct = torch.unique(torch.cat([file.labels for file in files]))
        check_numbers(len(distinct), int(distinct[0]), highest, str(files[0].path))
    classes = named[0] if named else tuple(str(c) for c in range(highest + 1))
    for file in files:
        low, high = int(file.labels.min()), int(file.labels.max())
        if low < 0 or high >= len(classes):
            raise DataError(
                f"'{file.path}' has labels outside its classes", got=f"labels {low}..{high}", expected=f"0..{len(classes) - 1}"
            )
    return classes


def load(settings: Settings) -> Loaded:
    """The chosen rows of the train part, then those of the test part.

    Raises:
        DataError: a file is missing, or does not hold what it should.
    """
    return _loaded(settings, lambda files, rows: _pixels(files, rows, settings))


def look(settings: Settings) -> Loaded:
    """The same, of whose images the first of each part alone is decoded.

    Raises:
        DataError: a file is missing, or does not hold what it should.
    """

    def first(files: Sequence[Archive], rows: Sequence[Tensor]) -> Tensor:
        pixels = _pixels(files, [part[:1] for part in rows], settings)
        return pixels[:1].to("meta").expand(sum(map(len, rows)), -1, -1, -1)

    return _loaded(settings, first)


def _loaded(settings: Settings, decoded: Callable[[Sequence[Archive], Sequence[Tensor]], Tensor]) -> Loaded:
    """The chosen rows, with their images as `decoded` gives them."""
    paths = _files(settings)
    budget = Budget(settings.path)
    files = [Archive.read(path, budget) for path in paths]
    classes = _classes(files)
    if len(files) == 2:
        pools = tuple(torch.arange(len(file.labels)) for file in files)
    else:
        pools = hold_out(files[0].labels, settings.test_share, classes, settings.split_seed, of=str(paths[0]))
    sources = files if len(files) == 2 else files * 2
    asked, known = (settings.rows, settings.test_rows), [file.labels for file in sources]
    rows = chosen(pools, known, asked, classes, settings.split_seed, of=settings.path)
    pixels = decoded(files, rows)
    labels = torch.cat([y[part] for y, part in zip(known, rows, strict=True)])
    test_rows = torch.arange(len(labels)) >= len(rows[0])
    scale = 255.0 if pixels.dtype == torch.uint8 else 1.0
    place = Path(settings.path).expanduser().resolve()
    title = settings.title or (place.name if place.is_dir() else place.stem)
    return Loaded(pixels, labels, test_rows, classes, scale, title)


def _pixels(files: Sequence[Archive], rows: Sequence[Tensor], settings: Settings) -> Tensor:
    """The pixels of rows, scaled where that is asked."""
    pixels = _unscaled(files, rows, settings.path)
    if settings.size is None:
        return pixels
    return torch.from_numpy(scaled(pixels.numpy(), settings.size, files[0].budget))


def _unscaled(files: Sequence[Archive], rows: Sequence[Tensor], where: str) -> Tensor:
    """The pixels of rows of one file, or of a train and of a test file, in one piece of memory from the beginning."""
    if len(files) == 1:
        return files[0].pixels(torch.cat([*rows]))
    train, test = files
    pixels, more = train.pixels(rows[0], room=len(rows[1])), test.pixels(rows[1])
    if pixels.shape[1:] != more.shape[1:] or pixels.dtype != more.dtype:
        raise DataError(
            f"train and test images of '{where}' differ in kind",
            got=f"{tuple(more.shape[1:])} {more.dtype} in {test.path.name}",
            expected=f"{tuple(pixels.shape[1:])} {pixels.dtype} as in {train.path.name}",
        )
    pixels[len(rows[0]) :] = more
    return pixels
