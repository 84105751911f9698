"""Ways to make a small labelled set out of a data set.

An entry has `Settings` (with `ipc`, images per class), `NEEDS_EXPERTS`, and
`distill(settings, source: Source, streams, device, progress) -> Distilled`. It may also say:

    NEEDS_MODEL   whether it needs a network; where it is left out, as NEEDS_EXPERTS
    REAL_IMAGES   whether its sets are plain real images, and so controls; else False
    KINDS         the kinds of data that it is for, of "images" and "text"; else images alone
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Literal, Protocol, runtime_checkable

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


Kind = Literal["images", "text"]


@dataclass(frozen=True)
class Traits:
    """What a method's entry says of itself, whatever it leaves out."""

    needs_experts: bool
    needs_model: bool
    real_images: bool
    kinds: tuple[Kind, ...]

    @classmethod
    def of(cls, entry: ModuleType) -> Traits:
        names = vars(entry)
        experts = bool(names["NEEDS_EXPERTS"])
        model, real = bool(names.get("NEEDS_MODEL", experts)), bool(names.get("REAL_IMAGES", False))
        return cls(experts, model, real, tuple(names.get("KINDS", ("images",))))


def needs_model(entry: ModuleType) -> bool:
    """Whether a method's entry trains or reads a network."""
    return Traits.of(entry).needs_model


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
    kind: Kind = "text" if text else "images"
    kinds = {n: Traits.of(METHODS[n]).kinds for n in METHODS}
    if kind not in kinds[name]:
        raise ConfigError(
            f"distillation method '{name}' is for {' and '.join(kinds[name])}, and the data are {kind}",
            expected=f"one of {', '.join(n for n, of in kinds.items() if kind in of)}",
        )


@dataclass(frozen=True)
class Source:
    """What a method may use: the training part; the network and experts' trajectories where it needs them. Never the test
    part."""

    train: Examples
    classes: tuple[str, ...]
    transform: Transform
    model: Model | None = None
    experts: Sequence[Trajectory] = ()

    @property
    def network(self) -> Model:
        """The network.

        Raises:
            ConfigError: there is none, as the method does not say that it needs one.
        """
        if self.model is None:
            raise ConfigError(
                "a distillation method reads a network that it does not ask for", mend="NEEDS_MODEL = True in its module"
            )
        return self.model


@dataclass(frozen=True)
class Distilled:
    """A synthetic set, what it cost, and a record of how it was made: JSON numbers by name."""

    set: SyntheticSet
    cost: Cost
    record: Mapping[str, object] = field(default_factory=dict)
