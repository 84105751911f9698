"""Hutchinson: the second-order change of the loss when a weight is removed, at the rewinding weights; nothing is trained.

    score_i = w_i^2 H_ii / 2,   H_ii = E[g_i (H g)_i]   over random signs g of the surviving weights

H is the Hessian of the mean loss of the network m * w over `rows` images of the chain, in evaluation mode, and the mean is over
`probes` sign vectors: each has one product with H, and an entry's error has the variance sum over j != i of H_ij^2 / probes.
This is the saliency of Optimal Brain Damage, whose first-order term (SNIP's) is left out: it is zero at a minimum, and is not
at initialisation. Scores can be negative: removing the weight is then expected to lower the loss, and it goes first.

The images are unaugmented and drawn anew at every level from the stream "rows", as SNIP's; probe i is drawn from the stream
"probe" of index i. Batch norm has the running statistics of the weights that are scored (the paper renews them first).

References:
    | Optimal Brain Damage (LeCun, Denker and Solla, 1989)
    | An estimator for the diagonal of a matrix (Bekas, Kokiopoulou and Saad, 2007)
    | What Scalable Second-Order Information Knows for Pruning at Initialization (Gollini Navarrete et al., 2025),
      https://arxiv.org/abs/2502.11450
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field

from distill_prune.artifacts import Cost
from distill_prune.prune.inputs import LevelImages
from distill_prune.prune.select import Criterion as Base
from distill_prune.training import flops_of_examples
from distill_prune.training.hessian import Products
from distill_prune.tree import State, to

NEEDS_TRAINING = False
NEEDS_MODEL = True
NEEDS_IMAGES = True
WORDS = "Hutchinson: weights whose removal changes the curvature's part of the loss at initialisation most"

BLOCK = 16
"""Probes that are held together; their sums are float64."""


class Settings(Base):
    name: Literal["hutchinson"] = "hutchinson"
    rows: int = Field(128, ge=1, description="images that are looked at")
    probes: int = Field(100, ge=1, description="random sign vectors, each with one product with the Hessian")


def scores(settings: Settings, level: LevelImages) -> State:
    """Scores in float64, zero where pruned already. Labels are classes (N,), probabilities (N, K) or word pieces (N, M).

    Raises:
        NonFiniteError: a product with the Hessian is not finite.
    """
    examples, device = level.examples, level.examples.x.device
    rows = torch.randperm(len(examples), generator=level.streams("rows"))[: settings.rows]
    state, mask = to(level.mask.apply(level.state), device), level.mask.to(device)
    products = Products(level.model, state, mask, examples.take(rows.to(device)).ready())
    diagonal = torch.zeros(products.survivors, dtype=torch.float64)
    for begin in range(0, settings.probes, BLOCK):
        block = range(begin, min(settings.probes, begin + BLOCK))
        signs = products.signs([level.streams("probe", index=i) for i in block])
        diagonal += (signs * products.times(signs)).sum(0)
    saliency = products.weights().square() * diagonal / settings.probes / 2
    entries = {n: torch.zeros(kept.shape, dtype=torch.float64) for n, kept in level.mask.kept.items()}
    for name, where in products.layers.items():
        entries[name][level.mask.kept[name].cpu()] = saliency[where]
    return entries


def cost(settings: Settings, level: LevelImages) -> Cost:
    """One pass forward and backward over the images, and one product a probe, counted as two such passes; no step is taken."""
    rows = min(settings.rows, len(level.examples))
    passes = 1 + 2 * settings.probes
    return Cost(rows * passes, 0, passes * rows * flops_of_examples(level.model, 2, level.examples) // 2)
