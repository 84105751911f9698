"""What to prune, by name. What an entry has is `Criterion`; what its `scores` is given is in `inputs`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from distill_prune.argument import check_argument
from distill_prune.errors import ConfigError
from distill_prune.settings import Entry
from distill_prune.table import EntryModule, Table

if TYPE_CHECKING:
    from distill_prune.artifacts import Cost
    from distill_prune.prune.inputs import LevelWeights
    from distill_prune.tree import State


class Criterion(EntryModule, Protocol):
    """An entry of the table. Its settings derive from `select.Criterion`.

    One that has none of the three needs costs nothing. One that works without training, and not for nothing, has `cost`.
    """

    Settings: type[Entry]
    NEEDS_TRAINING: bool
    """Whether a level is trained from the rewinding weights before it is scored; then there is all that follows."""
    NEEDS_MODEL: bool = False
    """Whether it looks at the network."""
    NEEDS_IMAGES: bool = False
    """Whether it looks at the images that the chain prunes with; then there is the network, too."""
    WORDS: str = ""
    """Which weights it keeps, in words, for reports."""
    cost: Callable[[Entry, LevelWeights], Cost] | None = None
    """What one call of `scores` costs."""

    def scores(self, settings: Entry, level: LevelWeights, /) -> State:
        """A score for every prunable weight of `level.state`: of the survivors the lowest go."""


def needs_model(entry: Criterion) -> bool:
    """Whether a criterion's entry trains or looks at the network."""
    return entry.NEEDS_TRAINING or entry.NEEDS_MODEL or entry.NEEDS_IMAGES


def needs_images(entry: Criterion) -> bool:
    """Whether a criterion's entry trains on or looks at the images of the chain."""
    return entry.NEEDS_TRAINING or entry.NEEDS_IMAGES


def check_needs(entry: Criterion, what: str) -> None:
    """Refuse somebody else's criterion that asks for what there is not.

    Raises:
        ConfigError: its settings are of no criterion; `scores` or `cost` has other parameters than the settings and one
            record, or reads what that record has not, or has only for an entry that says that it needs it.
    """
    from distill_prune.prune.inputs import LevelImages, LevelNetwork, LevelWeights
    from distill_prune.prune.select import Criterion as Settings

    record: type[LevelWeights] = LevelImages
    undeclared = {}
    if not needs_images(entry):
        record, undeclared = LevelNetwork, {"examples": "NEEDS_IMAGES"}
    if not needs_model(entry):
        record, undeclared = LevelWeights, {**undeclared, "model": "NEEDS_MODEL"}
    if not issubclass(entry.Settings, Settings):
        expected = f"{Settings.__name__} of {Settings.__module__}"
        raise ConfigError(f"{what}: what its Settings derive from", got=entry.Settings.__mro__[1].__name__, expected=expected)
    for name, function in (("scores", entry.scores), ("cost", entry.cost)):
        if function is not None:
            check_argument(name, function, record, what, undeclared)


CRITERIA: Table[Criterion] = Table(
    "pruning criterion",
    "criteria",
    Criterion,
    {
        "magnitude": "distill_prune.prune.magnitude",
        "random": "distill_prune.prune.random",
        "initial_magnitude": "distill_prune.prune.initial_magnitude",
        "snip": "distill_prune.prune.snip",
        "hutchinson": "distill_prune.prune.hutchinson",
        "synflow": "distill_prune.prune.synflow",
    },
    check_needs,
)
