"""Ways to make a small labelled set out of a data set.

An entry has `Settings` (with `ipc`, images per class), `NEEDS_EXPERTS`, and
`distill(settings, source: Source, streams, device, progress) -> Distilled`. Where it needs a network but no experts it says
`NEEDS_MODEL = True`; where its sets are plain real images, a control, `REAL_IMAGES = True`. `KINDS` says what it is for where
that is not images alone: of "images" and "text".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol, runtime_checkable

from distill_prune.artifacts import Cost, Examples, SyntheticSet, Trajectory, Transform
from distill_prune.errors import ConfigError
from distill_prune.models import Model
from distill_prune.settings import Entry
from distill_prune.table import Table

METHODS = Table(
    "distillation method",
    {
        "trajectory": "distill_prune.distill.trajectory",
        "distribution": "distill_prune.distill.distribution",
        "gradient": "distill_prune.distill.gradient",
        "embedding": "distill_prune.distill.embedding",
        "subset": "distill_prune.distill.subset",
        "herding": "distill_prune.distill.herding",
        "kcenter": "distill_prune.distill.kcenter",
    },
)


def needs_model(entry: ModuleType) -> bool:
    """Whether a method's entry trains or reads a network."""
    return bool(getattr(entry, "NEEDS_MODEL", entry.NEEDS_EXPERTS))


@runtime_checkable
class MatchesExperts(Protocol):
    """Settings of a method that matches experts, and so needs their epochs up to a last one."""

    @property
    def last_epoch(self) -> int: ...


def last_epoch(settings: Entry) -> int:
    """The last epoch of the experts that a method can use; 0 where it uses none."""
    return settings.last_epoch if isinstance(settings, MatchesExperts) else 0


def check_kind(name: str, text: bool) -> None:
    """Refuse a method for data of another kind.

    Raises:
        ConfigError: naming the methods that there are for it.
    """
    kind = "text" if text else "images"
    kinds = {n: getattr(METHODS[n], "KINDS", ("images",)) for n in METHODS}
    if kind not in kinds[name]:
        raise ConfigError(
            f"distillation method '{name}' is for {' and '.join(kinds[name])}, and the data are {kind}",
            expected=f"one of {', '.join(n for n, of in kinds.items() if kind in of)}",
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
