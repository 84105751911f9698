"""Data sets by name. An entry has `Settings`, `fingerprint(settings, remembered)` and `load(settings) -> Loaded`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from distill_prune.table import Table

if TYPE_CHECKING:
    from distill_prune.artifacts import Images, Sentences
    from distill_prune.data.source import Remembered, Source

DATASETS = Table(
    "data set",
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
    return str(DATASETS[settings.name].fingerprint(settings, remembered))


def prepare(settings: Source) -> Images | Sentences:
    """Load a data set, hold out its validation part, and fit its transform on what remains of the training part.

    Raises:
        DataError: the source is missing or does not hold what it should.
        UserError: a package that text takes is missing.
    """
    from distill_prune.data.preparation import prepared

    return prepared(settings, DATASETS[settings.name].load(settings))
