"""Coverage-centric selection: real images of a class from all over the range of difficulty, without the hardest.

The `cut` share of the hardest goes. The range of the scores of what stays is divided into strata of equal width; from the
smallest stratum to the largest, each gives min(its size, budget left / strata left) images at random.

References:
    | Coverage-centric Coreset Selection for High Pruning Rates (Zheng et al., 2023), algorithm 1,
      https://arxiv.org/abs/2210.15809; here class by class, as a set has equally many of each
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field
from torch import Generator, Tensor

from distill_prune.distill import Distilled, Reads, Source
from distill_prune.distill.classes import class_rows
from distill_prune.distill.dynamics import Score, scores
from distill_prune.distill.real import RealSettings, real_set
from distill_prune.distill.scored import ranked
from distill_prune.progress import Progress
from distill_prune.rng import Streams

NEEDS_EXPERTS = True
REAL_IMAGES = True


class Settings(RealSettings):
    name: Literal["coverage"] = "coverage"
    score: Score = Field("margin", description="what difficulty is measured by")
    cut: float = Field(0.1, ge=0, lt=1, description="the share of the hardest images that goes first")
    strata: int | None = Field(None, ge=1, description="strata of the scores; null: 50, or ipc where that is smaller")
    epoch: int = Field(10, ge=1, description="with el2n: the epoch of the experts whose errors count")

    @property
    def reads_experts(self) -> bool:
        return True

    @property
    def reads(self) -> Reads:
        return "epochs"

    @property
    def last_epoch(self) -> int:
        return max(self.epoch if self.score == "el2n" else 0, super().last_epoch)


def stratified(score: Tensor, count: int, strata: int, generator: Generator) -> list[int]:
    """`count` indices of scores (n,), n at least `count`, by the module's text."""
    low, high = float(score.min()), float(score.max())
    width = (high - low) / strata
    of = ((score - low) / width).long().clamp(max=strata - 1) if width > 0 else torch.zeros(len(score), dtype=torch.long)
    groups = sorted(((of == s).nonzero().squeeze(1) for s in range(strata)), key=len)
    groups = [group for group in groups if len(group)]
    chosen: list[int] = []
    for i, group in enumerate(groups):
        share = min(len(group), (count - len(chosen)) // (len(groups) - i))
        chosen += group[torch.randperm(len(group), generator=generator)[:share]].tolist()
    return chosen


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    """The set of `source`.

    Raises:
        ConfigError, DataError: as for `dynamics.scores` and `classes.class_rows`.
    """
    by_class = class_rows(source.train.y, source.classes, settings.ipc)
    score, cost = scores(source, settings.score, settings.epoch)
    strata, parts = settings.strata or min(50, settings.ipc), list[Tensor]()
    for label, rows in enumerate(by_class):
        left = max(settings.ipc, round((1 - settings.cut) * len(rows)))
        stay = ranked(score, rows, left, "easy")
        chosen = stratified(score[stay].cpu(), settings.ipc, strata, streams("strata", label=label))
        parts.append(stay[torch.tensor(chosen, device=stay.device)])
    return real_set(settings, source, torch.cat(parts), cost)
