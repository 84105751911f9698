"""Herding: real images of a class whose mean stays closest to the mean of the whole class.

    x_k = argmin_x || mu - (x + x_1 + ... + x_{k-1}) / k ||^2,    each x at most once

on flat network inputs x: this needs no network, and depends on none. Of equally good images the first in order is taken.

References:
    | Herding Dynamical Weights to Learn (Welling, 2009)
    | iCaRL: Incremental Classifier and Representation Learning (Rebuffi et al., 2017), https://arxiv.org/abs/1611.07725,
      algorithm 4, for the greedy form
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from distill_prune.distill import Distilled, Source
from distill_prune.distill.classes import chosen_rows
from distill_prune.distill.real import RealSettings, real_set
from distill_prune.progress import Progress
from distill_prune.rng import Streams

NEEDS_EXPERTS = False
REAL_IMAGES = True


class Settings(RealSettings):
    name: Literal["herding"] = "herding"


def herd(features: Tensor, count: int) -> list[int]:
    """The `count` rows of `features` (N, D) that the module's text chooses, in order of choice."""
    mean, total = features.mean(0), torch.zeros_like(features[0])
    squares, free = features.square().sum(1), torch.ones_like(features[:, 0], dtype=torch.bool)
    chosen: list[int] = []
    for k in range(1, count + 1):
        # ||k mu - total - x||^2 but for a constant; numpy's argmin names the first of equal values
        gaps = squares - 2 * (features @ (k * mean - total))
        chosen.append(int(gaps.masked_fill(~free, float("inf")).cpu().numpy().argmin()))
        free[chosen[-1]] = False
        total += features[chosen[-1]]
    return chosen


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    return real_set(settings, source, chosen_rows(source.train, source.classes, settings.ipc, herd))
