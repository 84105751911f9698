"""Every entry of every table in a tiny study on the second device: what fails there, and what makes its host wait.

    python tests/second_device_studies.py FILE        writes the `Outcome` of every case of CASES, by name, as JSON

A study is made four times: on the CPU; on the device; there with twice the steps (of training, of matching, probes, points of a
line); and there with twice the iterations of distillation. What the longer studies wait for more often than the short one is
what a step or an iteration waits for, wherever in the code that is.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args
from unittest import mock

import numpy as np
import second_device
import tiny
import tiny_masked
import tiny_text
import torch

from distill_prune.analyze import ANALYSES
from distill_prune.data.augment import FAMILIES
from distill_prune.distill import METHODS
from distill_prune.errors import DistillPruneError
from distill_prune.fingerprints import file_hash
from distill_prune.models import MODELS, build_model, minilm
from distill_prune.plan.config import parse
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph, Node
from distill_prune.prune import CRITERIA
from distill_prune.prune.controls import Kind
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams
from distill_prune.run import reader
from distill_prune.run import run as running
from distill_prune.store.store import Store

Raw = dict[str, Any]
TEXT = find_spec("transformers") is not None
CLASSES, SIDE, ROWS = 3, 16, 60


@dataclass(frozen=True)
class Scale:
    """How long a study is: all numbers of steps are three times `steps`, those of iterations `iterations`."""

    steps: int = 1
    iterations: int = 2


SCALES = (Scale(), Scale(steps=2), Scale(iterations=4))
"""The last is of interest to distillation alone."""


@dataclass
class Outcome:
    """What became of a case: the message of what failed; and by label, for each of SCALES, how often an artifact's host waited,
    and where it did. `differing` are files of the store that have other bits than those made on the CPU."""

    error: str = ""
    kinds: dict[str, str] = field(default_factory=dict)
    reads: dict[str, list[int]] = field(default_factory=dict)
    copies: dict[str, list[int]] = field(default_factory=dict)
    lines: dict[str, list[dict[str, int]]] = field(default_factory=dict)
    differing: list[str] = field(default_factory=list)


# -- cases

SIZES: Mapping[str, Raw] = {
    "convnet": {"depth": 2, "width": 4, "norm": "instance"},
    "lenet": {"hidden": [5]},
    "cifar_resnet": {"depth": 8, "width": 4},
    "resnet": {"depth": 10, "width": 4},
    "vgg": {"depth": 11, "width": 4},
}
"""Of networks; those that are not named have their own."""

SHORT: Mapping[str, Callable[[Scale], object]] = {
    **dict.fromkeys(("inner_steps", "net_steps", "points", "steps"), lambda scale: 3 * scale.steps),
    **dict.fromkeys(("length", "real_length"), lambda scale: f"{3 * scale.steps}it"),
    **dict.fromkeys(("probes_min", "probes_max"), lambda scale: 16 * scale.steps),
    **dict.fromkeys(("ipc", "inner_loop", "max_start", "starts", "eigenvalues"), lambda scale: 2),
    **dict.fromkeys(("expert_epochs", "batch", "net_batch", "exact_below", "nets", "copies"), lambda scale: 1),
    "probes": lambda scale: 2 * scale.steps,
    **dict.fromkeys(("rows", "train_rows", "test_rows", "batch_real"), lambda scale: 8),
    "iterations": lambda scale: scale.iterations,
    "lr_pixels": lambda scale: 0.1,
    "tokens": lambda scale: 4,
    "rates": lambda scale: [0.01],
    "rounds": lambda scale: 2,
}
"""Values for settings of these names, of whatever entry."""


def entry(table: Any, name: str, scale: Scale, **more: object) -> Raw:
    """Settings of an entry that take a moment."""
    fields = table[name].Settings.model_fields
    return {"name": name} | {n: short(scale) for n, short in SHORT.items() if n in fields} | more


def images(at: Mapping[str, Path], scale: Scale) -> Raw:
    """A study of images, its arms and comparisons left to the case."""
    return {
        "seeds": [0],
        "data": {"name": "npz", "path": str(at["images"])},
        "model": {"name": "convnet", **SIZES["convnet"]},
        "experts": {"count": 1, "recipe": {"length": "3ep", "batch": 18 // scale.steps, "lr": 0.05, "momentum": 0.0}},
        "prune": {"levels": 1, "rate": 0.3, "recipe": {"length": f"{3 * scale.steps}it", "batch": 1, "lr": 0.01}},
        "retrain": {"copies": 1, "recipe": recipe(scale)},
        "arms": {"real": {}},
        "compare": {},
    }


def recipe(scale: Scale, **more: object) -> Raw:
    """Training on real images for less than an epoch."""
    return {"length": f"{3 * scale.steps}it", "batch": 6, "lr": 0.01, **more}


def text(at: Mapping[str, Path], scale: Scale) -> Raw:
    """A study of sentences."""
    trained = recipe(scale, batch=5, optimizer="adamw", lr=3e-3, head_lr=3e-2, schedule="linear", batches="by_length")
    return {
        "seeds": [0],
        "data": {"name": "tsv", "path": str(at["data"]), "tokenizer": str(at["words"]), "validation": 0.0},
        "model": {"name": "bert", "path": str(at["model"]), "pooling": "mean"},
        "prune": {"levels": 1, "rate": 0.3, "real": trained, "recipe": {"length": f"{3 * scale.steps}it", "batch": 1}},
        "retrain": {"copies": 1, "recipe": trained},
        "arms": {"real": {}},
        "compare": {},
    }


Case = Callable[[Mapping[str, Path], Scale], Raw]


def _network(name: str) -> Case:
    def case(at: Mapping[str, Path], scale: Scale) -> Raw:
        fields = MODELS[name].Settings.model_fields
        if "config" in fields:
            return {**text(at, scale), "model": {"name": name, **({"path": str(at["model"])} if "path" in fields else {})}}
        return {**images(at, scale), "model": {"name": name, **SIZES.get(name, {})}}

    return case


def _method(name: str, of_text: bool, **more: object) -> Case:
    def case(at: Mapping[str, Path], scale: Scale) -> Raw:
        return (text if of_text else images)(at, scale) | {"distill": {"set": entry(METHODS, name, scale, **more)}, "levels": [0]}

    return case


def _criterion(name: str) -> Case:
    def case(at: Mapping[str, Path], scale: Scale) -> Raw:
        return {**images(at, scale), "arms": {"real": {}, "other": {"criterion": entry(CRITERIA, name, scale)}}}

    return case


def _control(kind: str) -> Case:
    def case(at: Mapping[str, Path], scale: Scale) -> Raw:
        task = {"task": "other"} if kind == "transferred" else {}
        tasks = {"tasks": {"other": {"name": "npz", "path": str(at["images"]), "split_seed": 1}}} if task else {}
        arms = {"real": {}, "control": {"control": {"of": "real", "kind": kind}, **task}}
        return images(at, scale) | tasks | {"arms": arms}

    return case


def _analysis(name: str, of_text: bool, **more: object) -> Case:
    """An analysis, with the network of the table that has batch norms where it is one of images."""

    def case(at: Mapping[str, Path], scale: Scale) -> Raw:
        study = (text if of_text else images)(at, scale)
        study["retrain"]["copies"] = 3 if name == "landscape" else 2
        compare = {} if ANALYSES[name].TAKES == "study" else {name: entry(ANALYSES, name, scale, **more)}
        only = {name: {"arms": ["real"], "levels": [1]}} if ANALYSES[name].TAKES == "copies" else {}
        sets = {"distill": {"set": entry(METHODS, "subset", scale)}, "arms": {"real": {}, "set": {"images": "set"}}}
        return {**study, **sets, "compare": compare, "only": only}

    return case


def _recipe(**more: object) -> Case:
    def case(at: Mapping[str, Path], scale: Scale) -> Raw:
        study = images(at, scale)
        study["retrain"]["recipe"] |= more
        return {**study, "levels": [0]}

    return case


def _masked(at: Mapping[str, Path], scale: Scale) -> Raw:
    data = {"name": "masked", "path": str(at["passages"]), "tokenizer": str(at["words"]), "validation": 0.0}
    return {**text(at, scale), "data": data, "compare": {"accuracy": {}, "metrics": {}}}


def _union(at: Mapping[str, Path], scale: Scale) -> Raw:
    tasks = {n: {"name": "tsv", "path": str(at[n]), "tokenizer": str(at["words"])} for n in ("data", "other")}
    return {**text(at, scale), "data": {"name": "union", "validation": 0.0, "tasks": tasks}, "compare": {"accuracy": {}}}


DSA = "_".join(FAMILIES)
RECIPES: Mapping[str, Raw] = {
    **{f"optimizer {name}": {"optimizer": name} for name in get_args(Recipe.model_fields["optimizer"].annotation)},
    **{f"precision {name}": {"precision": name} for name in get_args(Recipe.model_fields["precision"].annotation)},
    **{f"augment {family}": {"augment": family} for family in FAMILIES},
    "augment one of all": {"augment": DSA},
    "augment all": {"augment": "+".join(FAMILIES)},
    "nesterov, clipped, smoothed": {"nesterov": True, "clip": 0.1, "label_smoothing": 0.1},
    "cutmix": {"cutmix": 0.7, "augment": "crop+flip"},
}

OF_IMAGES = [name for name in METHODS.own if "images" in METHODS[name].KINDS]
OF_TEXT = [name for name in METHODS.own if "text" in METHODS[name].KINDS]
NETWORKS = [name for name in MODELS.own if "config" not in MODELS[name].Settings.model_fields]
CASES: dict[str, Case] = {
    **{f"network: {name}": _network(name) for name in NETWORKS},
    **{f"method: {name}": _method(name, False) for name in OF_IMAGES},
    "method: trajectory, soft labels": _method("trajectory", False, labels="soft", init="correct", average=0.5),
    "method: trajectory, batches": _method("trajectory", False, batch=2, inner_momentum=0.5, factor=2, augment="crop+color"),
    "method: trajectory, adam": _method("trajectory", False, inner="adam"),
    "method: gradient, real": _method("gradient", False, net_on="real", metric="mse", factor=2, clamp=True),
    **{f"criterion: {name}": _criterion(name) for name in CRITERIA.own},
    **{f"control: {kind}": _control(kind) for kind in get_args(Kind)},
    **{f"analysis: {name}": _analysis(name, False, **({"sketch": 2} if name == "diagonal" else {})) for name in ANALYSES.own},
    "analysis: curvature, hutch++": _analysis("curvature", False, method="hutch++", sketch=2),
    **{f"recipe: {name}": _recipe(**more) for name, more in RECIPES.items()},
}
CASES_OF_TEXT: dict[str, Case] = {
    **{f"network: {name}": _network(name) for name in MODELS.own if name not in NETWORKS},
    **{f"method of text: {name}": _method(name, True) for name in OF_TEXT},
    **{f"analysis of text: {name}": _analysis(name, True) for name in ("accuracy", "metrics", "connectivity", "curvature")},
    "task: masked": _masked,
    "task: union": _union,
}

# -- studies


class Listener(tiny.Watch):
    """Keeps the traffic of every artifact that is made."""

    def __init__(self) -> None:
        super().__init__()
        self.traffic: dict[str, second_device.Traffic] = {}

    def started(self, node: Node) -> None:
        second_device.TRAFFIC.taken()

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        self.traffic[node.key] = second_device.TRAFFIC.taken()


class Bench:
    """A store for each scale, and one for the CPU, in which all cases are made."""

    def __init__(self, root: Path) -> None:
        self.at = places(root / "at")
        self.stores = [Store(root / str(index), create=True) for index in range(len(SCALES) + 1)]
        self.traffic: list[dict[str, second_device.Traffic]] = [{} for _ in SCALES]

    def outcome(self, case: Case, scales: int) -> Outcome:
        outcome = Outcome()
        try:
            graphs = [self._made(case, index, SCALES[index], second_device.DEVICE) for index in range(scales)]
            cpu = self._made(case, len(SCALES), SCALES[0], "cpu")
        except DistillPruneError as problem:
            outcome.error = str(problem)
            return outcome
        for index, graph in enumerate(graphs):
            for key, node in graph.nodes.items():
                traffic = self.traffic[index][key]
                outcome.kinds[node.label] = node.kind
                outcome.reads.setdefault(node.label, []).append(traffic.reads.total())
                outcome.copies.setdefault(node.label, []).append(traffic.copies.total())
                both = Counter({f"reads {line}": n for line, n in traffic.reads.items()})
                both += Counter({f"copies {line}": n for line, n in traffic.copies.items()})
                outcome.lines.setdefault(node.label, []).append(dict(both))
        outcome.differing = [node.label for node in cpu.nodes.values() if not self._equal(node)]
        return outcome

    def _made(self, case: Case, index: int, scale: Scale, device: str) -> Graph:
        graph, listener = build(parse(case(self.at, scale), "study.yaml"), self.stores[index]), Listener()
        try:
            running.run(graph, self.stores[index], "serial", device, 1, "compare", listener, lambda node: 1.0)
        finally:
            if index < len(SCALES):
                self.traffic[index].update(listener.traffic)
        return graph

    def _equal(self, node: Node) -> bool:
        """Whether an artifact made on the device has the bits of that made on the CPU."""
        far, near = (self.stores[index].read(node.stage, node.key) for index in (0, len(SCALES)))
        same = far.tensors.keys() == near.tensors.keys() and all(torch.equal(t, near.tensors[n]) for n, t in far.tensors.items())
        return same and far.numbers == near.numbers


def places(root: Path) -> dict[str, Path]:
    """What the studies read, written below `root`."""
    at = tiny_text.places(root) if TEXT else {}
    if TEXT:
        tiny_masked.write(at["model"])
        at["passages"] = tiny_masked.text(root / "passages")
    at["images"] = root / "images"
    at["images"].mkdir(parents=True)
    draws = np.random.default_rng(0)
    for name, rows in (("train", ROWS), ("test", 12)):
        labels = np.arange(rows) % CLASSES
        pixels = draws.integers(0, 128, (rows, SIDE, SIDE, 3)) + 40 * labels[:, None, None, None]
        np.savez(at["images"] / f"{name}.npz", images=pixels.astype(np.uint8), labels=labels)
    return at


def main(file: Path) -> None:
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(running, "check_device"):
        bench = Bench(Path(folder))
        if TEXT:  # the package's own weights are too many
            minilm._place = lambda: str(bench.at["model"])
            minilm.WEIGHTS = file_hash(bench.at["model"] / "model.safetensors")
        cases = {**CASES, **(CASES_OF_TEXT if TEXT else {})}
        outcomes = {}
        for name, case in cases.items():
            if len(sys.argv) > 2 and sys.argv[2] not in name: continue
            import time
            t = time.process_time()
            outcomes[name] = asdict(bench.outcome(case, 3 if name.startswith("method") else 2))
            print(f"{time.process_time() - t:.2f} {name} {outcomes[name]['error']} {outcomes[name]['differing']}", flush=True)
    file.write_text(json.dumps(outcomes), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
