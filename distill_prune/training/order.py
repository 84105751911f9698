"""The order in which training and evaluation visit examples."""

from __future__ import annotations

import torch
from torch import Tensor

from distill_prune.artifacts import Examples
from distill_prune.errors import UserError
from distill_prune.recipe import Recipe

TOKENS = 8192
"""The most word pieces, padding included, of one batch in evaluation: this bounds the memory that long sentences take."""

POOL = 50
"""The number of batches whose sentences are sorted by length together."""


def epoch_order(examples: Examples, recipe: Recipe, generator: torch.Generator) -> Tensor:
    """The rows (N,) of one epoch in the order of its batches, on the CPU.

    With `batches: by_length` a random order is cut into pools of POOL batches, and each pool is sorted by length. The full
    batches of all pools are visited in random order; a short batch stays last.

    Raises:
        UserError: `batches: by_length`, and the examples all have one size.
    """
    order = torch.randperm(len(examples), generator=generator)
    if recipe.batches == "shuffled":
        return order
    lengths = examples.lengths
    if lengths is None:
        raise UserError("batches: by_length groups sentences, and these examples are none", fix="leave `batches` out")
    lengths, size = lengths.cpu(), recipe.batch
    pools = [pool[torch.argsort(lengths[pool], stable=True)] for pool in torch.split(order, POOL * size)]
    grouped = torch.split(torch.cat(pools), size)
    full = len(order) // size
    return torch.cat([grouped[i] for i in torch.randperm(full, generator=generator).tolist()] + list(grouped[full:]))


def by_length(lengths: Tensor, batch: int) -> list[Tensor]:
    """The rows of sentences of the given lengths (N,), batch by batch from short to long, so that little is padding.

    A batch holds at most `batch` sentences and TOKENS word pieces, but always one sentence.
    """
    return list(torch.split(torch.argsort(lengths, stable=True), max(1, min(batch, TOKENS // int(lengths.max())))))
