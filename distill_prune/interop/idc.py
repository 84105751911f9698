"""Sets of efficient condensation (IDC): `data.pt`, a list of images and labels written by torch.save.

    images    float32 (N, C, H, W), pixels in about [0, 1]; each holds f x f training images, which the file does not say
    labels    int64 (N,)

`factor` is f and must be given (2 for CIFAR, 3 for ImageNet; 1 where every image is one). Networks are trained on it
with IDC's augmentation; the CutMix of the paper's recipe is not part of a set. Out: images of another space are mapped back
to pixels, exact but for rounding. Pixels that come in as float32 go out bit by bit.

References:
    | Dataset Condensation via Efficient Synthetic-Data Parameterization (Kim et al., 2022), https://arxiv.org/abs/2205.14959
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from distill_prune.artifacts import SyntheticSet
from distill_prune.checkpoints import load
from distill_prune.data.augment import Augment
from distill_prune.errors import ConfigError, DataError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import member, one, packed, publish
from distill_prune.interop.sets import PIXELS, Content, SetSettings, classes_of, images_of, outgoing

KIND = "set"
_FILE = "data.pt"


class Settings(SetSettings):
    """`factor` squared training images are in each stored one."""

    name: Literal["idc"] = "idc"
    factor: int | None = Field(None, ge=1, description="f x f training images are in each stored one")
    augment: Augment = Field("flip+color+crop_scale_rotate", description="augmentation that the set was made for")


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> SyntheticSet:
    """The set of a file, or of the `data.pt` of a folder.

    Raises:
        ConfigError: `factor` or the classes are missing.
        DataError: the file is missing, hostile or damaged, or something does not fit.
    """
    path = one(paths, "a set of format idc")
    path = member(path, _FILE) if path.is_dir() else path
    content = load(path)
    if not isinstance(content, list | tuple) or len(content) != 2:
        raise DataError(f"'{path}' is not a set of IDC", got=type(content).__name__, expected="a list of images and labels")
    images, labels = images_of(path, content[0]), classes_of(path, content[1])
    if settings.factor is None:
        raise ConfigError(
            f"'{path}' does not say how many training images each of its images holds",
            fix="--set factor=2 for 2x2 (CIFAR in the paper), 3 for 3x3, 1 where every image is one",
        )
    return Content(path, "idc", images, labels, PIXELS, factor=settings.factor).checked(settings, origin)


def write(export: Export, path: Path) -> list[Path]:
    """One file, which IDC's code looks for as `data.pt`; the factor is not in it.

    Raises:
        UserError: it is no set with hard labels, or something stands at `path`.
    """
    synthetic = outgoing(export, "idc", factor=True)
    return publish(path, packed([synthetic.transform.invert(synthetic.images).float().clone(), synthetic.labels.clone()]))
