"""Ways to make a small labelled set out of a data set.

An entry has `Settings` (with `ipc`, images per class), `NEEDS_EXPERTS`, and
`distill(settings, source: Source, streams, device, progress) -> Distilled`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from distill_prune.artifacts import Cost, Examples, SyntheticSet, Trajectory, Transform
from distill_prune.models import Model
from distill_prune.table import Table

METHODS = Table(
    "distillation method",
    {
        "trajectory": "distill_prune.distill.trajectory",
        "subset": "distill_prune.distill.subset",
    },
)


@dataclass(frozen=True)
class Source:
    """What a method may use: the training part, and experts' trajectories where it needs them; never the test part."""

    train: Examples
    classes: tuple[str, ...]
    transform: Transform
    model: Model | None = None
    experts: Sequence[Trajectory] = ()


@dataclass(frozen=True)
class Distilled:
    """A synthetic set, what it cost, and a record of the way there."""

    set: SyntheticSet
    cost: Cost
    record: dict[str, Any] = field(default_factory=dict)
