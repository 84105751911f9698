"""Ways to make a small labelled set out of a data set, by name. What an entry has is `Method`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

from distill_prune.artifacts import Cost, Examples, SyntheticSet, Trajectory, Transform
from distill_prune.errors import ConfigError
from distill_prune.models import Model
from distill_prune.progress import Progress
from distill_prune.rng import Streams
from distill_prune.settings import Entry
from distill_prune.table import EntryModule, Table


class Method(EntryModule, Protocol):
    """An entry of the table. Its settings have `ipc`, images per class."""

    Settings: type[Entry]
    NEEDS_EXPERTS: bool
    """Whether it reads experts' trajectories; then there is the network, too."""
    NEEDS_MODEL: bool = False
    """Whether it trains or reads a network."""
    REAL_IMAGES: bool = False
    """Whether its sets are plain real images: controls."""
    KINDS: tuple[Literal["images", "text"], ...] = ("images",)
    """What it can make sets of."""

    def distill(self, settings: Entry, source: Source, streams: Streams, device: str, progress: Progress, /) -> Distilled:
        """A set of `ipc` examples of every class."""


METHODS: Table[Method] = Table(
    "distillation method",
    "methods",
    Method,
    {
        "trajectory": "distill_prune.distill.trajectory",
        "distribution": "distill_prune.distill.distribution",
        "gradient": "distill_prune.distill.gradient",
        "embedding": "distill_prune.distill.embedding",
        "subset": "distill_prune.distill.subset",
        "herding": "distill_prune.distill.herding",
        "kcenter": "distill_prune.distill.kcenter",
        "el2n": "distill_prune.distill.el2n",
        "forgetting": "distill_prune.distill.forgetting",
        "margin": "distill_prune.distill.margin",
        "coverage": "distill_prune.distill.coverage",
        "moderate": "distill_prune.distill.moderate",
    },
)


@runtime_checkable
class MatchesExperts(Protocol):
    """Settings of a method that matches experts, and so needs their epochs up to a last one."""

    @property
    def last_epoch(self) -> int: ...


def last_epoch(settings: Entry) -> int:
    """The last epoch of the experts that a method can use; 0 where it uses none."""
    return settings.last_epoch if isinstance(settings, MatchesExperts) else 0


@runtime_checkable
class MayReadExperts(Protocol):
    """Settings that say whether experts are read, of a method that does not always."""

    @property
    def reads_experts(self) -> bool: ...


@runtime_checkable
class MayHaveSoftLabels(Protocol):
    """Settings that say whether labels are probabilities, of a method whose sets do not always have classes."""

    @property
    def soft_labels(self) -> bool: ...


def has_soft_labels(settings: Entry) -> bool:
    """Whether the labels of a method's sets are probabilities under these settings."""
    return isinstance(settings, MayHaveSoftLabels) and settings.soft_labels


Reads = Literal["rows", "epochs", "points"]
"""What of experts is read. rows: trajectories by epoch, of any kind. epochs: networks that training went through, which convex
experts have at their ends alone. points: points between the ends of epochs, which convex experts alone have."""


@runtime_checkable
class SaysWhatItReads(Protocol):
    """Settings that say what of experts is read, of a method that does not take all kinds of experts."""

    @property
    def reads(self) -> Reads: ...


def misread(settings: Entry, convex: bool) -> str:
    """Why a method cannot read experts of this kind under these settings, as a message says it; empty where it can."""
    reads = settings.reads if isinstance(settings, SaysWhatItReads) else "rows"
    if convex and reads == "epochs":
        return "it reads what experts say at the ends of epochs, and convex experts keep their first and last checkpoint alone"
    if not convex and reads == "points":
        return "starts: continuous takes points between the ends of epochs, and only convex experts have these"
    return ""


def needs_experts(entry: Method, settings: Entry) -> bool:
    """Whether a method reads experts' trajectories under these settings."""
    return entry.NEEDS_EXPERTS or (isinstance(settings, MayReadExperts) and settings.reads_experts)


def needs_model(entry: Method, settings: Entry) -> bool:
    """Whether a method trains or reads a network under these settings."""
    return entry.NEEDS_MODEL or needs_experts(entry, settings)


def check_kind(name: str, text: bool) -> None:
    """Refuse a method for data of another kind.

    Raises:
        ConfigError: naming the methods that there are for it.
    """
    kind = "text" if text else "images"
    kinds = {n: METHODS[n].KINDS for n in METHODS}
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
            raise ConfigError("a distillation method reads a network unasked", fix="NEEDS_MODEL = True in its module")
        return self.model


@dataclass(frozen=True)
class Distilled:
    """A synthetic set, what it cost, and a record of how it was made: JSON numbers by name."""

    set: SyntheticSet
    cost: Cost
    record: Mapping[str, object] = field(default_factory=dict)
