"""What some versions of the package have and others do not."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from measure import Scene

from distill_prune.plan.config import Pipeline


def compiling(scene: Scene, run: Callable[[], object]) -> tuple[list[Callable[[], object]], dict[str, str]]:
    """The same run with compiled steps, and why there is none where this version has no such steps."""
    if scene.quick:
        return [], {"compiled": "not in a quick run"}
    try:
        switch = importlib.import_module("distill_prune.compiled").compiling
    except ImportError:
        return [], {"compiled": "this version has no compiled steps"}

    def compiled() -> None:
        with switch(True):
            run()

    return [compiled], {}


def lacking(side: str, key: str) -> dict[str, str]:
    """Why pipelines of this version cannot do a side's work; empty where they have its key."""
    return {} if key in Pipeline.model_fields else {side: f"pipelines of this version have no `{key}:`"}
