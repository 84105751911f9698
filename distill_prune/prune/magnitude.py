"""Magnitude: score = |w| of the trained weights.

References:
    | The Lottery Ticket Hypothesis (Frankle and Carbin, 2019), section 2, https://arxiv.org/abs/1803.03635
"""

from __future__ import annotations

from typing import Literal

from distill_prune.prune.inputs import LevelWeights
from distill_prune.prune.select import Criterion as Base
from distill_prune.tree import State

NEEDS_TRAINING = True
WORDS = "largest weights after training"


class Settings(Base):
    name: Literal["magnitude"] = "magnitude"


def scores(settings: Settings, level: LevelWeights) -> State:
    return {n: level.state[n].abs() for n in level.mask.kept}
