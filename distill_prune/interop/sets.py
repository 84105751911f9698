"""What the formats of distilled sets share: their options, the checks of what is read, and what can be written."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor

from distill_prune.artifacts import LabelKind, SyntheticSet, Transform
from distill_prune.checkpoints import tensor
from distill_prune.data.augment import Augment
from distill_prune.errors import ConfigError, DataError, UserError
from distill_prune.interop import Export, Origin
from distill_prune.settings import Entry

DSA = "color_crop_cutout_flip_scale_rotate"
PIXELS = Transform("pixels", {})
_PIXEL_RANGE = (-1.0, 2.0)
"""Learned pixels may leave [0, 1] a little. What lies further out is network input, or counts to 255."""


def _null(value: object) -> object:
    return None if value == "none" else value


Rate = Annotated[Annotated[float, Field(gt=0)] | None, BeforeValidator(_null)]
"""A learned learning rate, for formats that do not save it; `null` or `none` where none was learned."""


class SetSettings(Entry):
    """Options of every format of sets: the names of the `classes` in the order of their labels, where neither the file nor
    `dataset` says them, and the augmentation that the set was made for."""

    classes: tuple[str, ...] | None = Field(
        None, description="names of the classes in the order of their labels, where neither the file nor dataset says them"
    )
    augment: Augment = Field(DSA, description="augmentation that the set was made for")


def images_of(path: Path, value: object) -> Tensor:
    """Images (N, C, H, W) of any floating type as float32 in fresh memory.

    Raises:
        DataError: they are something else, or not finite.
    """
    images = tensor(path, value, "images")
    if not images.is_floating_point() or images.dim() != 4 or images.numel() == 0:
        raise DataError(
            f"images of '{path}'",
            got=f"{images.dtype} {tuple(images.shape)}",
            expected="floating-point (N, C, H, W), at least 1",
        )
    images = images.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    _finite(path, "images", images)
    return images


def classes_of(path: Path, value: object) -> Tensor:
    """Hard labels (N,) of any integer type as int64 in fresh memory.

    Raises:
        DataError: they are something else.
    """
    labels = tensor(path, value, "labels")
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.dim() != 1:
        raise DataError(f"labels of '{path}'", got=f"{labels.dtype} {tuple(labels.shape)}", expected="integers (N,), classes")
    return labels.to(torch.int64, copy=True)


def soft_of(path: Path, value: object) -> Tensor:
    """Soft labels (N, K) of any floating type as float32 in fresh memory.

    Raises:
        DataError: they are something else, or not finite.
    """
    labels = tensor(path, value, "labels")
    if not labels.is_floating_point() or labels.dim() != 2:
        raise DataError(
            f"labels of '{path}'", got=f"{labels.dtype} {tuple(labels.shape)}", expected="floating-point (N, K), soft labels"
        )
    labels = labels.to(torch.float32, copy=True, memory_format=torch.contiguous_format)
    _finite(path, "labels", labels)
    return labels


def rate_of(path: Path, value: object) -> float:
    """A learning rate that was saved as a number or as a tensor of one element.

    Raises:
        DataError: it is something else, or not positive and finite.
    """
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_complex():
        value = tensor(path, value, "the learning rate").item()
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise DataError(
            f"the learning rate of '{path}'",
            got=_told(value),
            expected="one positive number",
        )
    return float(value)


def _told(value: object) -> object:
    if isinstance(value, Tensor):
        return tuple(value.shape)
    return value if isinstance(value, bool | int | float) else type(value).__name__


def named(path: Path, settings: SetSettings, origin: Origin, listed: tuple[str, ...] | None = None) -> tuple[str, ...]:
    """The names of the classes: those given, else `listed` (the file's), else those of the data set.

    Raises:
        ConfigError: nobody names them.
        DataError: the file and the data set differ.
    """
    if settings.classes is not None:
        return settings.classes
    if listed is not None and origin.classes is not None and listed != origin.classes:
        raise DataError(
            f"'{path}' names other classes than the data set",
            got=f"{len(listed)}: {', '.join(listed[:10])}",
            expected=f"{len(origin.classes)}: {', '.join(origin.classes[:10])}",
            fix="another `dataset`, or --set classes=[...] in the order of the labels",
        )
    names = listed or origin.classes
    if names is None:
        raise ConfigError(
            f"'{path}' does not name its classes",
            fix="--set dataset=REF or --set classes=[...], in the order of the labels",
        )
    return names


@dataclass(frozen=True)
class Content:
    """What the files of a set hold, not yet checked: `images` (N, C, H, W) float32, and `labels` as `label_kind` says.

    `path` is the file of the images, and of the labels where `labels_path` names no other. `classes` and `augment` are None
    where the files do not say them, so that the options do.
    """

    path: Path
    method: str
    images: Tensor
    labels: Tensor
    transform: Transform
    label_kind: LabelKind = "classes"
    classes: tuple[str, ...] | None = None
    lr: float | None = None
    augment: str | None = None
    factor: int = 1
    labels_path: Path | None = None

    def checked(self, settings: SetSettings, origin: Origin) -> SyntheticSet:
        """The set, after checking that its parts fit together and fit the data set.

        Raises:
            ConfigError: the classes have no names.
            DataError: something does not fit.
        """
        names = named(self.labels_path or self.path, settings, origin) if self.classes is None else self.classes
        if len(self.labels) != len(self.images):
            raise DataError(
                f"'{self.labels_path or self.path}' has not one label for each image",
                got=f"{len(self.images)} images, {len(self.labels)} labels",
            )
        shape = tuple(self.images.shape[1:])
        if origin.shape is not None and shape != origin.shape:
            raise DataError(f"images of '{self.path}' have another shape than the data set", got=shape, expected=origin.shape)
        self._check_labels(names)
        self._check_images()
        augment = settings.augment if self.augment is None else self.augment
        return SyntheticSet(
            images=self.images,
            labels=self.labels,
            classes=names,
            transform=self.transform,
            method=self.method,
            lr=self.lr,
            augment=augment,
            factor=self.factor,
            label_kind=self.label_kind,
        )

    def _check_labels(self, names: tuple[str, ...]) -> None:
        path, labels = self.labels_path or self.path, self.labels
        if self.label_kind == "classes" and (int(labels.min()) < 0 or int(labels.max()) >= len(names)):
            raise DataError(
                f"'{path}' has labels outside its classes",
                got=f"labels {int(labels.min())}..{int(labels.max())}",
                expected=f"0..{len(names) - 1}",
            )
        if self.label_kind != "classes" and labels.shape[1] != len(names):
            raise DataError(
                f"soft labels of '{path}'", got=f"{labels.shape[1]} classes", expected=f"{len(names)}: {', '.join(names[:10])}"
            )

    def _check_images(self) -> None:
        low, high = float(self.images.min()), float(self.images.max())
        if self.transform.kind == "pixels" and not (_PIXEL_RANGE[0] <= low and high <= _PIXEL_RANGE[1]):
            raise DataError(
                f"images of '{self.path}' are no pixels",
                got=f"values {low:g} to {high:g}",
                expected="about 0 to 1",
                fix="--set space=normalize or space=zca, if they are network input",
            )
        height, width = self.images.shape[2:]
        if self.factor > min(height, width):
            raise DataError(f"images of '{self.path}' are too small for factor {self.factor}", got=f"{height}x{width} pixels")


def class_major(labels: Tensor, classes: int) -> bool:
    """Whether labels (N,) are 0.., 1.., and so on, every class equally often."""
    return torch.equal(labels, torch.arange(classes).repeat_interleave(len(labels) // classes))


def outgoing(export: Export, form: str, kinds: tuple[LabelKind, ...] = ("classes",), *, factor: bool = False) -> SyntheticSet:
    """The set to be written, where the format can hold it: its kind of labels, and with `factor` its multi-formation.

    Raises:
        UserError: it is no set, or one of text, or its labels or its multi-formation have no place in the format.
    """
    synthetic = export.noun
    if not isinstance(synthetic, SyntheticSet):
        raise UserError(f"format '{form}' holds a distilled set", got=type(synthetic).__name__)
    if synthetic.transform.kind == "text":
        raise UserError(f"format '{form}' holds images, and the set is of text")
    if synthetic.label_kind not in kinds:
        raise UserError(
            f"format '{form}' cannot hold the labels of this set",
            got=synthetic.label_kind,
            expected=" or ".join(kinds),
            fix="format ddranking holds soft and hard labels",
        )
    if synthetic.factor > 1 and not factor:
        raise UserError(
            f"format '{form}' holds one training image in each",
            got=f"{synthetic.factor}x{synthetic.factor} in each image",
            fix="format idc",
        )
    return synthetic


def _finite(path: Path, what: str, values: Tensor) -> None:
    bad = ~torch.isfinite(values)
    if bool(bad.any()):
        row = int(bad.flatten(1).any(1).int().argmax())
        raise DataError(
            f"{what} of '{path}' are not finite",
            got=f"{int(bad.sum())} bad values, first in row {row}",
            expected="numbers, no NaN or infinity",
        )
