"""Moderate selection: the real images of a class whose distance from the class's centre is nearest to the median.

    d_i = || h(x_i) - mean_{j in class} h(x_j) ||,    s_i = | mean_e d_i / median(d) - 1 |,    the smallest s_i stay

h are the features that enter the last linear layer of an expert e at its last epoch; with one expert this is the order of
|d_i - median(d)|.

References:
    | Moderate Coreset: A Universal Method of Data Selection for Real-world Data-efficient Deep Learning (Xia et al., 2023),
      section 3, https://openreview.net/forum?id=7D5EECbOaf9
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from distill_prune.artifacts import Cost
from distill_prune.distill import Distilled, Source
from distill_prune.distill.classes import class_rows
from distill_prune.distill.distribution import features
from distill_prune.distill.dynamics import logits
from distill_prune.distill.real import RealSettings, real_set
from distill_prune.distill.scored import ranked
from distill_prune.progress import Progress
from distill_prune.rng import Streams
from distill_prune.tree import to

NEEDS_EXPERTS = True
REAL_IMAGES = True
BATCH = 512


class Settings(RealSettings):
    name: Literal["moderate"] = "moderate"

    @property
    def reads_experts(self) -> bool:
        return True


def from_median(by_expert: Tensor) -> Tensor:
    """The score (n,) of features (E, n, D) of one class by the experts."""
    distance: Tensor = (by_expert - by_expert.mean(1, keepdim=True)).norm(dim=2)
    # the lower median, by sorting: `median` is not deterministic on a GPU
    middle = distance.sort(1).values[:, (distance.shape[1] - 1) // 2, None]
    return (distance / middle.clamp_min(1e-30)).mean(0).sub(1).abs()


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    """The set of `source`.

    Raises:
        ConfigError: the network keeps batch statistics, or has no linear layer.
        DataError: a class has fewer than `ipc` images.
    """
    model, by_class = source.network, class_rows(source.train.y, source.classes, settings.ipc)
    parts, cost = list[Tensor](), Cost()
    for rows in by_class:
        x = source.train.inputs(rows)
        by_expert = []
        for expert in source.experts:
            cost += logits(source, expert, None, x[:1])[1].times(len(x))
            state = to(expert.state(len(expert.checkpoints) - 1), x.device)
            with torch.no_grad():
                by_expert.append(torch.cat([features(model, state, part) for part in torch.split(x, BATCH)]).double())
        score = from_median(torch.stack(by_expert))
        parts.append(rows[ranked(score, torch.arange(len(rows), device=rows.device), settings.ipc, "easy")])
    return real_set(settings, source, torch.cat(parts), cost)
