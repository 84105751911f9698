"""k-centre: real images of a class that leave no image of the class far from all of them, chosen greedily.

    x_1 = argmin_x || x - mu ||,    x_k = argmax_x min_{j < k} || x - x_j ||

on flat network inputs x, mu being the class's mean: this needs no network, and depends on none. The greatest distance
of an image to the nearest chosen one is at most twice the least that so many images can have. Of equally good images
the first in order is taken.

References:
    | Active Learning for Convolutional Neural Networks: A Core-Set Approach (Sener and Savarese, 2018),
      https://arxiv.org/abs/1708.00489, algorithm 1
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
    name: Literal["kcenter"] = "kcenter"


def spread(features: Tensor, count: int) -> list[int]:
    """The `count` rows of `features` (N, D) that the module's text chooses, in order of choice."""
    # numpy's argmin and argmax name the first of equal values
    chosen = [int((features - features.mean(0)).square().sum(1).cpu().numpy().argmin())]
    nearest = torch.full_like(features[:, 0], float("inf"))
    while len(chosen) < count:
        nearest = nearest.minimum((features - features[chosen[-1]]).square().sum(1))
        nearest[chosen[-1]] = -1.0  # not again, even where all that is left are copies of centres
        chosen.append(int(nearest.cpu().numpy().argmax()))
    return chosen


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    return real_set(settings, source, chosen_rows(source.train, source.classes, settings.ipc, spread))
