"""A pipeline of seconds, and what the tests of the pipeline do with it: run it, break it, compare stores bit by bit."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import yaml

from distill_prune.artifacts import Cost, Examples, Parts, Ticket
from distill_prune.errors import DistillPruneError
from distill_prune.models import Model
from distill_prune.plan.config import Pipeline, parse
from distill_prune.plan.files import override
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph, Node
from distill_prune.progress import Progress
from distill_prune.prune.imp import initial, level_zero, rewinding
from distill_prune.run.reader import Reader
from distill_prune.run.run import Report, run
from distill_prune.run.stages import compute
from distill_prune.run.trainings import task_of
from distill_prune.run.watching import Watcher
from distill_prune.store.manifest import Provenance, sealed
from distill_prune.store.store import Ref, Store, identity
from distill_prune.training import Recipe, train_alone

EXECUTED = Path(tempfile.gettempdir(), "distill-prune-was-executed")
"""What a hostile file would make, were it executed."""

TINY = """
title: tiny
seeds: [0]
data: {name: digits}
model: {name: convnet, depth: 2, width: 4, norm: instance}
experts:
  count: 2
  recipe: {length: 3ep, batch: 256, lr: 0.1, momentum: 0.0}
distill:
  synthetic: {name: trajectory, ipc: 1, iterations: 4, inner_steps: 3, expert_epochs: 1, max_start: 2, inner_lr: 0.1,
              lr_pixels: 1.0, optimizer: adam, augment: color_crop}
  subset: {name: subset, ipc: 1}
prune:
  levels: 2
  rate: 0.3
  recipe: {length: 6it, batch: 10, lr: 0.1}
arms:
  real: {images: real}
  synthetic: {images: synthetic}
  subset: {images: subset}
  random: {criterion: {name: random}}
retrain:
  copies: 2
  recipe: {length: 8it, batch: 32, lr: 0.1, momentum: 0.9}
levels: [0, 2]
compare:
  accuracy: {}
  connectivity: {points: 3, train_rows: 100}
  curvature: {rows: 32, probes_min: 16, probes_max: 16}
  overlap: {}
  evaluation: {nets: 2, length: 6it}
"""

Cli = Callable[..., SimpleNamespace]


def raw() -> dict[str, Any]:
    """The plain values of the tiny pipeline, to be changed by a test."""
    values = yaml.safe_load(TINY)
    assert isinstance(values, dict)
    return values


def pipeline(*assignments: str) -> Pipeline:
    """The tiny pipeline with `a.b=c` laid on top."""
    values = raw()
    override(values, assignments)
    return parse(values, "tiny.yaml")


class Watch(Watcher):
    """Remembers what a run says; `after(n)` is called when the n-th artifact is finished."""

    def __init__(self, after: Callable[[int], None] = lambda n: None) -> None:
        self.warnings: list[str] = []
        self.made: list[Node] = []
        self.failures: list[Node] = []
        self._after = after

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        self.made.append(node)
        self._after(len(self.made))

    def failed(self, node: Node, error: DistillPruneError, given_up: int, *, new: bool) -> None:
        self.failures.append(node)

    def warn(self, message: str) -> None:
        self.warnings.append(message)

    def stages(self) -> list[str]:
        return sorted({n.stage for n in self.made})


def execute(
    store: Store,
    *assignments: str,
    until: str = "compare",
    executor: str = "serial",
    workers: int = 1,
    watch: Watch | None = None,
) -> tuple[Graph, Report]:
    """Run the tiny pipeline on a store, in this process or with workers of it."""
    graph = build(pipeline(*assignments), store)
    return graph, run(graph, store, executor, "cpu", workers, until, watch or Watch(), lambda node: 1.0)


def provenance(
    stage: str, settings: dict[str, object], inputs: Mapping[str, str] | None = None, label: str = "nothing"
) -> Provenance:
    """What stands in the manifest of an artifact that stands for nothing."""
    return Provenance(
        key=identity(stage, 1, settings, inputs or {}),
        stage=stage,
        version=1,
        label=label,
        settings=settings,
        inputs=dict(inputs or {}),
        versions={},
        device="cpu",
        threads=1,
        seconds=0.5,
        peak_mb=1.0,
        created="today",
    )


def contents(store: Store) -> dict[str, Any]:
    """All that must be equal bit for bit: the sha256 of every tensor file, every number; and all but time (and the seal, which
    covers it) of manifests."""
    found: dict[str, Any] = {}
    for ref in store.all():
        folder = store.path(ref.stage, ref.key)
        for path in sorted(folder.iterdir()):
            name = f"{ref.stage}/{ref.key}/{path.name}"
            if path.name == "manifest.json":
                manifest = json.loads(path.read_text())
                found[name] = {k: v for k, v in manifest.items() if k not in ("seconds", "peak_mb", "created", "seal")}
            else:
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def resealed(manifest: Mapping[str, object]) -> bytes:
    """The content of a manifest's file whose seal vouches for it."""
    return sealed({name: value for name, value in manifest.items() if name != "seal"})


def flip(path: Path) -> None:
    """Change the last byte and nothing else."""
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def damaged(store: Store) -> list[Ref]:
    return [ref for ref in store.all() if not store.sound(ref.stage, ref.key)]


def node_of(graph: Graph, label: str) -> Node:
    return next(n for n in graph.nodes.values() if n.label == label)


# -- processes


def start(*arguments: str, pipe: bool = True) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a shell starts it."""
    root = Path(__file__).resolve().parent.parent
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "distill_prune", *arguments],
        env=env,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell ignores it for what runs behind it
        stdout=subprocess.PIPE if pipe else subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


def lines_until(process: subprocess.Popen[str], enough: Callable[[str], bool]) -> Sequence[str]:
    """Read the process's lines up to one that is enough."""
    assert process.stdout is not None
    seen = []
    for line in process.stdout:
        seen.append(line)
        if enough(line):
            break
    return seen


def descendants(pid: int) -> Iterator[int]:
    """Every process below `pid` that is alive."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] != "Z":
            parents.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    below = parents.get(pid, [])
    for child in below:
        yield child
        yield from descendants(child)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def gone(pids: Sequence[int], within: float = 15.0) -> bool:
    """Whether all the processes end by themselves in time."""
    end = time.monotonic() + within
    while any(alive(p) for p in pids) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(alive(p) for p in pids)


def computed(node: Node, reader: Reader, progress: Progress) -> Parts:
    """An artifact's parts, made alone."""
    task = task_of(node, reader)
    return compute(node, reader, progress) if task is None else task.parts(train_alone(task.training, progress=progress))


def dense_ticket(
    model: Model, seed: int, examples: Examples | None, recipe: Recipe | None, steps: int, progress: Progress, draw: int = 0
) -> Ticket:
    """Level 0 of the chains of `seed`, after `steps` steps."""
    if examples is None or recipe is None or not steps:
        return level_zero(model, initial(model, seed, draw), Cost())
    trained = train_alone(rewinding(model, seed, examples, recipe, steps, draw), progress=progress)
    return level_zero(model, trained.state, trained.cost)
