"""Batches that a network cannot be trained on, found before the first step."""

from __future__ import annotations

import torch

from distill_prune.errors import UserError
from distill_prune.models import Model
from distill_prune.recipe import Recipe


def check_batches(model: Model, recipe: Recipe, examples: int) -> None:
    """Refuse a batch of one example where batch norm sees a single value of a channel.

    Raises:
        UserError: an epoch has such a batch.
    """
    if 1 not in (recipe.batch, examples % recipe.batch) or not model.batch_norms:
        return
    module = model.instance(model.module.state_dict()).to("meta").train()
    try:
        module(torch.empty(1, *model.shape, device="meta"))
    except ValueError as problem:
        raise UserError(
            "a batch of one example has no statistics for the network's batch norm",
            got=f"{examples} examples in batches of {recipe.batch}",
            expected="a last batch of 2 or more where maps have one pixel",
            fix="another batch, or other rows of the data",
            setting="batch",
        ) from problem
