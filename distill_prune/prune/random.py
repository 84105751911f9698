"""Random: score ~ U[0, 1), drawn anew at every level. The control that keeps nothing but the sparsity.

With `scope: layer` every layer loses the same share; with `global` the expected shares are equal. With `erk` or `balanced`
layers have the densities of densities.py: at high sparsity a stronger baseline.
"""

from __future__ import annotations

from typing import Literal

import torch

from distill_prune.prune.inputs import LevelWeights
from distill_prune.prune.select import Criterion as Base
from distill_prune.tree import State

NEEDS_TRAINING = False
WORDS = "weights chosen at random"


class Settings(Base):
    name: Literal["random"] = "random"


def scores(settings: Settings, level: LevelWeights) -> State:
    generator = level.streams("scores")
    return {n: torch.rand(t.shape, generator=generator) for n, t in level.mask.kept.items()}
