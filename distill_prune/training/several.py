"""Any number of trainings of one kind, as many at a time as there are lanes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch

from distill_prune.errors import NonFiniteError
from distill_prune.progress import SILENT, Progress, TicksOnly
from distill_prune.training.independence import check_independence
from distill_prune.training.loop import Trained, Training, train_group

Lanes = Literal[1, 4, 8, 16]
"""The numbers of lanes of which it was measured that what a lane computes depends on none of the others."""


def train_several(
    trainings: Sequence[Training], lanes: int, device: str | torch.device = "cpu", progress: Progress = SILENT
) -> list[Trained]:
    """Train networks of one signature, in order, with the fewest lanes that hold them all, at most `lanes`. `progress` hears of
    the steps of all; nothing is saved.

    Raises:
        NonFiniteError: a training loss became infinite or NaN.
        UserError: as `train_group`; or lanes of this network are not independent of each other.
    """
    if not trainings:
        return []
    lanes = next(size for size in get_args(Lanes) if size >= min(len(trainings), lanes))
    if lanes > 1:
        check_independence(trainings[0], lanes, device)
    one = trainings[0]
    steps = (one.recipe.steps(len(one.examples)) if one.last is None else one.last) - one.first
    results: list[Trained] = []
    for begin in range(0, len(trainings), lanes):
        group = trainings[begin : begin + lanes]
        listener = TicksOnly(progress, begin * steps, len(trainings) * steps)
        for outcome in train_group(group, lanes, device, [listener, *[SILENT] * (len(group) - 1)]):
            if isinstance(outcome, NonFiniteError):
                raise outcome
            results.append(outcome)
    return results
