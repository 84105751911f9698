"""Numbers that must not move while a stage's VERSION does not: one tiny artifact a stage, computed anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import tiny
import torch

from distill_prune.artifacts import Parts
from distill_prune.plan.jobs import VERSIONS
from distill_prune.plan.nodes import Graph
from distill_prune.progress import SILENT
from distill_prune.run.reader import Reader
from distill_prune.run.worker import conditions
from distill_prune.store.store import STAGES, Store

LABELS = {
    "data": "data",
    "experts": "expert 1",
    "distill": "set synthetic",
    "prune": "real seed 0 level 1",
    "retrain": "dense seed 0 copy 1",
    "compare": "curvature of dense seed 0",
}


def total(name: str) -> Callable[[Parts], float]:
    """The norm of a tensor: rounding moves it by less than 1e-6, another algorithm by more."""
    return lambda parts: float(parts.tensors[name].double().norm())


def number(*path: str | int) -> Callable[[Parts], float]:
    def read(parts: Parts) -> float:
        found: Any = parts.numbers
        for part in path:
            found = found[part]
        return float(found)

    return read


NUMBERS: dict[str, dict[str, Callable[[Parts], float]]] = {
    "data": {
        "pixels": total("pixels"),
        "split": total("split"),
        "mean": total("transform.mean"),
        "std": total("transform.std"),
    },
    "experts": {
        "checkpoints": total("checkpoints"),
        "loss": number("record", 2, "train_loss"),
        "flops": number("cost", "flops"),
    },
    "distill": {
        "images": total("images"),
        "lr": number("lr"),
        "loss": number("record", "loss", 0),
        "flops": number("cost", "flops"),
    },
    "prune": {
        "remaining": number("remaining"),
        "loss": number("train_loss"),
        "images": number("cost", "images"),
        "place": lambda parts: float(torch.arange(144.0).dot(parts.tensors["mask/4.weight"].flatten().float())),
    },
    "retrain": {"first layer": total("0.weight"), "last layer": total("9.weight"), "loss": number("train_loss", 0)},
    "compare": {
        "trace": number("trace", "mean"),
        "invariant": number("invariant", "mean"),
        "norm": number("weight_norm", "mean"),
    },
}
PINNED: dict[tuple[str, int], dict[str, float]] = {
    ("data", 1): {
        "pixels": 2628.119479780172,
        "split": 39.7994974842648,
        "mean": 0.30585363507270813,
        "std": 0.37650275230407715,
    },
    ("experts", 1): {"checkpoints": 7.638044009218176, "loss": 2.2356165250142417, "flops": 93096000.0},
    ("distill", 2): {"images": 56.18222945550029, "lr": 0.07582614570856094, "loss": 0.7107215970754623, "flops": 8640000.0},
    ("prune", 1): {"remaining": 238.0, "loss": 2.297773838043213, "images": 256.0, "place": 6518.0},
    ("retrain", 1): {"first layer": 1.230000774064514, "last layer": 1.7792055961880988, "loss": 2.2798194885253906},
    ("compare", 2): {"trace": 10.453041849373903, "invariant": 0.2020939236877411, "norm": 2.5485403095068517},
}

TOLERANCE = {"distill": 5e-5}
"""Adam divides by roots of small second moments, which makes more of the rounding in which families of CPUs differ: 8e-6
was seen between one with AVX2 and one with AVX-512."""


@pytest.mark.parametrize("stage", STAGES)
def test_numbers_have_not_moved(finished: tuple[Store, Graph], stage: str) -> None:
    store, graph = finished
    pinned = PINNED.get((stage, VERSIONS[stage]))
    assert pinned is not None, f"pin the numbers of {stage} version {VERSIONS[stage]} here"
    with conditions(1):
        parts = tiny.computed(tiny.node_of(graph, LABELS[stage]), Reader(store, "cpu"), SILENT)
    found = {name: read(parts) for name, read in NUMBERS[stage].items()}
    moved = {n: (found[n], v) for n, v in pinned.items() if found[n] != pytest.approx(v, rel=TOLERANCE.get(stage, 2e-6))}
    assert found.keys() == pinned.keys()
    assert not moved, f"numbers moved: raise VERSIONS['{stage}'] in plan/jobs.py (found, pinned): {moved}"
