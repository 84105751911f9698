"""Forgetting: the real images of a class that experts forget most (or least) often.

    s_i = #{t: x_i right at the end of epoch t - 1, wrong at the end of epoch t},  T where x_i is never right

References:
    | An Empirical Study of Example Forgetting during Deep Neural Network Learning (Toneva et al., 2019), section 3,
      https://arxiv.org/abs/1812.05159: it looks at every minibatch, here epochs' ends are looked at
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
    name: Literal["forgetting"] = "forgetting"


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    return scored_set(settings, source, "forgetting")
