"""Sets of trajectory matching (MTT, TESLA, FTD): `images_best.pt` and `labels_best.pt`, written by torch.save.

    images    float32 (N, C, H, W), network input: ZCA-whitened or normalized, which the file does not say (`space`)
    labels    int64 (N,)

In: a folder with both, or the files themselves; images may be split over several files, joined in the order given. The
learned learning rate is not saved: `lr` must be given, `lr=null` where none was learned. Out: a folder with both, without
the learning rate and the transform. What comes in as float32 goes out bit by bit.

References:
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), https://arxiv.org/abs/2203.11932
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.artifacts import SyntheticSet
from distill_prune.checkpoints import load, tensor
from distill_prune.errors import ConfigError, DataError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import member, packed, publish_folder
from distill_prune.interop.sets import Content, Rate, classes_of, images_of, outgoing
from distill_prune.interop.space import SpaceSettings, transform_of
from distill_prune.limits import Budget

KIND = "set"
_IMAGES, _LABELS = "images_best.pt", "labels_best.pt"


class Settings(SpaceSettings):
    """`lr` is the learned learning rate of the run's log."""

    name: Literal["mtt"] = "mtt"
    lr: Rate = Field(None, description="the learned learning rate, from the run's log")


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> SyntheticSet:
    """The set of a folder, or of files of images and one of labels, told apart by what they hold.

    Raises:
        ConfigError: `lr`, `space` or another option is missing.
        DataError: a file is missing, hostile or damaged, or something does not fit.
    """
    if len(paths) == 1 and (paths[0].is_dir() or not paths[0].exists()):
        fix = "give the files of images and of labels by name"
        paths = [member(paths[0], name, fix) for name in (_IMAGES, _LABELS)]
    if "lr" not in settings.model_fields_set:
        raise ConfigError(
            f"'{paths[0]}' does not say the learned learning rate, which this format does not save",
            fix="--set lr=..., as the run logged it, or --set lr=null where none was learned",
        )
    budget = Budget(paths[0].parent)
    tensors = [(path, tensor(path, load(path, budget=budget), "what is saved")) for path in paths]
    where, labels = _labels(tensors)
    parts = [(path, images_of(path, values)) for path, values in tensors if values.dim() != 1]
    first = parts[0][1].shape[1:]
    for path, part in parts:
        if part.shape[1:] != first:
            raise DataError(
                f"images of '{path}' do not continue those of '{parts[0][0]}'", got=tuple(part.shape[1:]), expected=tuple(first)
            )
    images = torch.cat([part for _, part in parts])
    path = parts[0][0]
    transform = transform_of(path, settings, origin, images)
    return Content(path, "mtt", images, labels, transform, lr=settings.lr, labels_path=where).checked(settings, origin)


def _labels(tensors: Sequence[tuple[Path, Tensor]]) -> tuple[Path, Tensor]:
    """The one tensor of one axis: every other is of images."""
    labels = [(path, values) for path, values in tensors if values.dim() == 1]
    if len(labels) != 1 or len(tensors) < 2:
        raise DataError(
            "files of images and one file of labels are expected",
            got=", ".join(f"{path.name} {values.dtype} {tuple(values.shape)}" for path, values in tensors),
            expected="floating-point (N, C, H, W), integers (N,)",
            fix="for soft labels (N, K), format datm",
        )
    return labels[0][0], classes_of(*labels[0])


def write(export: Export, path: Path) -> list[Path]:
    """A folder with the two files.

    Raises:
        UserError: it is no set with hard labels and one image in each, or something stands at `path`.
    """
    synthetic = outgoing(export, "mtt")
    tensors = {_IMAGES: synthetic.images.float(), _LABELS: synthetic.labels}
    return publish_folder(path, ((name, packed(tensor.clone())) for name, tensor in tensors.items()))
