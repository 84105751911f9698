"""What the tests of criteria begin with: dense tickets, a mask with holes, and one level of a chain."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from reference import uneven
from torch import Tensor

from distill_prune.artifacts import Mask, Ticket
from distill_prune.models import Model
from distill_prune.progress import SILENT
from distill_prune.prune import CRITERIA
from distill_prune.prune.imp import Step, next_level
from distill_prune.rng import Streams

STREAMS = Streams(0, ("prune",), (("level", 1),))
INITIAL, SNIP, SYNFLOW = (CRITERIA[n].Settings for n in ("initial_magnitude", "snip", "synflow"))


def dense(model: Model, dtype: torch.dtype = torch.float64) -> Ticket:
    state = uneven(model, dtype=dtype)
    return Ticket(Mask.dense(state, model.prunable), state, 0)


def half(model: Model, state: Mapping[str, Tensor]) -> Mask:
    """A mask that keeps two weights of three, here and there."""
    return Mask({n: (torch.arange(state[n].numel()) % 3 > 0).view(state[n].shape) for n in model.prunable})


def level(model, start, examples, criterion, recipe=None, streams=STREAMS, rate=0.3, **more):
    common = {"examples": examples, "recipe": recipe, "first": 0, "device": "cpu", "progress": SILENT}
    at = {"level": more.pop("level")} if "level" in more else {}
    return next_level(model, start, start, Step(rate=rate, criterion=criterion, **more), streams, **common, **at)
