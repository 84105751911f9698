"""The files that DD-Ranking evaluates: `images.pt`, `labels.pt` and `lr.pt` of one folder.

    images    float32 (N, C, H, W), network input, which the file does not say (`space`)
    labels    float32 (N, K), soft labels whose softmax its losses take: logits; or int64 (N,), classes
    lr        the learned learning rate, a tensor without axes; absent where none was learned

Without `labels.pt` labels are hard, and their order is what the evaluator assumes: class by class, all equally often. Hard
labels in a file must have that order, in and out. Out: probabilities are written as their logarithm, whose softmax gives
them back. Classes, and what comes in as float32 images and logits, go out bit by bit.

References:
    | DD-Ranking: Rethinking the Evaluation of Dataset Distillation (Li et al., 2025), https://arxiv.org/abs/2505.13300
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.artifacts import LabelKind, SyntheticSet
from distill_prune.checkpoints import load, tensor
from distill_prune.errors import ConfigError, DataError, UserError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import member, one, packed, publish_folder
from distill_prune.interop.sets import Content, class_major, classes_of, images_of, named, outgoing, rate_of, soft_of
from distill_prune.interop.space import SpaceSettings, transform_of
from distill_prune.limits import Budget

KIND = "set"
_IMAGES, _LABELS, _LR = "images.pt", "labels.pt", "lr.pt"
_SUM = 1e-3
_ORDER = "0, .., 0, 1, .., 1, and so on, every class equally often"


class Settings(SpaceSettings):
    """`labels` says what soft labels are; by default logits, unless they could be probabilities as well."""

    name: Literal["ddranking"] = "ddranking"
    labels: Literal["logits", "probabilities"] | None = Field(
        None, description="what soft labels are; default: logits, unless they could be probabilities as well"
    )


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> SyntheticSet:
    """The set of a folder.

    Raises:
        ConfigError: `space`, `labels` or another option is missing.
        DataError: a file is missing, hostile or damaged, hard labels are not class by class, or something does not fit.
    """
    folder = one(paths, "a set of format ddranking")
    file = member(folder, _IMAGES)
    budget = Budget(folder)
    images = images_of(file, load(file, budget=budget))
    where, labels, kind = _labels(settings, folder, len(images), origin, budget)
    transform = transform_of(file, settings, origin, images)
    lr = rate_of(folder / _LR, load(folder / _LR, budget=budget)) if (folder / _LR).exists() else None
    return Content(file, "ddranking", images, labels, transform, kind, lr=lr, labels_path=where).checked(settings, origin)


def _labels(settings: Settings, folder: Path, count: int, origin: Origin, budget: Budget) -> tuple[Path, Tensor, LabelKind]:
    """The labels, what they are, and where they are from."""
    path = folder / _LABELS
    labels = tensor(path, load(path, budget=budget), "labels") if path.exists() else None
    if labels is not None and labels.is_floating_point():
        soft = soft_of(path, labels)
        return path, soft, _kind(path, settings, soft)
    if settings.labels is not None:
        raise ConfigError(f"'{folder}' has hard labels", got=f"labels={settings.labels}", fix="leave `labels` out")
    if labels is not None:
        hard, classes = classes_of(path, labels), len(named(path, settings, origin))
        if len(hard) == count and not class_major(hard, classes):
            raise DataError(f"labels of '{path}' are not class by class", got=f"{hard[:12].tolist()}, ...", expected=_ORDER)
        return path, hard, "classes"
    path = folder / _IMAGES
    classes = len(named(path, settings, origin))
    if count % classes:
        raise DataError(f"'{path}' has no labels, and not equally many images a class", got=f"{count} and {classes} classes")
    return path, torch.arange(classes).repeat_interleave(count // classes), "classes"


def _kind(path: Path, settings: Settings, soft: Tensor) -> Literal["logits", "probabilities"]:
    sums = bool((soft >= 0).all()) and bool(((soft.sum(1) - 1).abs() < _SUM).all())
    if settings.labels is None and sums:
        raise ConfigError(
            f"soft labels of '{path}' could be logits and probabilities",
            got="rows that add up to 1",
            fix="--set labels=probabilities, or --set labels=logits for their softmax, as DD-Ranking's losses take it",
        )
    if settings.labels == "probabilities" and not sums:
        raise DataError(f"soft labels of '{path}' are no probabilities", expected="rows that add up to 1", fix="labels=logits")
    return settings.labels or "logits"


def write(export: Export, path: Path) -> list[Path]:
    """A folder with the files.

    Raises:
        UserError: it is no set with one image in each, hard labels are not class by class, or something stands at `path`.
    """
    synthetic = outgoing(export, "ddranking", ("classes", "logits", "probabilities"))
    labels = synthetic.labels if synthetic.label_kind == "classes" else synthetic.labels.float()
    if synthetic.label_kind == "classes" and not class_major(labels, len(synthetic.classes)):
        raise UserError("format 'ddranking' holds hard labels in order", got=f"{labels[:12].tolist()}, ...", expected=_ORDER)
    if synthetic.label_kind == "probabilities":
        labels = labels.clamp(min=torch.finfo(torch.float32).tiny).log()
    tensors = {_IMAGES: synthetic.images.float(), _LABELS: labels}
    if synthetic.lr is not None:
        tensors[_LR] = torch.tensor(synthetic.lr, dtype=torch.float32)
    return publish_folder(path, ((name, packed(tensor.clone())) for name, tensor in tensors.items()))
