"""Iterative magnitude pruning with rewinding, one level at a time.

    level 0:  W_k = W_0 trained for k steps on the rewinding data, mask of ones
    level n:  train m_{n-1} * W_k, score the result, remove the lowest share, rewind the survivors to W_k

It receives images and labels and does not ask where they come from: real, distilled or a random subset.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis (Frankle et al., 2020), algorithm 2,
      https://arxiv.org/abs/1912.05671
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import Field

from distill_prune.artifacts import Cost, Examples, Mask, Ticket
from distill_prune.duration import NONE, Duration
from distill_prune.errors import UserError, needed
from distill_prune.models import Model
from distill_prune.progress import Progress
from distill_prune.prune import CRITERIA, needs_images, needs_model
from distill_prune.prune.inputs import LevelImages, LevelNetwork, LevelWeights
from distill_prune.prune.select import Criterion, Iterative, Share, counts_after, keep, schedule, survivors
from distill_prune.rng import Streams
from distill_prune.settings import Later, Settings
from distill_prune.training import Recipe, Trained, Training, train_alone
from distill_prune.tree import State, select

Tensors = Literal["all", "prunable", "none"]
Head = Literal["carry", "redraw"]


class Rewind(Settings):
    """Where survivors go back to.

    Attributes:
        k: Survivors go back to W_k, the weights after k steps.
        on: These steps are on real data, or (`source`) on what the chain prunes with.
        tensors: What goes back. `all` is every tensor. `prunable` is convolution and linear weights only: biases and norms
            keep their trained values, as in the code of *Distilled Pruning*. `none` is standard pruning: survivors go on
            from where training left them.
        schedule: `continue` retrains from step k of the schedule; `restart` from its start, as the code of *Distilled
            Pruning* does.
        head: What becomes of the task's head of a pre-trained network. By default it goes where the other tensors go.
            `carry` takes it from level to level, as the code of the BERT tickets does. `redraw` draws it anew at every
            level.
    """

    k: Duration = Field(NONE, description="weights return to their values after so many steps; 0it: to the initialisation")
    on: Literal["real", "source"] = Field(
        "real", description="what these steps are trained on: real data, or what the chain prunes with"
    )
    tensors: Tensors = Field("all", description="what returns: every tensor, convolution and linear weights alone, or nothing")
    schedule: Literal["continue", "restart"] = Field(
        "continue", description="retraining goes on with the schedule at step k, or begins it anew"
    )
    head: Head | None = Later(None, description="what becomes of the head of a text network; null: it returns with the rest")


class Step(Settings):
    """What one level does, beside its images: how much goes, by which criterion, and where the rest returns to.

    With `rounds` the share goes that many times, by the scores of one training. This is one-shot pruning of level 0 to a
    further level, which then has exactly as many weights as that level of a chain."""

    rate: float = Field(default=0.2, gt=0, lt=1)
    criterion: Criterion
    rewind: Tensors = "all"
    rounds: int = Later(1, ge=1)
    share: Share = Later("remaining")
    head: Head | None = Later(None)


def initial(model: Model, seed: int, draw: int = 0) -> State:
    """W_0 of every chain of `seed`.

    Draw 0 is that of the chains. Another draw of the same seed has its own initialisation, for controls; it takes no
    pre-trained weights.
    """
    start = model.drawn(seed, "init", draw=draw) if draw else model.fresh(seed, "init")
    if draw and model.frozen:  # what is never trained is no part of what is drawn anew
        start |= select(model.fresh(seed, "init"), model.frozen)
    return start


def rewinding(model: Model, seed: int, examples: Examples, recipe: Recipe, steps: int, draw: int = 0) -> Training:
    """The training from W_0 to W_k, `steps` steps of the schedule; another draw has its own SGD noise."""
    noise = Streams(seed, ("rewind",)).under(**({"draw": draw} if draw else {}))
    return Training(model, initial(model, seed, draw), examples, recipe, noise, last=steps)


def level_zero(model: Model, start: State, cost: Cost) -> Ticket:
    """Level 0 of a chain: all weights, at W_k; `cost` is that of the way there."""
    return Ticket(Mask.dense(start, model.prunable), start, 0, {"cost": cost.json()})


def score(settings: Criterion, level: LevelWeights) -> State:
    """The scores of the criterion that `settings` are of, on the CPU."""
    return {n: t.detach().cpu() for n, t in CRITERIA[settings.name].scores(settings, level).items()}


def recorded(settings: Criterion, weights: LevelWeights, model: Model | None, examples: Examples | None) -> LevelWeights:
    """What the criterion is given: the weights, and beside them what its entry says that it needs.

    Raises:
        RunError: it needs what is None.
    """
    entry, whose, state, mask, streams = CRITERIA[settings.name], settings.name, weights.state, weights.mask, weights.streams
    if not needs_model(entry):
        return weights
    network = needed(model, "a network", whose)
    if not needs_images(entry):
        return LevelNetwork(state, mask, streams, network)
    return LevelImages(state, mask, streams, network, needed(examples, "examples", whose))


def _pruned(step: Step, level: LevelWeights) -> tuple[Mask, Cost]:
    """What of the level's mask is left after one step, and what taking scores cost beside training."""
    criterion, mask, spent = step.criterion, level.mask, Cost()
    scope, cost = criterion.scope, CRITERIA[criterion.name].cost
    after = counts_after(mask, scope, step.rate, step.rounds, step.share)
    for counts in schedule(survivors(mask, scope), after, criterion.rounds if isinstance(criterion, Iterative) else 1):
        part = replace(level, state=mask.apply(level.state), mask=mask)
        if cost is not None:
            spent += cost(criterion, part)
        mask = keep(score(criterion, part), mask, counts, scope)
    return mask, spent


def _rewound(step: Step, begin: State, trained: State, mask: Mask, model: Model | None, streams: Streams) -> State:
    """What survivors and the other tensors go on from."""
    back = {"all": set(begin), "prunable": set(mask.kept), "none": set[str]()}[step.rewind]
    source = {n: begin[n] if n in back else t for n, t in trained.items()}
    if step.head is None:
        return source
    model = needed(model, "a network", "rewind.head")
    if not model.head:
        raise UserError(
            f"rewind.head is '{step.head}', and this network names no head", fix="leave prune.rewind.head out of the pipeline"
        )
    other = trained if step.head == "carry" else model.drawn(streams.seed, *streams.names, "head", **dict(streams.parts))
    return {**source, **select(other, model.head)}


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
    level: int | None = None,
) -> Ticket:
    """The ticket of the level after `previous` (or of another `level`), of the same chain, whose level 0 is `dense`.

    `model`, `examples` and `recipe` may be None where the criterion needs none of them (see `prune.Criterion`).

    Raises:
        RunError: the criterion needs what is not given, or no weight is left.
        UserError: the step says what becomes of the head of a network without one.
        NonFiniteError: the training loss, or the score of a surviving weight, is not a number.
    """
    criterion, trained = step.criterion.name, None
    if CRITERIA[criterion].NEEDS_TRAINING:
        network, images = needed(model, "a network", criterion), needed(examples, "examples", criterion)
        training = Training(
            network, previous.state, images, needed(recipe, "a recipe", criterion), streams, previous.mask, first
        )
        trained = train_alone(training, device, progress)
    return level_after(model, previous, dense, step, streams, trained, examples=examples, device=device, level=level)


def level_after(
    model: Model | None,
    previous: Ticket,
    dense: Ticket,
    step: Step,
    streams: Streams,
    trained: Trained | None,
    *,
    examples: Examples | None,
    device: str,
    level: int | None = None,
) -> Ticket:
    """The ticket that `next_level` makes once the weights of `previous` are `trained`; None where the criterion trains
    nothing.

    Raises:
        RunError: the criterion needs what is not given, or no weight is left.
        UserError: the step says what becomes of the head of a network without one.
        NonFiniteError: the score of a surviving weight is not a number.
    """
    criterion, state, cost, loss = step.criterion, previous.state, Cost(), None
    if trained is not None:
        state, cost, loss = trained.state, trained.cost, trained.losses[-1] if trained.losses else None
    placed = examples.to(device) if examples is not None and needs_images(CRITERIA[criterion.name]) else None
    mask, spent = _pruned(step, recorded(criterion, LevelWeights(state, previous.mask, streams), model, placed))
    source = _rewound(step, dense.state, state, mask, model, streams)
    numbers = {"cost": (cost + spent).json(), "train_loss": loss}
    return Ticket(mask, mask.apply(source), previous.level + 1 if level is None else level, numbers)
