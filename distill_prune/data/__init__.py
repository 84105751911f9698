"""Data sets by name. What an entry has is `DataSet`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from distill_prune.settings import Entry
from distill_prune.table import EntryModule, Table

if TYPE_CHECKING:
    from distill_prune.artifacts import Images, Sentences
    from distill_prune.data.preparation import Survey
    from distill_prune.data.source import Loaded, Remembered, Source


class DataSet(EntryModule, Protocol):
    """An entry of the table. Its settings derive from `source.Source`."""

    Settings: type[Entry]
    look: Callable[[Entry], Loaded | None] | None = None
    """What `load` gives, in seconds: its pixels may be on the device "meta", where they have a shape and no values. None where
    that takes a download."""

    def fingerprint(self, settings: Entry, remembered: Remembered | None = None, /) -> str:
        """What stands for the source's bytes in keys."""

    def load(self, settings: Entry, /) -> Loaded:
        """All examples, and which of them are the test part."""


DATASETS: Table[DataSet] = Table(
    "data set",
    "data",
    DataSet,
    {
        "cifar10": "distill_prune.data.cifar10",
        "cifar100": "distill_prune.data.cifar100",
        "digits": "distill_prune.data.digits",
        "fashion_mnist": "distill_prune.data.fashion_mnist",
        "folder": "distill_prune.data.folder",
        "glue": "distill_prune.data.glue",
        "masked": "distill_prune.data.masked",
        "mnist": "distill_prune.data.mnist",
        "npz": "distill_prune.data.npz",
        "svhn": "distill_prune.data.svhn",
        "tsv": "distill_prune.data.tsv",
        "union": "distill_prune.data.union",
    },
)


def fingerprint(settings: Source, remembered: Remembered | None = None) -> str:
    """What stands for the source's bytes in keys; hashes of files are looked up in and added to `remembered`.

    Raises:
        DataError: the source is missing.
    """
    return DATASETS[settings.name].fingerprint(settings, remembered)


def prepare(settings: Source) -> Images | Sentences:
    """Load a data set, hold out its validation part, and fit its transform on what remains of the training part.

    Raises:
        DataError: the source is missing or does not hold what it should.
        UserError: a package that text takes is missing.
    """
    from distill_prune.data.preparation import prepared

    return prepared(settings, DATASETS[settings.name].load(settings))


def survey(settings: Source) -> Survey | None:
    """What a prepared data set will hold, as far as plans need it; None where looking takes long, or a download.

    Raises:
        DataError: as `prepare`, but for what only the pixels show.
    """
    from distill_prune.data.preparation import surveyed

    look = DATASETS[settings.name].look
    loaded = None if look is None else look(settings)
    return None if loaded is None else surveyed(settings, loaded)
