"""What a pipeline asks for and its data cannot give, found before anything is made.

Images are looked at where that takes no download; text is looked at when it is prepared, which comes first in a run.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

import torch

from distill_prune.analyze.line import RowSettings
from distill_prune.artifacts import SyntheticSet
from distill_prune.data import survey
from distill_prune.data.preparation import Survey
from distill_prune.distill.classes import class_rows
from distill_prune.models import Model, build_model
from distill_prune.models.permutations import no_specification, specification
from distill_prune.plan.jobs import CompareJob, ControlJob, DataJob, DistillJob
from distill_prune.plan.nodes import Graph, Node, is_control
from distill_prune.plan.places import Place, written_at
from distill_prune.prune.permuted import PERMUTED
from distill_prune.recipe import Recipe
from distill_prune.settings import Entry, digest
from distill_prune.store.store import Store
from distill_prune.training.batches import check_batches


def foresee(graph: Graph, store: Store, missing: Collection[str]) -> None:
    """Look at the data, networks and batches of the `missing` artifacts.

    Raises:
        DataError: a data set does not hold what is asked of it.
        UserError: a set asks for more images of a class than there are, a network cannot take the images, or a batch has one
            example where batch norm needs two.
    """
    nodes = [node for key, node in graph.nodes.items() if key in missing]
    if all(node.stage == "data" for node in nodes):
        return  # nothing is spent before they are looked at
    foresight = _Foresight(graph, store)
    for node in nodes:
        foresight.check(node)


def _permutes(node: Node) -> str:
    """What of an artifact permutes units of the network, as messages name it; empty where nothing does."""
    if isinstance(node.job, CompareJob) and isinstance(node.job.analysis, RowSettings) and node.job.analysis.permutes:
        return node.job.analysis.name
    return PERMUTED if isinstance(node.job, ControlJob) and node.job.control.kind == "permuted" else ""


@dataclass
class _Foresight:
    graph: Graph
    store: Store
    _surveys: dict[str, Survey | None] = field(default_factory=dict)
    _sizes: dict[str, int | None] = field(default_factory=dict)
    _models: dict[str, Model] = field(default_factory=dict)
    _trained: set[tuple[str, Recipe, int]] = field(default_factory=set)

    def check(self, node: Node) -> None:
        if isinstance(node.job, DataJob):
            self._survey(node.key)
            return
        what = _permutes(node)
        if what and self._is_text(self._data(node)):
            with self._written(["model"], node):
                raise no_specification(what, "a network for text")
        data = self._survey(self._data(node))
        if data is None:
            return
        if isinstance(node.job, DistillJob):
            name = next(name for name, key in self.graph.sets.items() if key == node.key)
            with self._written(["distill", name], node):
                self._check_images(node.job.method, data)
        settings, recipe = (dict(node.job).get(name) for name in ("model", "recipe"))
        if not isinstance(settings, Entry) or (isinstance(node.job, CompareJob) and not what):
            return
        with self._written(["model"] if settings == self.graph.pipeline.model else ["experts", "model"], node):
            model = self._model(settings, data)
            if what:
                specification(model, what)
        if not isinstance(recipe, Recipe):
            return
        examples = self._size(node.inputs.get("images", node.inputs.get("data", self.graph.data)))
        if examples is None or (model.identity, recipe, examples) in self._trained:
            return
        self._trained.add((model.identity, recipe, examples))
        with self._written(self._recipe(node, recipe), node):
            check_batches(model, recipe, examples)

    def _written(self, place: Place, node: Node) -> AbstractContextManager[None]:
        """Says of an error of the block where the settings stand that it is about."""
        return written_at(place, self.graph.locate, node.label)

    def _recipe(self, node: Node, recipe: Recipe) -> Place:
        """The place of the recipe of a node's training."""
        prune = self.graph.pipeline.prune
        if node.stage == "experts":
            return ["experts", "recipe"]
        if node.stage == "prune" and recipe in (prune.recipe, prune.real):
            return ["prune", "recipe" if recipe == prune.recipe else "real"]
        return ["retrain", "recipe"]

    def _data(self, node: Node) -> str:
        """The key of the data set that says which inputs and classes a node's network has: its own, else that of its chain's
        level 0, else the study's."""
        if "data" in node.inputs or "dense" not in node.inputs:
            return node.inputs.get("data", self.graph.data)
        dense = self.graph.nodes.get(node.inputs["dense"])
        return self.graph.data if dense is None else dense.inputs.get("data", self.graph.data)

    def _is_text(self, key: str) -> bool:
        node = self.graph.nodes.get(key)
        return node is not None and isinstance(node.job, DataJob) and node.job.source.is_text

    def _survey(self, key: str) -> Survey | None:
        node = self.graph.nodes.get(key)
        if node is None or not isinstance(node.job, DataJob) or self._is_text(key):
            return None
        source = digest(node.job.source)
        if source not in self._surveys:
            task = next((name for name, data in self.graph.tasks.items() if data == key), None)
            with written_at(["data"] if task is None else ["tasks", task], self.graph.locate):
                self._surveys[source] = survey(node.job.source)
        return self._surveys[source]

    def _size(self, key: str) -> int | None:
        """The number of examples that a chain prunes with or a copy is trained on; None where it is not known before."""
        if key not in self._sizes:
            self._sizes[key] = self._counted(key)
        return self._sizes[key]

    def _counted(self, key: str) -> int | None:
        node = self.graph.nodes.get(key)
        if node is None:
            return self.store.noun("distill", key, SyntheticSet.of).count
        if isinstance(node.job, DataJob):
            data = self._survey(key)
            return None if data is None else sum(data.counts)
        data, method = self._survey(node.inputs.get("data", "")), dict(getattr(node.job, "method", {}))
        if data is None or "ipc" not in method:
            return None
        return int(method["ipc"] * len(data.classes) * method.get("factor", 1) ** 2)

    def _model(self, settings: Entry, data: Survey) -> Model:
        name = digest([settings, list(data.shape), len(data.classes)])
        if name not in self._models:
            self._models[name] = build_model(settings, data.shape, len(data.classes))
        return self._models[name]

    def _check_images(self, method: Entry, data: Survey) -> None:
        """Refuse a set that holds or begins at more real images of a class than there are."""
        choices = dict(method)
        if "ipc" not in choices or not (is_control(method.name) or choices.get("init") == "real"):
            return
        labels = torch.arange(len(data.classes)).repeat_interleave(torch.tensor(data.counts))
        class_rows(labels, data.classes, choices["ipc"] * choices.get("factor", 1) ** 2)
