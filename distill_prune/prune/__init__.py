"""What to prune. An entry has `Settings`, `NEEDS_TRAINING`, and `scores(state, mask, streams) -> State`.

Scores are given to every prunable weight; the lowest among the survivors go. `NEEDS_TRAINING` says whether the scores
are taken of trained weights; where they are not, nothing is trained.
"""

from __future__ import annotations

from distill_prune.table import Table

CRITERIA = Table(
    "pruning criterion",
    {
        "magnitude": "distill_prune.prune.magnitude",
        "random": "distill_prune.prune.random",
    },
)
