"""EL2N: the real images of a class on which experts err most (or least) early in their training.

    s_i = || softmax(f(x_i)) - y_i ||_2    at the end of one epoch, mean over the experts

References:
    | Deep Learning on a Data Diet: Finding Important Examples Early in Training (Paul et al., 2021), section 3,
      https://arxiv.org/abs/2107.07075
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distill_prune.distill import Distilled, Source
from distill_prune.distill.scored import ScoredSettings, scored_set
from distill_prune.progress import Progress
from distill_prune.rng import Streams

NEEDS_EXPERTS = True
REAL_IMAGES = True


class Settings(ScoredSettings):
    name: Literal["el2n"] = "el2n"
    epoch: int = Field(10, ge=1, description="the epoch of the experts whose errors count; early, by the paper")

    @property
    def last_epoch(self) -> int:
        return max(self.epoch, super().last_epoch)


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    return scored_set(settings, source, "el2n", settings.epoch)
