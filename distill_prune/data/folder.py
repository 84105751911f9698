"""Any folder of image files, a folder for each class: path/train/CLASS/* with path/test/CLASS/*, or path/CLASS/*.

The second form is split here. Images are .png, .jpg, .jpeg, .webp or .bmp. Classes are sorted by name. Hidden files are
left alone, and so is what lies beside the folders of the classes; anything else inside them is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.data.image_file import SUFFIXES, decode
from distill_prune.data.labels import check_names
from distill_prune.data.source import Loaded, Remembered, Source, file_hash
from distill_prune.data.split import chosen, hold_out
from distill_prune.errors import DataError, system_error
from distill_prune.limits import Budget
from distill_prune.settings import digest

Part = dict[str, list[Path]]
"""The image files of each class, both sorted by name."""


class Settings(Source):
    """Without `size` all images must have one size; with it the shorter side is scaled to `size` and the middle cut out.

    `rows` and `test_rows` take a stratified part of the train and test images; `test_share` splits a folder without parts.
    """

    OUTSIDE_KEYS: ClassVar[frozenset[str]] = frozenset({"path", "title"})

    name: Literal["folder"] = "folder"
    path: str = Field(description="a folder with train/CLASS/* and test/CLASS/*, or with CLASS/*")
    size: int | None = Field(
        None, ge=1, description="scale the shorter side to so many pixels, and cut out the middle; null: images as they are"
    )
    channels: Literal[1, 3] = Field(3, description="1: gray, 3: colour")
    rows: int | None = Field(None, ge=1, description="how many training images, stratified by class; null: all")
    test_rows: int | None = Field(None, ge=1, description="how many test images, stratified by class; null: all")
    test_share: float = Field(0.2, gt=0, lt=1, description="share that becomes the test part, where the folder has no parts")
    title: str = Field("", description="what the page calls the data; default: the folder's name")


def fingerprint(settings: Settings, remembered: Remembered | None = None) -> str:
    """sha256 of the sorted relative names and the hashes of all images.

    Raises:
        DataError: the folder is missing, or is not laid out as it should be.
    """
    root = Path(settings.path).expanduser()
    files = {file.relative_to(root).as_posix(): file for part in _parts(settings) for files in part.values() for file in files}
    return digest([[name, file_hash(files[name], remembered)] for name in sorted(files)])


def load(settings: Settings) -> Loaded:
    """The chosen rows of the train part, then those of the test part, decoded.

    Raises:
        DataError: the folder is not laid out as it should be, or an image cannot be used.
    """
    return _loaded(settings, lambda files: decode(files, settings.size, settings.channels, Budget(settings.path)))


def look(settings: Settings) -> Loaded:
    """The same, of whose images the first alone is decoded.

    Raises:
        DataError: the folder is not laid out as it should be, or its first image cannot be used.
    """

    def first(files: list[Path]) -> Tensor:
        pixels = decode(files[:1], settings.size, settings.channels, Budget(settings.path))
        return pixels.to("meta").expand(len(files), -1, -1, -1)

    return _loaded(settings, first)


def _loaded(settings: Settings, decoded: Callable[[list[Path]], Tensor]) -> Loaded:
    """The chosen rows, with their images as `decoded` gives them."""
    parts = _parts(settings)
    classes = tuple(parts[0])
    number = {name: c for c, name in enumerate(classes)}
    examples = [(file, number[name]) for part in parts for name, files in part.items() for file in files]
    labels = torch.tensor([label for _, label in examples])
    if len(parts) == 2:
        first = sum(map(len, parts[0].values()))
        pools = torch.arange(first), torch.arange(first, len(examples))
    else:
        pools = hold_out(labels, settings.test_share, classes, settings.split_seed, of=settings.path)
    asked = (settings.rows, settings.test_rows)
    train, test = chosen(pools, [labels, labels], asked, classes, settings.split_seed, of=settings.path)
    rows = torch.cat([train, test])
    pixels = decoded([examples[row][0] for row in rows.tolist()])
    title = settings.title or Path(settings.path).expanduser().resolve().name
    return Loaded(pixels, labels[rows], torch.arange(len(rows)) >= len(train), classes, 255.0, title)


def _parts(settings: Settings) -> list[Part]:
    """The train and the test part, or the one part that is to be split."""
    root = Path(settings.path).expanduser()
    if not root.exists():
        raise DataError(
            f"there is no data at '{root}'",
            fix="give the path of a folder with a folder of images for each class",
            setting="path",
        )
    if not root.is_dir():
        raise DataError(
            f"'{root}' is not a folder",
            expected="a folder with a folder of images for each class",
            fix="data.name: npz reads .npz files" if root.suffix == ".npz" else None,
            setting="path",
        )
    folders = [root / name for name in ("train", "test") if (root / name).is_dir()]
    if len(folders) == 1 and any(entry.is_dir() for entry in _visible(folders[0])):
        raise DataError(
            f"the folder '{root}' has {folders[0].name}/ and no {'test' if folders[0].name == 'train' else 'train'}/",
            got=_names(root),
            expected="train/ and test/, or a folder of images for each class",
            fix=f"for data without a test part give the path '{folders[0]}', which is split",
        )
    parts = [_classes(folder) for folder in (folders if len(folders) == 2 else [root])]
    train, *test = parts
    check_names((name for part in parts for name in part), settings.path)
    if len(train) == 1:
        raise DataError(
            f"'{folders[0] if test else root}' has images of a single class",
            got=f"the folder {next(iter(train))}",
            expected="a folder of images for each of at least 2 classes",
        )
    for name in test[0] if test else ():
        if name not in train:
            raise DataError(
                f"class '{name}' has test images and no training images",
                got=f"'{folders[1] / name}'",
                expected=f"also '{folders[0] / name}'",
            )
    return parts


def _classes(folder: Path) -> Part:
    files_by_class = {entry.name: _images(entry) for entry in _visible(folder) if entry.is_dir()}
    if not files_by_class:
        raise DataError(
            f"'{folder}' has no images in folders, one for each class", got=_names(folder), expected=f"{folder.name}/CLASS/*"
        )
    return files_by_class


def _images(folder: Path) -> list[Path]:
    files = _visible(folder)
    for file in files:
        if file.is_dir():
            raise DataError(
                f"'{file}' is a folder within a class",
                got=f"'{folder.name}' taken for a class",
                expected=f"images in '{folder}'",
                fix="give the path of the folder that holds the folders of the classes",
            )
        if file.suffix.lower() not in SUFFIXES:
            raise DataError(
                f"'{file}' is not an image",
                expected=f"a name that ends in {', '.join(SUFFIXES)}",
                fix="move it out of the class, or hide it behind a leading dot",
            )
    if not files:
        raise DataError(f"class '{folder.name}' has no images", got=f"an empty folder '{folder}'", expected="at least 1 image")
    return files


def _visible(folder: Path) -> list[Path]:
    try:
        return sorted((entry for entry in folder.iterdir() if not entry.name.startswith(".")), key=lambda entry: entry.name)
    except OSError as problem:
        raise system_error(f"cannot read the folder '{folder}'", problem, kind=DataError) from problem


def _names(folder: Path) -> str:
    return ", ".join(entry.name for entry in _visible(folder)[:20]) or "nothing"
