"""The record that an analysis of copies is given, built of as much as a test looks at."""

from __future__ import annotations

from collections.abc import Sequence

from distill_prune.analyze.inputs import Copies
from distill_prune.artifacts import Examples, Mask
from distill_prune.models import Model
from distill_prune.progress import SILENT, Progress
from distill_prune.rng import Streams
from distill_prune.tree import State

STREAMS = Streams(0, ("compare",))


def copies_of(
    model: Model,
    states: Sequence[State],
    masks: Sequence[Mask] | None = None,
    train: Examples | None = None,
    streams: Streams = STREAMS,
    progress: Progress = SILENT,
    *,
    start: State | None = None,
    distilled: Examples | None = None,
    **parts: Examples,
) -> Copies:
    """Copies whose masks are dense and whose rewinding weights are the first copy's, where none are given."""
    masks = [Mask.dense(state, model.prunable) for state in states] if masks is None else masks
    start = (states[0] if states else {}) if start is None else start
    parts |= {} if train is None else {"train": train}
    return Copies(model, states, masks, start, parts, streams, distilled, progress=progress)
