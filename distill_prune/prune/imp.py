"""Iterative magnitude pruning with rewinding, one level at a time.

    level 0:  W_k = W_0 trained for k steps on the rewinding data, mask of ones
    level n:  train m_{n-1} * W_k, score the result, remove the lowest share, rewind the survivors to W_k

It receives images and labels and does not ask where they come from: real, distilled or a random subset.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis (Frankle et al., 2020), algorithm 2
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, Literal

from pydantic import Field

from distill_prune.artifacts import Cost, Examples, Mask, Ticket
from distill_prune.duration import NONE, Duration
from distill_prune.errors import RunError, UserError
from distill_prune.models import Model
from distill_prune.progress import Progress
from distill_prune.prune import CRITERIA, needs_images, needs_model
from distill_prune.prune.select import Criterion, Iterative, Share, groups, keep, remaining, schedule, survivors
from distill_prune.rng import Streams
from distill_prune.settings import Later, Settings
from distill_prune.training import Recipe, train
from distill_prune.tree import State, select

Tensors = Literal["all", "prunable", "none"]
Head = Literal["carry", "redraw"]


class Rewind(Settings):
    """Where survivors go back to: W_k, after k steps on real data, or (`on: source`) on what the chain prunes with.
    `tensors: prunable` rewinds convolution and linear weights only and lets biases and norms keep their
    trained values, as the code of *Distilled Pruning* does; `none` rewinds nothing: standard pruning, whose survivors go on
    from where training left them; `schedule: restart` retrains from W_k with the schedule from its start, as there. `head`
    says what becomes of the task's head of a pre-trained network: it goes where the other tensors go, is carried from
    level to level as the code of the BERT tickets does, or is drawn anew at every level."""

    k: Duration = NONE
    on: Literal["real", "source"] = "real"
    tensors: Tensors = "all"
    schedule: Literal["continue", "restart"] = "continue"
    head: Head | None = Later(None)


class Step(Settings):
    """What one level does, beside its images: how much goes, by which criterion, and where the rest returns to.

    With `rounds` the share goes as many times, by the scores of one training: one-shot pruning of level 0 to a further level,
    which has exactly as many weights as that level of a chain."""

    rate: float = Field(0.2, gt=0, lt=1)
    criterion: Criterion
    rewind: Tensors = "all"
    rounds: int = Later(1, ge=1)
    share: Share = Later("remaining")
    head: Head | None = Later(None)


def dense_ticket(
    model: Model,
    seed: int,
    examples: Examples | None,
    recipe: Recipe | None,
    steps: int,
    device: str,
    progress: Progress,
    draw: int = 0,
) -> Ticket:
    """Level 0 of every chain of `seed`: all weights, at W_k after `steps` steps of the retraining schedule.

    Draw 0 is the chains' own. Another draw of the same seed has its own initialisation and SGD noise, for controls; it
    takes no pre-trained weights.
    """
    other = {"draw": draw} if draw else {}
    start, cost = model.drawn(seed, "init", **other) if draw else model.fresh(seed, "init"), Cost()
    if draw and model.frozen:  # what is never trained is no part of what is drawn anew
        start |= select(model.fresh(seed, "init"), model.frozen)
    if steps:
        assert examples is not None and recipe is not None
        noise = Streams(seed, ("rewind",)).under(**other)
        trained = train(model, start, examples, recipe, noise, last=steps, device=device, progress=progress)
        start, cost = trained.state, trained.cost
    return Ticket(Mask.dense(start, model.prunable), start, 0, {"cost": cost.json()})


def score(
    settings: Criterion,
    state: State,
    mask: Mask,
    streams: Streams,
    model: Model | None = None,
    examples: Examples | None = None,
) -> State:
    """The scores of the criterion that `settings` are of, on the CPU. It is given what its `scores` asks for by the names of
    its parameters; `model` and `examples` are there for one that says that it needs them.

    Raises:
        RunError: it asks for what there is not.
    """
    offered = _offered(settings, state, mask, streams, model, examples)
    found: State = _called(CRITERIA[settings.name].scores, settings.name, offered)
    return {n: t.detach().cpu() for n, t in found.items()}


def _offered(
    settings: Criterion, state: State, mask: Mask, streams: Streams, model: Model | None, examples: Examples | None
) -> dict[str, Any]:
    entry, offered = CRITERIA[settings.name], {"settings": settings, "state": state, "mask": mask, "streams": streams}
    if needs_model(entry):
        offered["model"] = model
    if needs_images(entry):
        offered["examples"] = examples
    return offered


def _called(function: Callable[..., Any], name: str, offered: Mapping[str, Any]) -> Any:
    parameters = inspect.signature(function).parameters.values()
    unknown = [p.name for p in parameters if p.name not in offered and p.default is p.empty]
    if unknown:
        declared = {"model": "NEEDS_MODEL", "examples": "NEEDS_IMAGES"}.get(unknown[0])
        raise RunError(
            f"criterion '{name}' asks for '{unknown[0]}'",
            expected=f"of what it can have: {', '.join(offered)}",
            mend=f"{declared} = True in its module" if declared else None,
        )
    return function(**{p.name: offered[p.name] for p in parameters if p.name in offered})


def _pruned(
    step: Step, state: State, mask: Mask, streams: Streams, model: Model | None, examples: Examples | None
) -> tuple[Mask, Cost]:
    """What of `mask` is left after one step, and what taking scores cost beside training."""
    criterion, spent = step.criterion, Cost()
    entry, scope = CRITERIA[criterion.name], criterion.scope
    before = survivors(mask, scope)
    totals = [sum(mask.kept[n].numel() for n in names) for names in groups(mask, scope)]
    after = [
        remaining(n, step.rate, step.rounds, total if step.share == "original" else None)
        for n, total in zip(before, totals, strict=True)
    ]
    for counts in schedule(before, after, criterion.rounds if isinstance(criterion, Iterative) else 1):
        given = (mask.apply(state), mask, streams, model, examples)
        if hasattr(entry, "cost"):
            spent += _called(entry.cost, criterion.name, _offered(criterion, *given))
        mask = keep(score(criterion, *given), mask, counts, scope)
    return mask, spent


def _rewound(step: Step, begin: State, trained: State, mask: Mask, model: Model | None, streams: Streams) -> State:
    """What survivors and the other tensors go on from."""
    back = {"all": set(begin), "prunable": set(mask.kept), "none": set[str]()}[step.rewind]
    source = {n: begin[n] if n in back else t for n, t in trained.items()}
    if step.head is None:
        return source
    assert model is not None
    if not model.head:
        raise UserError(
            f"rewind.head is '{step.head}', and this network names no head", mend="leave prune.rewind.head out of the pipeline"
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

    `model`, `examples` and `recipe` may be None where the criterion needs none of them (see `CRITERIA`).

    Raises:
        RunError: the criterion asks for what there is not, or no weight is left.
        UserError: the step says what becomes of the head of a network without one.
        NonFiniteError: the training loss, or the score of a surviving weight, is not a number.
    """
    entry = CRITERIA[step.criterion.name]
    assert (model is not None or not needs_model(entry)) and (examples is not None or not needs_images(entry))
    state, cost = previous.state, Cost()
    losses: tuple[float, ...] = ()
    if entry.NEEDS_TRAINING:
        assert model is not None and examples is not None and recipe is not None
        trained = train(
            model, previous.state, examples, recipe, streams, mask=previous.mask, first=first, device=device, progress=progress
        )
        state, cost, losses = trained.state, trained.cost, trained.losses
    seen = examples.to(device) if examples is not None and needs_images(entry) else None
    mask, spent = _pruned(step, state, previous.mask, streams, model, seen)
    source = _rewound(step, dense.state, state, mask, model, streams)
    numbers = {"cost": (cost + spent).json(), "train_loss": losses[-1] if losses else None}
    return Ticket(mask, mask.apply(source), previous.level + 1 if level is None else level, numbers)
