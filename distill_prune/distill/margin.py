"""Margin: the real images of a class with the smallest (or largest) area under the margin of the experts.

    AUM_i = mean_t (z_i[y_i] - max_{k != y_i} z_i[k])    logits z at the ends of epochs t = 1 .. T; hard: small

References:
    | Identifying Mislabeled Data using the Area Under the Margin Ranking (Pleiss et al., 2020), section 3,
      https://arxiv.org/abs/2001.10528
"""

from __future__ import annotations

from typing import Literal

from distill_prune.distill import Distilled, Source
from distill_prune.distill.scored import ScoredSettings, scored_set
from distill_prune.progress import Progress
from distill_prune.rng import Streams

NEEDS_EXPERTS = True
REAL_IMAGES = True


class Settings(ScoredSettings):
    name: Literal["margin"] = "margin"


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    return scored_set(settings, source, "margin")
