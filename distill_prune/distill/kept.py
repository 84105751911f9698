"""The real images that a set is distilled from: all, or the easy (or hard) share of every class by a score of difficulty.

    rows of class c:    the round(share * n_c) of smallest (easy) or largest (hard) s_i      s of dynamics.py

With trajectory matching the experts whose trajectories are matched see these images alone; the experts that score them have
seen all.

References:
    | Distill the Best, Ignore the Rest: Improving Dataset Distillation with Loss-Value-Based Pruning (Moser et al., 2024),
      https://arxiv.org/abs/2411.12115: it keeps the easy images; its score is the loss
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.distill import Reads, Source
from distill_prune.distill.classes import class_rows
from distill_prune.distill.dynamics import Score, scores
from distill_prune.distill.scored import ranked
from distill_prune.settings import Entry, Later, Settings


class Kept(Settings):
    """Which real images are distilled."""

    score: Score = Field("margin", description="what difficulty is measured by")
    keep: Literal["easy", "hard"] = Field("easy", description="which end of the scores is kept")
    share: float = Field(0.6, gt=0, lt=1, description="the share of every class that is kept, like 0.6")
    epoch: int = Field(10, ge=1, description="with el2n: the epoch of the experts whose errors count")


class SourceSettings(Entry):
    """Base of the settings of methods that learn images from a part of the real ones."""

    source: Kept | None = Later(None, description="distil the easy or the hard real images alone; null: all of them")

    @property
    def reads_experts(self) -> bool:
        """Whether experts score the real images."""
        return self.source is not None

    @property
    def reads(self) -> Reads:
        """Scores are of networks at the ends of epochs."""
        return "rows" if self.source is None else "epochs"

    @property
    def last_epoch(self) -> int:
        """The last epoch of the experts that is asked for by its number."""
        return self.source.epoch if self.source is not None and self.source.score == "el2n" else 0


def kept_rows(kept: Kept, source: Source) -> Tensor:
    """The rows that are kept, in ascending order, scored by the experts of `source`.

    Raises:
        ConfigError, DataError: as for `dynamics.scores`.
    """
    score, _ = scores(source, kept.score, kept.epoch)
    by_class = class_rows(source.train.y, source.classes, 1)
    chosen = [ranked(score, rows, max(1, round(kept.share * len(rows))), kept.keep) for rows in by_class]
    return torch.cat(chosen).sort().values


def kept(source: Source, of: Kept | None) -> Source:
    """`source` with the kept images alone."""
    return source if of is None else replace(source, train=source.train.take(kept_rows(of, source)))
