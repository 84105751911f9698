"""What some versions of the package have and others do not."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from measure import Scene
from torch import Tensor

from distill_prune.models import Model
from distill_prune.plan.config import Pipeline
from distill_prune.run.worker import conditions

Run = Callable[[], object]


class Ways(NamedTuple):
    """The same work with eager steps and with compiled ones, and why there is none of these where there is none."""

    eager: Run
    compiled: list[Run]
    absent: dict[str, str]


def ways(scene: Scene, threads: int, run: Run) -> Ways:
    """`run` under the conditions that a worker computes artifacts under."""

    def under(*compiles: bool) -> Run:
        def conditioned() -> None:
            with conditions(threads, *compiles):
                run()

        return conditioned

    known = takes(conditions, "compile_steps")
    if known and not scene.quick:
        return Ways(under(), [under(True)], {})
    return Ways(under(), [], {"compiled": "not in a quick run" if known else "this version has no compiled steps"})


def takes(function: Callable[..., object], parameter: str) -> bool:
    """Whether a function of this version has a parameter of this name."""
    return parameter in inspect.signature(function).parameters


def of_inner(model: Model, layout: Mapping[str, torch.Size], forward: Callable[[Tensor, Tensor], Tensor]) -> dict[str, object]:
    """The arguments of `Inner` with which trajectory matching takes derivatives in this version."""
    try:
        from distill_prune.distill.derivatives import derivatives
    except ImportError:
        return {}
    return {"derivatives": derivatives(model, layout, forward)}


def lacking(side: str, key: str) -> dict[str, str]:
    """Why pipelines of this version cannot do a side's work; empty where they have its key."""
    return {} if key in Pipeline.model_fields else {side: f"pipelines of this version have no `{key}:`"}
