"""A store that holds made-up inputs of the right sizes, so that the work on an artifact can be tried before there are any.

How long a computation takes depends on shapes, not on values: pixels are noise, networks are as drawn, masks keep everything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from distill_prune.artifacts import SPLITS, Cost, Images, Line, Parts, SyntheticSet, Trajectory, Transform
from distill_prune.data import prepare, survey
from distill_prune.data.preparation import Survey
from distill_prune.plan.jobs import DataJob, DenseJob, DistillJob, ExpertsJob, RetrainJob
from distill_prune.plan.nodes import Graph, Node
from distill_prune.prune.imp import level_zero
from distill_prune.run.reader import Reader
from distill_prune.run.trainings import task_of
from distill_prune.run.worker import conditions
from distill_prune.store.store import Store
from distill_prune.training import Trained, train_alone
from distill_prune.training.costs import flops_of_examples
from distill_prune.tree import flatten, select, shapes

SMALL = 10_000_000
"""Pixels of data that are read as they are."""
STEPS, QUICK = 200, 10_000_000_000
"""Steps of training that made-up copies have behind them, and floating-point operations that these may take."""
NUMBERS_BYTES = 4000
"""Of the numbers and the manifest of one artifact."""


class NothingKnown(Exception):
    """The data cannot be looked at before they are prepared, so no inputs can be made up."""


class Imagined(Store):
    """The inputs of a graph's artifacts: those of the `real` store where it has them, else made up. Nothing is written."""

    def __init__(self, graph: Graph, real: Store, device: str) -> None:
        super().__init__(real.root)
        self._graph, self._real = graph, real
        self._parts: dict[str, Parts] = {}
        self.reader = Reader(self, device)

    def exists(self, stage: str, key: str) -> bool:
        node = self._graph.nodes.get(key)
        return self._real.exists(stage, key) if node is None else node.stage == stage

    def manifest(self, stage: str, key: str) -> Any:
        node = self._graph.nodes.get(key)
        return self._real.manifest(stage, key) if node is None else _Imagined(node.inputs)

    def read(self, stage: str, key: str) -> Parts:
        node = self._graph.nodes.get(key)
        if node is None or (stage == "data" and self._real.has(stage, key)):
            return self._real.read(stage, key)
        # One ticket stands for all of a data set: their values do not matter. Copies differ, for lines lie between them.
        name = key if stage in ("data", "distill") else f"{stage} {node.inputs.get('data', '')} {_copy(node)}"
        if name not in self._parts:
            with conditions(node.job.threads):
                self._parts[name] = self._made_up(node)
        return self._parts[name]

    def numbers(self, stage: str, key: str) -> dict[str, Any]:
        return dict(self.read(stage, key).numbers)

    def prepare(self, node: Node) -> None:
        """Make up what the work on an artifact reads, so that this is no part of its time."""
        for key in node.inputs.values():
            used = self._graph.nodes.get(key)
            if used is not None and used.stage not in ("experts", "compare"):
                self.read(used.stage, key)

    def read_bytes(self, node: Node) -> int:
        """Bytes that the work on an artifact reads each time: a ticket's with those of its rewinding weights. Data are read
        once."""
        used = {key: self._graph.nodes[key] for key in node.inputs.values() if key in self._graph.nodes}
        rewinding = (n.inputs["dense"] for n in used.values() if n.stage == "prune" and "dense" in n.inputs)
        used |= {key: self._graph.nodes[key] for key in rewinding if key in self._graph.nodes}
        return sum(self.size(n) for n in used.values() if n.stage in ("prune", "retrain", "distill"))

    def size(self, node: Node) -> int:
        """Bytes of an artifact's tensors; of its numbers a guess."""
        if isinstance(node.job, ExpertsJob):
            model = self.reader.model_for(node.job.model, node.inputs["data"])
            rows = 2 if node.job.convex else int(node.job.recipe.length.count) + 1
            return rows * sum(t.nbytes for t in select(model.module.state_dict(), model.parameters).values())
        if node.stage == "compare":
            return NUMBERS_BYTES
        tensors = self.read(node.stage, node.key).tensors
        chosen = [
            t for n, t in tensors.items() if node.stage != "prune" or isinstance(node.job, DenseJob) or n.startswith("mask/")
        ]
        return NUMBERS_BYTES + sum(t.nbytes for t in chosen)

    def trajectory(self, key: str, *, sizes_only: bool = False) -> Trajectory:
        node = self._graph.nodes.get(key)
        if node is None:
            return self._real.trajectory(key, sizes_only=sizes_only)
        assert isinstance(node.job, ExpertsJob)
        model = self.reader.model_for(node.job.model, node.inputs["data"])
        drawn = select(model.fresh(0), model.parameters)
        layout, epochs = shapes(drawn), int(node.job.recipe.length.count)
        if not node.job.convex:
            return Trajectory(_Rows(flatten(drawn), epochs + 1), layout)
        even = torch.linspace(0, 1, epochs + 1, dtype=torch.float64)[:, None].expand(-1, len(layout))
        return Trajectory(Line(_Rows(flatten(drawn), 2), even, [shape.numel() for shape in layout.values()]), layout)

    def _made_up(self, node: Node) -> Parts:
        match node.job:
            case DataJob() as job:
                return self._data(job)
            case DistillJob() as job:
                return self._set(node, job).parts()
            case RetrainJob() as job:
                return self._weights(node, job)
            case _ if node.stage == "prune":
                return self._ticket(node)
            case _:
                raise NothingKnown

    def _ticket(self, node: Node) -> Parts:
        """Level 0 of a ticket's chain, which stands for all its levels."""
        dense = self._graph.nodes.get(node.inputs.get("dense", node.key), node)
        if not isinstance(dense.job, DenseJob):
            raise NothingKnown
        model = self.reader.model_for(dense.job.model, dense.inputs["data"])
        return level_zero(model, model.fresh(0), Cost()).parts(None)

    def _data(self, job: DataJob) -> Parts:
        """Small images as they are, else noise of their sizes; text as it is, for its lengths decide the time."""
        data = None if job.source.is_text else survey(job.source)
        if job.source.is_text or (data and sum(data.splits) * math.prod(data.shape) <= SMALL):
            return prepare(job.source).parts()
        if data is None:
            raise NothingKnown
        return _noise(data).parts()

    def _weights(self, node: Node, job: RetrainJob) -> Parts:
        """A copy after some steps, as many as are quick: how many probes a trace takes depends on the network."""
        model, task = self.reader.model_for(job.model, node.inputs["data"]), task_of(node, self.reader)
        assert task is not None
        examples = task.training.examples
        quick = QUICK // flops_of_examples(model, job.recipe.batch, examples)
        last = min(job.recipe.steps(len(examples)), STEPS, quick)
        if last == 0:
            return task.parts(Trained(model.fresh(_copy(node)), Cost(), ()))
        return task.parts(train_alone(replace(task.training, last=last), self.reader.device))

    def _set(self, node: Node, job: DistillJob) -> SyntheticSet:
        """Noise of the size of a set."""
        choices, images = dict(job.method), self.reader.images(node.inputs["data"])
        if "ipc" not in choices or not isinstance(images, Images):
            raise NothingKnown
        labels = torch.arange(len(images.classes)).repeat_interleave(choices["ipc"])
        return SyntheticSet(
            torch.randn(len(labels), *images.shape),
            labels,
            images.classes,
            images.transform,
            job.method.name,
            choices.get("inner_lr"),
            choices.get("augment", "none"),
            choices.get("factor", 1),
        )


@dataclass(frozen=True)
class _Imagined:
    """What is read of a manifest."""

    inputs: Mapping[str, str]

    def made_from(self, role: str) -> str:
        return self.inputs[role]


class _Rows:
    """Checkpoints that move a little from epoch to epoch."""

    def __init__(self, start: Tensor, count: int) -> None:
        self._start, self._step, self._count = start, 0.01 * torch.randn_like(start), count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Tensor:
        return self._start + index * self._step


def _copy(node: Node) -> int:
    """Which copy of a ticket it is; 0 of what is none."""
    return node.job.copy_index if isinstance(node.job, RetrainJob) else 0


def _noise(data: Survey) -> Images:
    """A data set of noise."""
    split = torch.arange(len(SPLITS), dtype=torch.uint8).repeat_interleave(torch.tensor(data.splits))
    pixels = torch.randint(0, 256, (len(split), *data.shape), dtype=torch.uint8)
    channels = data.shape[0]
    transform = Transform("normalize", {"mean": torch.full((channels,), 0.5), "std": torch.full((channels,), 0.3)})
    return Images(pixels, torch.arange(len(split)) % len(data.classes), split, data.classes, transform, 255.0)
