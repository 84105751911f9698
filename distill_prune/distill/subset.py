"""The control: a random real subset, `ipc` images or sentences of every class, drawn without replacement from the training
part."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from distill_prune.artifacts import Examples
from distill_prune.distill import Distilled, Source
from distill_prune.distill.real import RealSettings, real_set
from distill_prune.errors import DataError
from distill_prune.progress import Progress
from distill_prune.rng import Streams

NEEDS_EXPERTS = False
REAL_IMAGES = True
KINDS = ("images", "text")


class Settings(RealSettings):
    name: Literal["subset"] = "subset"


def random_rows(labels: Tensor, classes: tuple[str, ...], ipc: int, streams: Streams) -> Tensor:
    """Rows of `ipc` random examples of every class, class-major, shape (ipc * classes,), on the labels' device.

    Raises:
        DataError: a class has fewer than `ipc` examples, or labels are no classes.
    """
    if not classes:
        kind = "word pieces" if labels.dim() == 2 else "numbers"
        raise DataError(f"a set holds as many examples of every class, and the labels of these data are {kind}")
    rows, known = [], labels.cpu()
    for index, name in enumerate(classes):
        of_class = (known == index).nonzero().squeeze(1)
        if len(of_class) < ipc:
            raise DataError(
                f"{ipc} examples per class are more than class '{name}' has",
                got=f"ipc {ipc}",
                expected=f"at most {len(of_class)}",
                fix="a smaller ipc",
            )
        rows.append(of_class[torch.randperm(len(of_class), generator=streams("rows", label=index))[:ipc]])
    return torch.cat(rows).to(labels.device)


def real_images(train: Examples, classes: tuple[str, ...], ipc: int, streams: Streams) -> tuple[Tensor, Tensor]:
    """Network inputs (ipc * classes, C, H, W) and labels of random real examples, class-major."""
    rows = random_rows(train.y, classes, ipc, streams)
    return train.inputs(rows).clone(), train.y[rows].clone()


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    return real_set(settings, source, random_rows(source.train.y, source.classes, settings.ipc, streams))
