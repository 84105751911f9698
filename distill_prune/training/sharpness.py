"""Sharpness-aware minimisation (SAM): a step down the gradient that is found uphill.

    e = rho g(w) / |g(w)|,   w <- the step of sgd at w with the gradient g(w + e)

g is the gradient of the batch's mean loss, without weight decay, which sgd adds at w. |g| is over all trained parameters
together, of each lane by itself. Pruned weights are no parameters: they count in no norm and stay zero at w + e, too. Both
passes see one batch, with one augmentation. Losses are those at w, and running statistics of batch norm take up the first pass
alone, whose weights are the network's. A step keeps nothing for the next, so snapshots are those of sgd; it costs two passes.

References:
    | Sharpness-Aware Minimization for Efficiently Improving Generalization (Foret et al., 2021), algorithm 1,
      https://arxiv.org/abs/2010.01412
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from distill_prune.training.optimizer import lane_norms
from distill_prune.training.run import Run


@contextlib.contextmanager
def uphill(run: Run, rho: float) -> Iterator[None]:
    """Inside, the parameters are `rho` further up their gradients, and have none. Afterwards they, and all buffers, are what
    they were, bit by bit."""
    masks = {id(weight): mask for weight, mask in run.pruned}
    slopes = [(p, p.grad * masks.get(id(p), 1)) for p in run.module.parameters() if p.grad is not None]
    changed = [*(p for p, _ in slopes), *run.module.buffers()]
    with torch.no_grad():
        before = [tensor.clone() for tensor in changed]
        factor = rho / (lane_norms([g if run.lanes else g[None] for _, g in slopes]) + 1e-12)  # for a gradient of zero
        for parameter, slope in slopes:
            parameter.add_(slope * (factor.view(-1, *[1] * (slope.dim() - 1)) if run.lanes else factor[0]))
    run.forget_gradients()
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(changed, before, strict=True):
                tensor.copy_(value)
