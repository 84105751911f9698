"""The hardest, or the easiest, real images of every class by a score of difficulty."""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.distill import Distilled, Reads, Source
from distill_prune.distill.classes import class_rows
from distill_prune.distill.dynamics import Score, scores
from distill_prune.distill.real import RealSettings, real_set


class ScoredSettings(RealSettings):
    """Base of the settings of methods that choose by a score."""

    keep: Literal["hard", "easy"] = Field("hard", description="which end of the scores is kept")

    @property
    def reads_experts(self) -> bool:
        return True

    @property
    def reads(self) -> Reads:
        return "epochs"


def ranked(score: Tensor, rows: Tensor, count: int, keep: Literal["hard", "easy"]) -> Tensor:
    """The `count` rows of largest (hard) or smallest score; of equal scores the first in order."""
    return rows[torch.sort(score[rows].cpu(), descending=keep == "hard", stable=True).indices[:count].to(rows.device)]


def scored_set(settings: ScoredSettings, source: Source, score: Score, epoch: int | None = None) -> Distilled:
    """`ipc` images of every class, chosen by a score of difficulty.

    Raises:
        ConfigError, DataError: as for `dynamics.scores` and `classes.class_rows`.
    """
    by_class = class_rows(source.train.y, source.classes, settings.ipc)
    by_row, cost = scores(source, score, epoch)
    rows = torch.cat([ranked(by_row, rows, settings.ipc, settings.keep) for rows in by_class])
    return real_set(settings, source, rows, cost)
