"""Whether a device computes what the CPU computes, stage by stage: the same inputs, and the distance of what comes out.

    python bench/agree.py STORE --device cuda [--set A.B=C]...

A study of seconds, with every stage, method for images, criterion, control and analysis, is made on the CPU in STORE, unless
it is there. Then each artifact is made once more on the device from the CPU's own inputs, so that no difference is carried from
stage to stage. Distances are

    floats      |a - b| / |b| of every tensor, and of every number or list of numbers (|b| at least FLOOR)
    masks, choices   the share of entries that differ

Prints the largest of every kind of artifact; exits with 1 where one lies beyond its tolerance. Another arithmetic of the same
processor shows what rounding alone does: ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2, --device cpu.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from distill_prune.artifacts import Parts
from distill_prune.plan.config import load
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph, Node
from distill_prune.run.events import Failed
from distill_prune.run.run import run
from distill_prune.run.worker import Worker
from distill_prune.store.store import Store
from distill_prune.terminal.watchers import watcher

FLOOR = 0.01
TOLERANCES = {"floats": 2e-3, "choices": 0.02, "numbers": 0.05}
ADAM = 0.3
"""Of the floats of the set with inner Adam: its first step is g / |g|, and there the rounding of small entries of g is not
small (0.03 from one arithmetic of a processor to another, where other sets differ by 2e-7)."""

STUDY = (
    *("seeds=[0]", "prune.levels=3", "levels=[3]", "arms.continued.begins.level=1", "retrain.copies=2"),
    *("only.layerwise.seeds=[0]", "only.between.seeds=[0]", "only.spectrum.seeds=[0]", "only.diagonal.seeds=[0]"),
    *("retrain.recipe.length=5it", "prune.real.length=5it", "prune.recipe.length=5it"),
    *("experts.count=2", "experts.recipe.length=3ep", "experts.recipe.batch=256"),
    *("distill.synthetic.iterations=3", "distill.synthetic.inner_steps=3", "distill.synthetic.max_start=2"),
    "distill.synthetic.expert_epochs=1",
    "distill.soft={name: trajectory, ipc: 1, iterations: 3, inner_steps: 3, expert_epochs: 1, max_start: 2, labels: soft}",
    "distill.adam={name: trajectory, ipc: 1, iterations: 2, inner_steps: 2, expert_epochs: 1, max_start: 2, inner: adam}",
    "distill.gradient={name: gradient, ipc: 1, iterations: 2, inner_loop: 1, net_steps: 1, batch_real: 16}",
    "distill.distribution={name: distribution, ipc: 1, iterations: 3, batch_real: 16}",
    "distill.kcenter={name: kcenter, ipc: 2}",
    "architectures={residual: {name: cifar_resnet, depth: 8, width: 4}}",
    *(
        "compare.evaluation.nets=1",
        "compare.evaluation.length=5it",
        "compare.curvature.rows=64",
        "compare.curvature.probes_max=48",
    ),
    *(f"compare.{name}.points=3" for name in ("connectivity", "layerwise", "between", "landscape")),
    *("compare.spectrum.rows=64", "compare.spectrum.eigenvalues=2", "compare.spectrum.starts=2", "compare.spectrum.steps=10"),
    *("compare.diagonal.rows=64", "compare.diagonal.exact_below=10", "compare.diagonal.probes=8", "compare.diagonal.sketch=4"),
)

Distance = tuple[str, float, str]
"""Its kind, how large it is, and of what."""


def made(store: Store, sets: Sequence[str]) -> Graph:
    """The study, with all its artifacts in the store."""
    _, pipeline = load("digits-controls.yaml", [*STUDY, *sets])
    graph, watch = build(pipeline, store), watcher()
    try:
        run(graph, store, "serial", "cpu", 1, "compare", watch, lambda _: 1.0)
    finally:
        watch.close()
    return graph


def numbers(value: object, place: str = "") -> Iterator[tuple[str, Tensor]]:
    """Every number of a JSON document, and every list of numbers as one vector, with its place."""
    if isinstance(value, Mapping):
        for name, part in value.items():
            yield from numbers(part, f"{place}.{name}")
    elif isinstance(value, Sequence) and value and all(isinstance(v, int | float) for v in value):
        yield place, torch.tensor(value, dtype=torch.float64)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for index, part in enumerate(value):
            yield from numbers(part, f"{place}[{index}]")
    elif isinstance(value, int | float):
        yield place, torch.tensor([value], dtype=torch.float64)


def away(a: Tensor, b: Tensor) -> float:
    """|a - b| / |b|, with |b| at least FLOOR; infinite where one is longer."""
    return float((a - b).norm() / b.norm().clamp(min=FLOOR)) if a.shape == b.shape else float("inf")


def distances(again: Parts, first: Parts) -> Iterator[Distance]:
    """How far an artifact that was computed again is from the first one."""
    for name in {*again.tensors, *first.tensors}:
        a, b = again.tensors.get(name), first.tensors.get(name)
        if a is None or b is None or a.shape != b.shape:
            yield "choices", 1.0, name
        elif a.is_floating_point():
            yield "floats", away(a.cpu().double(), b.double()), name
        elif a.numel():
            yield "choices", float((a.cpu() != b).double().mean()), name
    a_numbers, b_numbers = dict(numbers(again.numbers)), dict(numbers(first.numbers))
    for place in {*a_numbers, *b_numbers}:
        if place in a_numbers and place in b_numbers:
            yield "numbers", away(a_numbers[place], b_numbers[place]), place
        else:
            yield "numbers", float("inf"), place


def again(worker: Worker, node: Node, first: Store) -> Parts:
    """The artifact as the worker makes it from the first store's inputs. Afterwards the first store's lies in its place."""
    (outcome,) = worker.make([node], lambda _: None)
    if isinstance(outcome, Failed):
        raise outcome.error
    parts, place = worker.store.read(node.stage, node.key), worker.store.path(node.stage, node.key)
    shutil.rmtree(place)
    shutil.copytree(first.path(node.stage, node.key), place)
    return parts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("store", type=Path)
    parser.add_argument("--device", required=True)
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="A.B=C")
    a = parser.parse_args()
    store = Store(a.store, create=True)
    graph = made(store, a.sets)
    largest: dict[str, dict[str, tuple[float, str]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        worker = Worker(Store(Path(folder), create=True), a.device)
        for node in graph.nodes.values():
            kinds = largest.setdefault(node.kind, {})
            for kind, distance, place in distances(again(worker, node, store), store.read(node.stage, node.key)):
                if distance >= kinds.get(kind, (0.0, ""))[0]:
                    kinds[kind] = distance, f"{node.label}: {place}"
    print(f"{len(graph.nodes)} artifacts on {a.device} against the CPU, largest distance of each kind and its tolerance")
    beyond = False
    for what, kinds in largest.items():
        tolerances = {**TOLERANCES, **({"floats": ADAM} if what == "distill adam" else {})}
        bad = [kind for kind, (distance, _) in kinds.items() if not distance <= tolerances[kind]]
        beyond |= bool(bad)
        columns = "  ".join(f"{kind} {distance:.0e}/{tolerances[kind]:.0e}" for kind, (distance, _) in sorted(kinds.items()))
        print(f"{what:24} {columns:60}", "agrees" if not bad else "BEYOND " + "; ".join(kinds[kind][1] for kind in bad))
    sys.exit(beyond)


if __name__ == "__main__":
    main()
