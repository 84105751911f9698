"""Iterative magnitude pruning with rewinding, one level at a time.

    level 0:  W_k = W_0 trained for k steps on the rewinding data, mask of ones
    level n:  train m_{n-1} * W_k, score the result, remove the lowest share, rewind the survivors to W_k

It receives images and labels and does not ask where they come from: real, distilled or a random subset.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis (Frankle et al., 2020), algorithm 2
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distill_prune.artifacts import Cost, Examples, Mask, Ticket
from distill_prune.models import Model
from distill_prune.progress import Progress
from distill_prune.prune import CRITERIA
from distill_prune.prune.select import Criterion, select
from distill_prune.rng import Streams
from distill_prune.settings import Duration, Settings
from distill_prune.training import Recipe, train


class Rewind(Settings):
    """Where survivors go back to: W_k, after k steps on real data, or (`on: source`) on what the chain prunes with.
    `tensors: prunable` rewinds convolution and linear weights only and lets biases and norms keep their
    trained values, as the code of *Distilled Pruning* does; `schedule: restart` retrains from W_k with the schedule from
    its start, as there."""

    k: Duration = "0it"
    on: Literal["real", "source"] = "real"
    tensors: Literal["all", "prunable"] = "all"
    schedule: Literal["continue", "restart"] = "continue"


class Step(Settings):
    """What one level does, beside its images: how much goes, by which criterion, and where the rest returns to."""

    rate: float = Field(0.2, gt=0, lt=1)
    criterion: Criterion
    rewind: Literal["all", "prunable"] = "all"


def dense_ticket(
    model: Model, seed: int, examples: Examples | None, recipe: Recipe | None, steps: int, device: str, progress: Progress
) -> Ticket:
    """Level 0 of every chain of `seed`: all weights, at W_k after `steps` steps of the retraining schedule."""
    start, cost = model.fresh(seed, "init"), Cost()
    if steps:
        assert examples is not None and recipe is not None
        trained = train(
            model, start, examples, recipe, Streams(seed, ("rewind",)), last=steps, device=device, progress=progress
        )
        start, cost = trained.state, trained.cost
    return Ticket(Mask.dense(start, model.prunable), start, 0, {"cost": cost.json()})


def next_level(
    model: Model | None,
    previous: Ticket,
    dense: Ticket,
    step: Step,
    streams: Streams,
    *,
    examples: Examples | None,
    recipe: Recipe | None,
    first: int,
    device: str,
    progress: Progress,
) -> Ticket:
    """The ticket of the level after `previous`, of the same chain, whose level 0 is `dense`.

    `model`, `examples` and `recipe` may be None where the criterion takes its scores without training.
    """
    criterion = CRITERIA[step.criterion.name]
    state, cost = previous.state, Cost()
    losses: tuple[float, ...] = ()
    if criterion.NEEDS_TRAINING:
        assert model is not None and examples is not None and recipe is not None
        trained = train(
            model, previous.state, examples, recipe, streams, mask=previous.mask, first=first, device=device, progress=progress
        )
        state, cost, losses = trained.state, trained.cost, trained.losses
    mask = select(criterion.scores(state, previous.mask, streams), previous.mask, step.rate, step.criterion.scope)
    source = dense.state
    if step.rewind == "prunable":
        source = {n: dense.state[n] if n in mask.kept else t for n, t in state.items()}
    numbers = {"cost": cost.json(), "train_loss": losses[-1] if losses else None}
    return Ticket(mask, mask.apply(source), previous.level + 1, numbers)
