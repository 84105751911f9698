"""Magnitude: score = |w| of the trained weights.

References:
    | The Lottery Ticket Hypothesis (Frankle and Carbin, 2019), section 2
"""

from __future__ import annotations

from typing import Literal

from distill_prune.artifacts import Mask
from distill_prune.prune.select import Criterion as Base
from distill_prune.rng import Streams
from distill_prune.tree import State

NEEDS_TRAINING = True


class Settings(Base):
    name: Literal["magnitude"] = "magnitude"


def scores(state: State, mask: Mask, streams: Streams) -> State:
    return {n: state[n].abs() for n in mask.kept}
