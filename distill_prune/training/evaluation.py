"""Loss, error and outputs of a network in evaluation mode."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_prune import compiled, objective
from distill_prune.artifacts import Examples
from distill_prune.models import Model
from distill_prune.training.order import by_length
from distill_prune.tree import State

COMPILED_BATCH = 128
"""Inputs of a compiled forward pass."""


@dataclass(frozen=True)
class Score:
    """Mean loss (cross-entropy, of numbers the squared error) and error on `count` examples, or word pieces asked of them."""

    loss: float
    error: float
    count: int


@torch.no_grad()
def evaluate(model: Model, state: State, examples: Examples, *, batch: int = 512) -> Score:
    """Mean loss and error of the network in evaluation mode, on the device that `examples` live on."""
    loss, n, lengths = 0.0, objective.count(examples.y), examples.lengths
    if lengths is not None and objective.is_asked(examples.y):
        # A word piece that is asked has a logit for every word piece: the logits of a whole set are never held.
        wrong = 0
        for rows in by_length(lengths, batch):
            logits, y = model(state, examples.inputs(rows)), examples.y[rows]
            loss += float(objective.loss(logits, y, reduction="sum"))
            wrong += int((logits.argmax(1) != objective.truth(y)).sum())
        return Score(loss / n, wrong / n, n)
    whole = outputs(model, state, examples, batch=batch)
    for logits, y in zip(torch.split(whole, batch), torch.split(examples.y, batch), strict=True):
        loss += float(objective.loss(logits, y, reduction="sum"))
    return Score(loss / n, objective.error(whole, examples.y), n)


@torch.no_grad()
def outputs(model: Model, state: State, examples: Examples, *, batch: int = 512, arg_max: bool = False) -> Tensor:
    """Outputs (N, K) of the network in evaluation mode, or their arg max (N,), on the device that `examples` live on.

    Of word pieces that are asked they are (A, V), in the examples' order; with `arg_max` only the logits of one batch are
    held at a time.
    """

    def of_batch(rows: Tensor | slice) -> Tensor:
        x = examples.inputs(rows)
        logits = _compiled(model, state, x) if fast else model(state, x)
        return logits.argmax(1) if arg_max else logits

    lengths = examples.lengths
    fast = compiled.enabled() and lengths is None
    if lengths is None:
        batch = COMPILED_BATCH if fast else batch
        return torch.cat([of_batch(slice(begin, begin + batch)) for begin in range(0, len(examples), batch)])
    batches = by_length(lengths, batch)
    sorted_outputs, order = torch.cat([of_batch(rows) for rows in batches]), torch.cat(batches)
    per_example = objective.counts(examples.y)[order]
    return sorted_outputs[torch.argsort(order.repeat_interleave(per_example), stable=True)]


def _compiled(model: Model, state: State, x: Tensor) -> Tensor:
    """Outputs for at most COMPILED_BATCH inputs. Fewer are filled up with zeros, so that a network has one graph."""
    key = "outputs", model.identity, x.shape[1:], x.dtype, x.device, state[model.parameters[0]].dtype
    filled = F.pad(x, [0, 0] * (x.dim() - 1) + [0, COMPILED_BATCH - len(x)])
    return compiled.call(key, model.__call__, state, filled)[: len(x)]
