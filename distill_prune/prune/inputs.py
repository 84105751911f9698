"""What a criterion looks at: one frozen record, the second argument of `scores` and `cost`, larger where it needs more."""

from __future__ import annotations

from dataclasses import dataclass

from distill_prune.artifacts import Examples, Mask
from distill_prune.models import Model
from distill_prune.rng import Streams
from distill_prune.tree import State


@dataclass(frozen=True)
class LevelWeights:
    """The weights that a level prunes.

    Args:
        state: Every tensor of the network, pruned weights zero; trained before where the criterion says so.
        mask: What survives so far.
        streams: Random streams of the level; nothing else draws.
    """

    state: State
    mask: Mask
    streams: Streams


@dataclass(frozen=True)
class LevelNetwork(LevelWeights):
    """With the network as a function of its state, for a criterion that says `NEEDS_MODEL`."""

    model: Model


@dataclass(frozen=True)
class LevelImages(LevelNetwork):
    """With what the chain prunes with, on the run's device, for one that says `NEEDS_IMAGES` or `NEEDS_TRAINING`."""

    examples: Examples
