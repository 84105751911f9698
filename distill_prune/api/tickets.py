"""Tickets of a network of one's own: iterative pruning with rewinding, and the training of what is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from distill_prune.analyze.copies import check_architecture
from distill_prune.api.own import Network, RecipeLike, entry_of, ready, recipe_of
from distill_prune.artifacts import Cost, Examples, Ticket
from distill_prune.errors import UserError
from distill_prune.progress import SILENT, Progress, TicksOnly
from distill_prune.prune import CRITERIA
from distill_prune.prune.imp import Step, level_zero, next_level
from distill_prune.prune.select import Criterion
from distill_prune.rng import Streams
from distill_prune.training import Trained, train
from distill_prune.tree import State, clone


def find_tickets(
    network: Network,
    examples: Examples,
    recipe: RecipeLike,
    *,
    levels: int = 1,
    rate: float = 0.2,
    criterion: str | Mapping[str, object] | Criterion = "magnitude",
    start: State | None = None,
    first: int = 0,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> list[Ticket]:
    """Prune a network level by level: train it, remove the lowest-scored share of the surviving weights, rewind the others.

    The examples may be real or distilled: `SyntheticSet.examples`.

    Args:
        network: An `nn.Module`, which is left as it is, or a `Model`.
        examples: x (N, *shape) network input, y (N,) classes.
        recipe: How each level is trained.
        levels: How many times a share goes. After n levels at rate r the sparsity is 1 - (1 - r)^n.
        rate: The share of the remaining prunable weights that goes at each level: round(rate * remaining), over all layers.
        criterion: What decides which weights go: the name of one of CRITERIA, its fields, or its settings.
        start: The weights W_k to train from and to rewind to; None is the network's own.
        first: The step k of the recipe's schedule that `start` stands at.
        seed: Of the order of the examples and of augmentation.

    Returns:
        levels + 1 tickets, level 0 (all weights) first. `mask.kept` are bool tensors by name, `mask.sparsity` the share of
        prunable weights that are zero, and `state` every tensor, pruned weights exactly 0.

    Raises:
        UserError: the network, its examples, the recipe or an option cannot be used.
        NonFiniteError: a training loss or a score is not a number.
        RunError: no weight would be left.

    References:
        | Linear Mode Connectivity and the Lottery Ticket Hypothesis (Frankle et al., 2020), algorithm 2,
          https://arxiv.org/abs/1912.05671
    """
    if levels < 0 or not 0 < rate < 1:
        raise UserError("levels and rate", got=f"{levels} and {rate}", expected="0 or more levels, and a share between 0 and 1")
    model, schedule = ready(network, examples, start), recipe_of(recipe)
    step = Step(rate=rate, criterion=cast(Criterion, entry_of(CRITERIA, criterion)))
    begin = clone(model.fresh(seed, "init") if start is None else start)
    check_architecture(model, {"start": begin})
    dense = level_zero(model, begin, Cost())
    tickets = [dense]
    for level in range(1, levels + 1):
        tickets.append(
            next_level(
                model,
                tickets[-1],
                dense,
                step,
                Streams(seed, ("prune",)).under(level=level),
                examples=examples,
                recipe=schedule,
                first=first,
                device=device,
                progress=TicksOnly(progress),
            )
        )
    return tickets


def retrain(
    network: Network,
    ticket: Ticket,
    examples: Examples,
    recipe: RecipeLike,
    *,
    copy: int = 0,
    first: int = 0,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress = SILENT,
) -> Trained:
    """Train what is left of a network: one copy of a ticket. Copies differ in their SGD noise alone: order and augmentation.

    Args:
        network: The network that the ticket is of.
        ticket: The mask, and the weights to begin at. Pruned weights are exactly 0 after every step.
        examples: x (N, *shape) network input, y (N,) classes.
        recipe: How it is trained.
        copy: Which SGD noise: 0, 1, ... of one seed are independent.
        first: The step of the schedule to begin at, where the ticket was rewound to a later step than 0.

    Returns:
        `state`, every tensor by name, on the CPU; `losses`, the mean training loss (nats) of each epoch; `cost`.

    Raises:
        UserError: the ticket is of another network, or the examples or the recipe cannot be used.
        NonFiniteError: the training loss is not a number.
    """
    model = ready(network, examples, ticket.state)
    check_architecture(model, {"the ticket": ticket.state})
    noise = Streams(seed, ("retrain",)).under(copy=copy)
    schedule = recipe_of(recipe)
    return train(
        model,
        ticket.state,
        examples,
        schedule,
        noise,
        mask=ticket.mask,
        first=first,
        device=device,
        progress=TicksOnly(progress),
    )
