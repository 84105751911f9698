"""The synthetic images as one picture: one row a class, pixels enlarged and left square."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from distill_prune.arithmetic import ceil_div

if TYPE_CHECKING:
    from distill_prune.study.study import Study

_GAP = 2
_PER_CLASS = 10
_CLASSES = 100


@dataclass(frozen=True)
class Sheet:
    """PNG bytes, its size in pixels, and which images it shows; `set` is their set's name. It is shown `again` where one before
    it is of another draw of the same set."""

    png: bytes
    width: int
    height: int
    classes: list[str]
    per_class: int
    total: int
    alt: str
    set: str = ""
    again: bool = False

    @property
    def picture(self) -> str:
        """The PNG in base 64."""
        return base64.b64encode(self.png).decode()


def sheets(study: Study) -> list[Sheet]:
    """A picture of every set of images."""
    shown = [(s.name, s.pixels, s.labels) for s in study.pictures]
    made = [(name, contact_sheet(p, labels, study.classes)) for name, p, labels in shown if p is not None and len(p)]
    sets = [name.partition("/")[0] for name, _ in made]
    repeated = [name in sets[:i] for i, name in enumerate(sets)]
    return [
        replace(sheet, set=name, alt=f"Set {name}: {sheet.alt}", again=again)
        for (name, sheet), again in zip(made, repeated, strict=True)
    ]


def contact_sheet(images: NDArray[np.uint8], hard: Sequence[int], classes: Sequence[str]) -> Sheet:
    """The first images of every class, a row a class: 8-bit `images` (N, H, W) or (N, H, W, 3) with the class of each.

    Classes beyond the first hundred and images beyond the tenth of a class are left out.
    """
    from PIL import Image

    labels = np.asarray(hard)
    present = [int(c) for c in dict.fromkeys(sorted(hard))][:_CLASSES]
    columns = min(max(int((labels == c).sum()) for c in present), _PER_CLASS)
    # Few columns leave the page empty to the right: then classes lie side by side instead of below one another.
    across = max(1, 10 // columns) if columns < 6 else 1
    side_y, side_x = images.shape[1:3]
    zoom = max(1, 64 // max(side_y, side_x))
    cell_y, cell_x = side_y * zoom + _GAP * 2, side_x * zoom + _GAP * 2
    rows = ceil_div(len(present), across)
    canvas = np.full((rows * cell_y, across * columns * cell_x, 3), 255, dtype=np.uint8)
    for i, label in enumerate(present):
        for j, image in enumerate(images[labels == label][:columns]):
            pixels = image if image.ndim == 3 else np.repeat(image[:, :, None], 3, axis=2)
            big = pixels.repeat(zoom, axis=0).repeat(zoom, axis=1)
            y, x = (i // across) * cell_y + _GAP, ((i % across) * columns + j) * cell_x + _GAP
            canvas[y : y + big.shape[0], x : x + big.shape[1]] = big
    out = io.BytesIO()
    Image.fromarray(canvas).save(out, format="png", optimize=False)
    names = [classes[c] if c < len(classes) else str(c) for c in present]
    order = "one row for each class" if across == 1 else f"{across} classes in a row"
    alt = f"{len(images)} images of {len(set(hard))} classes, {order}: {', '.join(names)}."
    return Sheet(out.getvalue(), canvas.shape[1], canvas.shape[0], names, columns, len(images), alt)
