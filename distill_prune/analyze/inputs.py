"""What analyses measure: one frozen record for each kind of `TAKES`, the second argument of `measure`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distill_prune.analyze.records import ArmRecord, Costs, Unit
from distill_prune.analyze.records import Pair as PairRecord
from distill_prune.artifacts import Examples, Mask, SyntheticSet, Transform
from distill_prune.models import Model
from distill_prune.progress import SILENT, Progress
from distill_prune.rng import Streams
from distill_prune.tree import State

Record = Mapping[str, Any]


@dataclass(frozen=True)
class Copies:
    """The retrained copies of one ticket, on the device of the examples.

    Args:
        model: The network as a function of its state.
        states: The tensors of each copy.
        masks: One mask a copy.
        start: The rewinding weights that the copies were trained from.
        parts: The data by part: train, validation (which may have no examples) and test.
        streams: Random streams of the analysis; nothing else draws.
        distilled: The learned images of the study, where it has some.
        progress: Told how far the analysis is.
    """

    model: Model
    states: Sequence[State]
    masks: Sequence[Mask]
    start: State
    parts: Mapping[str, Examples]
    streams: Streams
    distilled: Examples | None = None
    progress: Progress = SILENT

    @property
    def train(self) -> Examples:
        return self.parts["train"]

    @property
    def validation(self) -> Examples:
        return self.parts["validation"]

    @property
    def test(self) -> Examples:
        return self.parts["test"]


@dataclass(frozen=True)
class Pair:
    """Two masks: of an arm, and of the arm that it is compared with."""

    a: Mask
    b: Mask


@dataclass(frozen=True)
class Retrained:
    """The retrained copies of one of two tickets, and its mask."""

    states: Sequence[State]
    mask: Mask


@dataclass(frozen=True)
class Tickets:
    """Two tickets of one network with their retrained copies, on the device of the examples."""

    model: Model
    a: Retrained
    b: Retrained
    train: Examples
    test: Examples
    streams: Streams
    progress: Progress = SILENT


@dataclass(frozen=True)
class SetInput:
    """One synthetic set, and the real data beside it.

    Args:
        model: The network that is trained on the set; `network` is its name.
        parts: The real data by part: train, validation (which may have no examples) and test.
        transform: That of the real data.
        streams: Random streams of the analysis; nothing else draws.
        device: Where networks are trained; `lanes` of them share their steps.
        progress: Told how far the analysis is.
    """

    model: Model
    synthetic: SyntheticSet
    parts: Mapping[str, Examples]
    transform: Transform
    streams: Streams
    device: str = "cpu"
    progress: Progress = SILENT
    network: str = ""
    lanes: int = 1


@dataclass(frozen=True)
class Study:
    """The measurements of a whole study, as plain records.

    Args:
        units: {arm, seed, level, sparsity, and any of the summary's metrics}, one an arm, seed and level.
        arms: {name, images, label} and more, in the order to show, with their `task` where it is not the study's own. In a
            scan of rewinding steps each has its `k`; at every further step it has a name of its own, and as `base` the arm
            that it is at the first step.
        pairs: {arm, versus, seed, level, iou, chance, z}.
        costs: {sets: {name of images: {distill, experts}}, search: [{arm, seed, level}]}, each with {images, steps, flops};
            None where a cost is not known.
    """

    units: Sequence[Unit]
    arms: Sequence[ArmRecord]
    pairs: Sequence[PairRecord]
    costs: Costs


Input = Copies | Pair | Tickets | SetInput | Study

INPUTS: Mapping[str, type[Input]] = {"copies": Copies, "tickets": Tickets, "pair": Pair, "set": SetInput, "study": Study}
"""By the word of `TAKES`: what `measure` is given."""
