"""What some versions of the package have and others do not."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import NamedTuple

from measure import Scene

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

    def under(**options: bool) -> Run:
        def conditioned() -> None:
            with conditions(threads, **options):
                run()

        return conditioned

    known = "compile" in inspect.signature(conditions).parameters
    if known and not scene.quick:
        return Ways(under(), [under(compile=True)], {})
    return Ways(under(), [], {"compiled": "not in a quick run" if known else "this version has no compiled steps"})


def lacking(side: str, key: str) -> dict[str, str]:
    """Why pipelines of this version cannot do a side's work; empty where they have its key."""
    return {} if key in Pipeline.model_fields else {side: f"pipelines of this version have no `{key}:`"}
