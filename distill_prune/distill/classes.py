"""The rows of a labelled set class by class, and choosing some of every class."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from distill_prune.artifacts import Examples
from distill_prune.errors import DataError

Choose = Callable[[Tensor, int], list[int]]
"""Which `count` rows of features (N, D) to take, by index, in order, none twice."""


def class_rows(labels: Tensor, classes: tuple[str, ...], need: int, fix: str = "a smaller ipc") -> list[Tensor]:
    """The rows of every class, in order, as one tensor a class.

    Raises:
        DataError: a class has fewer than `need` rows.
    """
    rows = [(labels == index).nonzero().squeeze(1) for index in range(len(classes))]
    for name, of_class in zip(classes, rows, strict=True):
        if len(of_class) < need:
            raise DataError(
                f"{need} examples per class are more than class '{name}' has",
                got=f"{need} of one class",
                expected=f"at most {len(of_class)}",
                fix=fix,
                setting="ipc",
            )
    return rows


def chosen_rows(train: Examples, classes: tuple[str, ...], ipc: int, choose: Choose) -> Tensor:
    """`ipc` rows of every class, class-major, chosen by the class's flat network inputs (N, C H W) in float64.

    Raises:
        DataError: a class has fewer than `ipc` examples.
    """
    by_class = class_rows(train.y, classes, ipc)
    return torch.cat([rows[choose(train.inputs(rows).flatten(1).double(), ipc)] for rows in by_class])
