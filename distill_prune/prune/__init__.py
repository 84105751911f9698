"""What to prune. An entry has `Settings`, `NEEDS_TRAINING`, and `scores(...) -> State`, which is given what it asks for by
the names of its parameters:

    settings    of the entry
    state       every tensor of the network, pruned weights zero; `NEEDS_TRAINING` says whether it is trained first
    mask        what survives so far
    streams     random streams of the level
    model       the network as a function of its state, where `NEEDS_TRAINING` or `NEEDS_MODEL`
    examples    what the chain prunes with, on the run's device, where `NEEDS_TRAINING` or `NEEDS_IMAGES`

Scores are given to every prunable weight; the lowest among the survivors go. An entry that says none of the three needs
costs nothing. One that works without training, and not for nothing, has `cost(...) -> Cost` for one call of `scores`, with
parameters from the same names.
"""

from __future__ import annotations

from types import ModuleType

from distill_prune.table import Table

CRITERIA = Table(
    "pruning criterion",
    {
        "magnitude": "distill_prune.prune.magnitude",
        "random": "distill_prune.prune.random",
        "initial_magnitude": "distill_prune.prune.initial_magnitude",
        "snip": "distill_prune.prune.snip",
        "synflow": "distill_prune.prune.synflow",
    },
)


def needs_model(entry: ModuleType) -> bool:
    """Whether a criterion's entry trains or looks at the network."""
    return bool(entry.NEEDS_TRAINING or getattr(entry, "NEEDS_MODEL", False))


def needs_images(entry: ModuleType) -> bool:
    """Whether a criterion's entry trains on or looks at the images of the chain."""
    return bool(entry.NEEDS_TRAINING or getattr(entry, "NEEDS_IMAGES", False))
