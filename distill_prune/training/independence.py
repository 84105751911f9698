"""Whether what a lane computes depends on no other lane, measured for one kind of training before it is relied on.

One training stands in two lanes among different neighbours, a few steps each, the last batch of an epoch among them:

    lanes 0 .. R-1:      it, other, other, ...        and        other', ..., other', it

Both must end at equal bits, and where the same steps alone end, to rounding. What rounding can do is measured where it is
asked for: by the same steps alone from starts whose numbers are a millionth larger or smaller. A unit whose input is almost
zero takes the other side of its ReLU there, as it may in lanes.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import torch

from distill_prune import compiled
from distill_prune.arithmetic import ceil_div
from distill_prune.compiled import compiling
from distill_prune.errors import NonFiniteError, UserError
from distill_prune.rng import stream
from distill_prune.training.loop import Trained, Training, train_group
from distill_prune.tree import State

STEPS = 3
TOLERANCE = 1e-2
"""Of the largest number of a tensor: numbers of other lanes and layouts are far above it, and rounding is mostly below."""
ROUNDING, NUDGES = 1e-6, 4
"""The relative size of the changes that stand for rounding, and how many starts are so changed."""

_checked: set[Hashable] = set()
"""Kinds of training whose lanes were measured in this process."""


def check_independence(training: Training, lanes: int, device: str | torch.device = "cpu") -> None:
    """Refuse lanes for a kind of training where they are not independent. A kind is measured once in a process.

    Raises:
        UserError: a lane ends elsewhere among other neighbours, or elsewhere than alone; or the network has no form for
            several lanes.
    """
    kind = training.signature, lanes, str(device), compiled.enabled()
    if kind in _checked:
        return
    short = _short(training)
    first, last = _beside(short, lanes, 0, device), _beside(short, lanes, lanes - 1, device)
    with compiling(False):  # a graph of one network would take longer to compile than these steps
        alone = train_group([short], 1, device)[0]
    results = [outcome for outcome in (first, last, alone) if isinstance(outcome, Trained)]
    if len(results) < 3:
        return  # it diverges at once, which its artifact will say
    one, other, single = (result.state for result in results)
    got = None
    if any(not torch.equal(tensor, other[name]) for name, tensor in one.items()):
        got = "one network ends at different bits beside different neighbours"
    elif not all(_near(tensor, single[name]) for name, tensor in one.items()) and not _rounded(short, one, single, device):
        got = "a network in lanes ends elsewhere than alone"
    if got is not None:
        raise UserError(
            f"{lanes} lanes of this network are not independent of each other",
            got=got,
            expected="layers that act on one channel at a time, or are convolutions, norms or linear layers of torch",
            fix="lanes: 1 (--set lanes=1)",
        )
    _checked.add(kind)


def _short(training: Training) -> Training:
    """The same training for a few steps around the end of an epoch, or what there is of it."""
    size, recipe = len(training.examples), training.recipe
    end = recipe.steps(size) if training.last is None else training.last
    first = min(max(training.first, ceil_div(size, recipe.batch) - STEPS + 1), max(training.first, end - STEPS))
    return replace(training, first=first, last=min(first + STEPS, end), keep_epochs=False)


def _beside(training: Training, lanes: int, place: int, device: str | torch.device) -> Trained | NonFiniteError:
    """The outcome of a training in the lane `place`; the neighbours begin elsewhere and have other noise."""
    group = [
        replace(
            training, start=_moved(training.start, place, lane), noise=training.noise.under("neighbour", place=place, lane=lane)
        )
        for lane in range(lanes)
    ]
    group[place] = training
    return train_group(group, lanes, device)[place]


def _moved(state: State, *place: int) -> State:
    """A state at another point, about as far from zero."""
    draws = stream(0, "independence", place=place[0], lane=place[1])
    moved = {}
    for name, tensor in state.items():
        noise = torch.rand(tensor.shape, generator=draws) if tensor.is_floating_point() else None
        moved[name] = tensor if noise is None else tensor * (0.5 + noise).to(tensor)
    return moved


def _near(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether two tensors are equal to rounding."""
    if not a.is_floating_point() or not a.numel():
        return torch.equal(a, b)
    return bool((a - b).abs().max() <= TOLERANCE * b.abs().max().clamp(min=1e-3))


def _rounded(training: Training, lane: State, single: State, device: str | torch.device) -> bool:
    """Whether a lane ends no further from the training alone than one of the changed starts does."""
    with compiling(False):
        ends = [train_group([replace(training, start=_nudged(training.start, i))], 1, device)[0] for i in range(NUDGES)]
    nudged = [end.state for end in ends if isinstance(end, Trained)]

    def near(name: str, tensor: torch.Tensor) -> bool:
        moved = max((float((end[name] - single[name]).abs().max()) for end in nudged), default=0.0)
        return _near(tensor, single[name]) or float((tensor - single[name]).abs().max()) <= moved

    return all(near(name, tensor) for name, tensor in lane.items() if tensor.numel())


def _nudged(state: State, number: int) -> State:
    """A state whose floating-point numbers are by `ROUNDING` larger or smaller, each by a coin."""
    draws = stream(0, "rounding", place=number)
    nudged = {}
    for name, tensor in state.items():
        signs = 2 * torch.randint(2, tensor.shape, generator=draws) - 1
        nudged[name] = (tensor * (1 + ROUNDING * signs.to(tensor))) if tensor.is_floating_point() else tensor
    return nudged
