"""SNIP: the first-order change of the loss when a connection is removed, at the rewinding weights; nothing is trained.

    score = |g * w|,   g = d/dw of the mean cross-entropy of the network m * w over `rows` images of the chain

The images are unaugmented and drawn anew at every level; norms are in evaluation mode, so that the mean is a sum over
images. The paper prunes once (an arm with `one_shot`); in a chain of levels the sparser network is scored again each time.

References:
    | SNIP: Single-shot Network Pruning based on Connection Sensitivity (Lee et al., 2019), algorithm 1,
      https://arxiv.org/abs/1810.02340
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from distill_prune import objective
from distill_prune.artifacts import Cost
from distill_prune.prune.inputs import LevelImages
from distill_prune.prune.select import Criterion as Base
from distill_prune.training import flops_of_examples
from distill_prune.tree import State, to

NEEDS_TRAINING = False
NEEDS_MODEL = True
NEEDS_IMAGES = True
WORDS = "SNIP: weights whose removal changes the loss at initialisation most"

CHUNK = 128
"""Images in one pass; fixed, for it decides the order of summation."""


class Settings(Base):
    name: Literal["snip"] = "snip"
    rows: int = Field(128, ge=1, description="images that are looked at; the paper's batch")


def scores(settings: Settings, level: LevelImages) -> State:
    """Scores on the device of `examples`, whose labels are classes (N,), probabilities (N, K) or word pieces (N, M)."""
    mask, examples = level.mask, level.examples
    rows = torch.randperm(len(examples), generator=level.streams("rows"))[: settings.rows]
    device = examples.x.device
    state = to(mask.apply(level.state), device)
    weights = [state[n].detach().requires_grad_() for n in mask.kept]
    state |= dict(zip(mask.kept, weights, strict=True))
    total, terms = [torch.zeros_like(w) for w in weights], objective.count(examples.y[rows.to(device)])
    for chunk in torch.split(rows.to(device), CHUNK):
        loss = objective.loss(level.model(state, examples.inputs(chunk)), examples.y[chunk], reduction="sum") / terms
        for sum_, part in zip(total, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True):
            sum_ += part
    return {n: (g * w.detach()).abs() for n, g, w in zip(mask.kept, total, weights, strict=True)}


def cost(settings: Settings, level: LevelImages) -> Cost:
    """One pass forward and backward over the images; no step is taken."""
    rows = min(settings.rows, len(level.examples))
    return Cost(rows, 0, rows * flops_of_examples(level.model, 2, level.examples) // 2)
