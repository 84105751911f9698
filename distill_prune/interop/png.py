"""Sets as a folder of pictures, one folder a class: `<class>/<image>.png`, or JPEG.

The folder of a class is called by its number and name (`00000_airplane`, as written here), its number (`00000`, as DD-Ranking
has them), or its name; names alone are in the order of `classes` or the data set's, else in alphabetical order. Images of a
class are in the order of the numbers in their file names. Pictures are 8-bit pixels, gray or RGB; an alpha channel must be
opaque. `lr` and `factor` are not in pictures and can be given.

Out: `<class:05d>_<name>/<image:05d>.png`, lossless, images class by class. Pixels that are exact multiples of 1/255 come back
equal; others are rounded to 8 bits. LOSSY for network input: it is mapped back to pixels and cut off at 0 and 1.
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal
from urllib.parse import quote, unquote

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from distill_prune.artifacts import SyntheticSet
from distill_prune.checkpoints import present
from distill_prune.data.image_file import DAMAGE, picture
from distill_prune.errors import DataError, UserError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import one, publish_folder
from distill_prune.interop.sets import PIXELS, Content, Rate, SetSettings, named, outgoing
from distill_prune.limits import Budget
from distill_prune.outside import opened

KIND = "set"
_NUMBERED = re.compile(r"([0-9]+)_(.*)", re.DOTALL)
_ENDINGS = (".png", ".jpg", ".jpeg")
_SAFE = " "
_BYTES = 10
"""Of memory for a value: two bytes as 8 bits, and twice four as float32."""


class Settings(SetSettings):
    """`factor` squared training images are in each stored one; `lr` is the learned learning rate."""

    name: Literal["png"] = "png"
    lr: Rate = Field(None, description="the learned learning rate")
    factor: int = Field(1, ge=1, description="f x f training images are in each stored one")


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> SyntheticSet:
    """The set of one folder, class by class.

    Raises:
        ConfigError: the classes have no names.
        DataError: the folder is missing, or holds something else, or something does not fit.
    """
    root = one(paths, "a set of format png")
    if not root.is_dir():
        raise DataError(f"there is no folder '{root}'", expected="a folder with one folder a class")
    folders = [entry for entry in _entries(root) if entry.is_dir()]
    if not folders:
        raise DataError(f"'{root}' has no folders", expected="one folder a class")
    names, numbers = _classes(root, folders, settings, origin)
    pictures: list[Tensor] = []
    labels: list[int] = []
    budget = Budget(root)
    for number, folder in sorted(zip(numbers, folders, strict=True)):
        for file in _entries(folder):
            pixels = _decode(file, budget)
            if pictures and pixels.shape != pictures[0].shape:
                raise DataError(f"'{file}' differs in shape", got=tuple(pixels.shape), expected=tuple(pictures[0].shape))
            pictures.append(pixels)
            labels.append(number)
    if not pictures:
        raise DataError(f"'{root}' has no pictures", expected="PNG or JPEG files in the folders of the classes")
    images = torch.stack(pictures).float() / 255
    return Content(
        root, "png", images, torch.tensor(labels), PIXELS, classes=names, lr=settings.lr, factor=settings.factor
    ).checked(settings, origin)


def _entries(folder: Path) -> list[Path]:
    """What stands in a folder and is not hidden, by name, numbers in names by value."""

    def order(path: Path) -> list[str | int]:
        return [int(part) if i % 2 else part for i, part in enumerate(re.split(r"([0-9]+)", path.name))]

    return sorted((p for p in folder.iterdir() if not p.name.startswith(".")), key=order)


def _classes(root: Path, folders: Sequence[Path], settings: Settings, origin: Origin) -> tuple[tuple[str, ...], list[int]]:
    """The names of the classes, and the number of each folder's class."""
    called = [folder.name for folder in folders]
    if all(name.isdecimal() for name in called):
        names, numbers = named(root, settings, origin), [int(name) for name in called]
    elif all(parts := [_NUMBERED.fullmatch(name) for name in called]):
        name_of = {int(part[1]): unquote(part[2]) for part in parts if part}
        listed = tuple(name_of[i] for i in sorted(name_of)) if sorted(name_of) == list(range(len(called))) else None
        names, numbers = named(root, settings, origin, listed), [int(part[1]) for part in parts if part]
    else:
        names = settings.classes or origin.classes or tuple(sorted(called))
        if unknown := next((name for name in called if name not in names), None):
            raise DataError(f"'{root / unknown}' is no class of the data set", expected=f"{', '.join(names[:20])}")
        numbers = [names.index(name) for name in called]
    if len(set(numbers)) < len(numbers) or max(numbers) >= len(names):
        raise DataError(
            f"folders of '{root}' do not fit the classes",
            got=", ".join(called[:20]),
            expected=f"one folder for each of the classes 0..{len(names) - 1}",
        )
    return names, numbers


def _decode(file: Path, budget: Budget) -> Tensor:
    """A picture (C, H, W), uint8; the budget pays for it, and for what the set makes of it: float32, twice."""
    if file.suffix.lower() not in _ENDINGS:
        raise DataError(f"'{file}' is not a picture", expected="PNG or JPEG files alone in the folder of a class")
    present(file)
    try:
        with opened(file) as content, picture(content, ("PNG", "JPEG"), budget) as image:
            mode = image.mode
            gray = mode in ("1", "L", "LA")
            budget.take(_BYTES * (1 if gray else 3) * image.width * image.height, "pictures that were read so far")
            alpha = np.asarray(image.convert("RGBA"))[..., 3]
            pixels = np.asarray(image.convert("L" if gray else "RGB"))
    except DAMAGE as problem:
        raise DataError(f"'{file}' cannot be decoded", got=f"{problem!s:.200}", expected="a PNG or JPEG picture") from problem
    if mode not in ("1", "L", "LA", "P", "RGB", "RGBA") or bool((alpha < 255).any()):
        raise DataError(f"'{file}' has other pixels", got=f"mode {mode}", expected="8-bit gray or RGB, without transparency")
    return torch.from_numpy(pixels[None].copy() if gray else pixels.transpose(2, 0, 1).copy())


def write(export: Export, path: Path) -> list[Path]:
    """A folder with one folder for each class.

    Raises:
        UserError: it is no set with hard labels and 1 or 3 channels, a class has no image, or something stands at `path`.
    """
    from PIL import Image

    synthetic = outgoing(export, "png", factor=True)
    if synthetic.images.shape[1] not in (1, 3):
        raise UserError("format 'png' holds gray or RGB images", got=f"{synthetic.images.shape[1]} channels", expected="1 or 3")
    counts = torch.bincount(synthetic.labels, minlength=len(synthetic.classes))
    if bool((counts == 0).any()):
        raise UserError("format 'png' holds images of every class", got=f"none of '{synthetic.classes[int(counts.argmin())]}'")
    pixels = (synthetic.transform.invert(synthetic.images.float()) * 255).round().clamp(0, 255).to(torch.uint8)
    files: list[tuple[str, bytes]] = []
    for number, name in enumerate(synthetic.classes):
        folder = f"{number:05d}_{quote(name, safe=_SAFE)}"
        for i, image in enumerate(pixels[synthetic.labels == number].permute(0, 2, 3, 1).numpy()):
            buffer = io.BytesIO()
            Image.fromarray(image[..., 0] if image.shape[2] == 1 else image).save(buffer, format="PNG")
            files.append((f"{folder}/{i:05d}.png", buffer.getvalue()))
    return publish_folder(path, files)
