"""The noise, the masks and the batches of the training loop's tests."""

from __future__ import annotations

import math

import torch

from distill_prune.artifacts import Mask
from distill_prune.data.augment import apply, draw
from distill_prune.rng import Streams

NOISE = Streams(0, ("retrain",), (("copy", 1),))
N = 11


def half(model, seed=5) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    return Mask({n: torch.rand(model.module.get_parameter(n).shape, generator=generator) < 0.5 for n in model.prunable})


def batches(examples, recipe, first, last):
    """The batch of every step, one after the other, from the streams that the loop promises."""
    n, out = len(examples), []
    per_epoch = math.ceil(n / recipe.batch)
    for step in range(first, last):
        order = torch.randperm(n, generator=NOISE("order", epoch=step // per_epoch)).tolist()
        rows = order[step % per_epoch * recipe.batch :][: recipe.batch]
        x = torch.stack([examples.x[r] for r in rows])
        if recipe.augment != "none":
            x = apply(x, draw(recipe.augment, x.shape, NOISE("augment", step=step)))
        out.append((x, torch.stack([examples.y[r] for r in rows])))
    return out


def close(state, by_hand) -> None:
    for name, tensor in by_hand.items():
        assert state[name].dtype == torch.float64
        torch.testing.assert_close(state[name], tensor, rtol=1e-10, atol=1e-12)
