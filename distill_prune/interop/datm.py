"""Sets of difficulty-aligned trajectory matching: `images_best.pt`, `labels_best.pt` and `lr_best.pt` of one folder.

    images    float32 (N, C, H, W), network input: ZCA-whitened or normalized, which the file does not say (`space`)
    labels    float32 (N, K), logits; the loss takes their softmax
    lr        the learned learning rate, a tensor without axes

What comes in as float32 goes out bit by bit.

References:
    | Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching (Guo et al., 2024),
      https://arxiv.org/abs/2310.05773
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch

from distill_prune.artifacts import SyntheticSet
from distill_prune.checkpoints import load
from distill_prune.errors import UserError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import member, one, packed, publish_folder
from distill_prune.interop.sets import Content, images_of, outgoing, rate_of, soft_of
from distill_prune.interop.space import SpaceSettings, transform_of
from distill_prune.limits import Budget

KIND = "set"
_IMAGES, _LABELS, _LR = "images_best.pt", "labels_best.pt", "lr_best.pt"


class Settings(SpaceSettings):
    name: Literal["datm"] = "datm"


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> SyntheticSet:
    """The set of a run's folder.

    Raises:
        ConfigError: `space` or another option is missing.
        DataError: a file is missing, hostile or damaged, or something does not fit.
    """
    folder = one(paths, "a set of format datm")
    files = [member(folder, name) for name in (_IMAGES, _LABELS, _LR)]
    file, labels_at, lr_at = files
    budget = Budget(folder)
    contents = [load(path, budget=budget) for path in files]
    images, labels, lr = images_of(file, contents[0]), soft_of(labels_at, contents[1]), rate_of(lr_at, contents[2])
    transform = transform_of(file, settings, origin, images)
    return Content(file, "datm", images, labels, transform, "logits", lr=lr, labels_path=labels_at).checked(settings, origin)


def write(export: Export, path: Path) -> list[Path]:
    """A folder with the three files.

    Raises:
        UserError: it is no set with logits as labels, a learning rate and one image in each, or something stands at `path`.
    """
    synthetic = outgoing(export, "datm", ("logits",))
    if synthetic.lr is None:
        raise UserError("format 'datm' holds a learned learning rate", got="a set that learned none", fix="format ddranking")
    tensors = {
        _IMAGES: synthetic.images.float(),
        _LABELS: synthetic.labels.float(),
        _LR: torch.tensor(synthetic.lr, dtype=torch.float32),
    }
    return publish_folder(path, ((name, packed(tensor.clone())) for name, tensor in tensors.items()))
