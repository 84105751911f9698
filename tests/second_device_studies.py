"""Every entry of every table in a tiny study on the second device: what fails there, and what makes its host wait.

    python tests/second_device_studies.py FILE        writes the `Outcome` of every case, by name, as JSON

A study is made on the CPU, and three times on the device: once; with twice the steps (of training, of matching, probes, points
of a line); and, where it distils, with twice the iterations. What the longer studies wait for more often than the short one is
what a step or an iteration waits for, wherever in the code that is.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from unittest import mock

import numpy as np
import second_device
import tiny
import tiny_masked
import tiny_text
import torch
from second_device_cases import CASES, CASES_OF_TEXT, UNREADY, Case, Places, Scale

from distill_prune.errors import DistillPruneError
from distill_prune.fingerprints import file_hash
from distill_prune.models import minilm
from distill_prune.plan.config import parse
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph, Node
from distill_prune.run import reader
from distill_prune.run import run as running
from distill_prune.store.store import Store

SCALES = (Scale(), Scale(steps=2), Scale(iterations=4))
"""The last is of interest to distillation alone."""


@dataclass
class Outcome:
    """What became of a case.

    `error` is the message of what failed. `waits` has, for each of SCALES, by the kind of artifact and by the line of the
    package, how often the host waited: keys like "reads training/run.py:129" and "copies tree.py:60". `differing` are artifacts
    that have other bits than those made on the CPU.
    """

    error: str = ""
    waits: list[dict[str, dict[str, int]]] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)


class Listener(tiny.Watch):
    """Keeps the traffic of every artifact that is made. Of several that train together, the first has it all."""

    def __init__(self, traffic: dict[str, second_device.Traffic]) -> None:
        super().__init__()
        self._traffic = traffic

    def started(self, node: Node) -> None:
        second_device.TRAFFIC.taken()

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        self._traffic[node.key] = second_device.TRAFFIC.taken()


class Studies:
    """A store for each scale, and one for the CPU, in which all cases are made."""

    def __init__(self, root: Path) -> None:
        self.at = places(root / "at")
        self._stores = [Store(root / str(index), create=True) for index in range(len(SCALES) + 1)]
        self._traffic: list[dict[str, second_device.Traffic]] = [{} for _ in self._stores]

    def outcome(self, case: Case, scales: int) -> Outcome:
        """Make a case's study on the CPU and at the first `scales` scales on the device."""
        second_device.REFUSED.clear()
        try:
            graphs = [self._made(case, index, SCALES[index], second_device.DEVICE) for index in range(scales)]
            on_cpu = self._made(case, len(SCALES), SCALES[0], "cpu")
        except DistillPruneError as problem:
            return Outcome(str(problem))
        differing = [node.label for node in on_cpu.nodes.values() if not self._equal(node)]
        waits = [self._waits(index, graph) for index, graph in enumerate(graphs)]
        return Outcome("; ".join(second_device.REFUSED), waits, differing)

    def _made(self, case: Case, index: int, scale: Scale, device: str) -> Graph:
        store = self._stores[index]
        graph = build(parse(case(self.at, scale), "study.yaml"), store)
        running.run(graph, store, "serial", device, 1, "compare", Listener(self._traffic[index]), lambda node: 1.0)
        return graph

    def _waits(self, index: int, graph: Graph) -> dict[str, dict[str, int]]:
        waits: dict[str, Counter[str]] = {}
        for key, node in graph.nodes.items():
            traffic, of_kind = self._traffic[index][key], waits.setdefault(node.kind, Counter())
            of_kind.update({f"reads {line}": count for line, count in traffic.reads.items()})
            of_kind.update({f"copies {line}": count for line, count in traffic.copies.items()})
        return {kind: dict(counts) for kind, counts in waits.items()}

    def _equal(self, node: Node) -> bool:
        """Whether an artifact made on the device has the bits of that made on the CPU."""
        far, near = (self._stores[index].read(node.stage, node.key) for index in (0, len(SCALES)))
        if far.tensors.keys() != near.tensors.keys() or far.numbers != near.numbers:
            return False
        return all(torch.equal(tensor, near.tensors[name]) for name, tensor in far.tensors.items())


def places(root: Path) -> Places:
    """What the studies read, written below `root`."""
    at: dict[str, Path] = {"images": root / "images"}
    at["images"].mkdir(parents=True)
    draws = np.random.default_rng(0)
    for name, rows in (("train", 60), ("test", 12)):
        labels = np.arange(rows) % 3
        pixels = draws.integers(0, 128, (rows, 16, 16, 3)) + 40 * labels[:, None, None, None]
        np.savez(at["images"] / f"{name}.npz", images=pixels.astype(np.uint8), labels=labels)
    if find_spec("transformers") is not None:
        at |= tiny_text.places(root)
        tiny_masked.write(at["model"])
        at["passages"] = tiny_masked.text(root / "passages")
    return at


def outcomes(root: Path, chosen: str = "") -> dict[str, Outcome]:
    """The outcome of every case whose name holds `chosen`; cases of text where there is what they take."""
    torch.set_num_threads(1)
    with contextlib.ExitStack() as patches:
        patches.enter_context(mock.patch.object(running, "check_device"))
        studies, cases = Studies(root), dict(CASES)
        if "model" in studies.at:  # in place of the package's own network, which is large
            patches.enter_context(mock.patch.object(minilm, "_place", lambda: str(studies.at["model"])))
            patches.enter_context(mock.patch.object(minilm, "WEIGHTS", file_hash(studies.at["model"] / "model.safetensors")))
            cases |= CASES_OF_TEXT
        outcomes = {}
        for name in (name for name in cases if chosen in name):
            ready = 0 if name == UNREADY else reader.READY_BYTES
            with mock.patch.object(reader, "READY_BYTES", ready):
                outcomes[name] = studies.outcome(cases[name], 3 if name.startswith("method") else 2)
        return outcomes


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        document = {name: asdict(outcome) for name, outcome in outcomes(Path(folder), *sys.argv[2:]).items()}
    Path(sys.argv[1]).write_text(json.dumps(document), encoding="utf-8")
