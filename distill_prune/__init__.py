"""distill-prune: sparse networks found with a handful of distilled images.

The names below are the public surface; they are imported on use, so that `import distill_prune` costs nothing. docs/api.md
shows what they are for.
"""

from __future__ import annotations

import sys

from distill_prune.version import VERSION

__version__ = VERSION

__all__ = [  # noqa: RUF022 - by what they are for
    # whole studies
    "run",
    "study",
    "Results",
    # networks and data of one's own
    "load_data",
    "load_set",
    "find_tickets",
    "retrain",
    "barrier",
    "Barrier",
    "hessian_trace",
    "Trace",
    "match_trajectory",
    "as_model",
    # nouns
    "Images",
    "Examples",
    "Transform",
    "Trajectory",
    "SyntheticSet",
    "Mask",
    "Weights",
    "Ticket",
    "Measurements",
    "Cost",
    "State",
    "Model",
    "Duration",
    "Streams",
    "Estimate",
    # tables: names to modules
    "DATASETS",
    "MODELS",
    "METHODS",
    "CRITERIA",
    "ANALYSES",
    "FORMATS",
    # training
    "Recipe",
    "PRESETS",
    "train",
    "Training",
    "Trained",
    "train_group",
    "evaluate",
    "build_model",
    # the methods themselves
    "matching_gradient",
    "Inner",
    "Batch",
    "Matched",
    "select",
    "next_level",
    "level_zero",
    "Step",
    # pipelines and stores
    "Store",
    "Pipeline",
    "load",
    "build",
    "Graph",
    "Node",
    "papers",
    "make",
    "read",
    "write",
    # what a run or a long computation tells
    "Watcher",
    "Quiet",
    "Profile",
    "Progress",
    "SILENT",
    # errors
    "DistillPruneError",
    "UserError",
    "RunError",
]

TYPE_CHECKING = False  # importing `typing` would take most of the time of this
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any

    from distill_prune.analyze import ANALYSES
    from distill_prune.analyze.estimate import Estimate
    from distill_prune.api.making import make
    from distill_prune.api.matching import match_trajectory
    from distill_prune.api.measures import Barrier, Trace, barrier, hessian_trace
    from distill_prune.api.own import as_model
    from distill_prune.api.results import Results
    from distill_prune.api.sets import load_data, load_set
    from distill_prune.api.studies import run, study
    from distill_prune.api.tickets import find_tickets, retrain
    from distill_prune.artifacts import (
        Cost,
        Examples,
        Images,
        Mask,
        Measurements,
        SyntheticSet,
        Ticket,
        Trajectory,
        Transform,
        Weights,
    )
    from distill_prune.data import DATASETS
    from distill_prune.distill import METHODS
    from distill_prune.distill.unroll import Batch, Inner, Matched, matching_gradient
    from distill_prune.duration import Duration
    from distill_prune.errors import DistillPruneError, RunError, UserError
    from distill_prune.interop import FORMATS
    from distill_prune.models import MODELS, Model, build_model
    from distill_prune.plan.config import Pipeline, load
    from distill_prune.plan.graph import build
    from distill_prune.plan.nodes import Graph, Node
    from distill_prune.plan.papers import papers
    from distill_prune.progress import SILENT, Progress
    from distill_prune.prune import CRITERIA
    from distill_prune.prune.imp import Step, level_zero, next_level
    from distill_prune.prune.select import select
    from distill_prune.recipe import PRESETS, Recipe
    from distill_prune.report import write
    from distill_prune.rng import Streams
    from distill_prune.run.profile import Profile
    from distill_prune.run.watching import Watcher
    from distill_prune.store.store import Store
    from distill_prune.study.study import read
    from distill_prune.terminal.watchers import Quiet
    from distill_prune.training import Trained, Training, evaluate, train, train_group
    from distill_prune.tree import State
else:
    ModuleType = type(sys)

_WHERE = {
    "analyze": "ANALYSES",
    "analyze.estimate": "Estimate",
    "api.making": "make",
    "api.matching": "match_trajectory",
    "api.measures": "Barrier Trace barrier hessian_trace",
    "api.own": "as_model",
    "api.results": "Results",
    "api.sets": "load_data load_set",
    "api.studies": "run study",
    "api.tickets": "find_tickets retrain",
    "artifacts": "Cost Examples Images Mask Measurements SyntheticSet Ticket Trajectory Transform Weights",
    "data": "DATASETS",
    "distill": "METHODS",
    "distill.unroll": "Batch Inner Matched matching_gradient",
    "duration": "Duration",
    "errors": "DistillPruneError RunError UserError",
    "interop": "FORMATS",
    "models": "MODELS Model build_model",
    "plan.config": "Pipeline load",
    "plan.graph": "build",
    "plan.nodes": "Graph Node",
    "plan.papers": "papers",
    "progress": "Progress SILENT",
    "prune": "CRITERIA",
    "prune.imp": "Step level_zero next_level",
    "prune.select": "select",
    "recipe": "PRESETS Recipe",
    "report": "write",
    "rng": "Streams",
    "run.profile": "Profile",
    "run.watching": "Watcher",
    "store.store": "Store",
    "study.study": "read",
    "terminal.watchers": "Quiet",
    "training": "Trained Training evaluate train train_group",
    "tree": "State",
}
_PUBLIC = {name: room for room, names in _WHERE.items() for name in names.split()}


def _public(name: str) -> Any:
    import importlib

    return getattr(importlib.import_module(f"distill_prune.{_PUBLIC[name]}"), name)


class _Room(ModuleType):
    """A room that has the name of a public function, and is called like it: `run` and `study`."""

    def __call__(self, *given: object, **named: object) -> object:
        return _public(self.__name__.rpartition(".")[2])(*given, **named)

    @property
    def __signature__(self) -> object:
        import inspect

        return inspect.signature(_public(self.__name__.rpartition(".")[2]))


class _Package(ModuleType):
    """Lets a room be called that has the name of a public function, from its import on."""

    def __setattr__(self, name: str, value: object) -> None:
        if name in _PUBLIC and isinstance(value, ModuleType):
            value.__class__ = _Room
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

if not TYPE_CHECKING:  # type checkers see the imports above, and say so where a name is none of these

    def __getattr__(name: str) -> Any:
        if name not in _PUBLIC:
            raise AttributeError(f"module 'distill_prune' has no attribute '{name}'")
        return _public(name)


def __dir__() -> list[str]:
    return sorted(__all__)
