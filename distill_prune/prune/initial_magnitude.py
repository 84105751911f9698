"""Magnitude at initialisation: score = |w| of the rewinding weights W_k; nothing is trained.

The scores of every level are the same, so a chain's level n is what one-shot pruning to that sparsity gives.

References:
    | Pruning Neural Networks at Initialization: Why Are We Missing the Mark? (Frankle et al., 2021),
      https://arxiv.org/abs/2009.08576
"""

from __future__ import annotations

from typing import Literal

from distill_prune.prune.inputs import LevelWeights
from distill_prune.prune.select import Criterion as Base
from distill_prune.tree import State

NEEDS_TRAINING = False
WORDS = "largest weights at initialisation, without training"


class Settings(Base):
    name: Literal["initial_magnitude"] = "initial_magnitude"


def scores(settings: Settings, level: LevelWeights) -> State:
    return {n: level.state[n].abs() for n in level.mask.kept}
