"""What the artifacts of a study will take, in seconds of one worker: what equal work took before, else what it takes when it is
tried, else a guess.

Work is equal where settings but for seeds and places in the grid are, and the sizes of data and sets. Artifacts of the study's
own store say what they took; what was tried is remembered for this machine.
"""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Literal

from distill_prune.analyze.evaluation import Protocol
from distill_prune.arithmetic import ceil_div
from distill_prune.errors import DataError
from distill_prune.models import MODELS, Network
from distill_prune.outside import read_json
from distill_prune.plan.alike import company, work_of
from distill_prune.plan.jobs import CompareJob, DenseJob, DistillJob, ExpertsJob, RetrainJob, TrainedLevelJob
from distill_prune.plan.nodes import Graph, Node
from distill_prune.store.disk import replace_json
from distill_prune.store.manifest import Manifest
from distill_prune.store.store import Store

Known = Literal["seen", "tried", "guessed"]
MOST = 8
"""Artifacts of one kind of work that are asked what they took."""
PILOTS = 2
"""Raised by one where work is tried in another way, so that what is remembered is tried again."""
PUBLISHING, READ, WRITTEN = 0.02, 3e-9, 5e-9
"""Seconds to read the inputs of a small artifact and to write it; of a large one, for each byte that is read or written, with
its hash."""


@dataclass(frozen=True)
class Price:
    """Seconds of one worker, its peak memory in MiB and the artifact's bytes (None: not known), and how they are known."""

    seconds: float
    known: Known
    mb: float | None = None
    bytes: int | None = None


def prices(graph: Graph, store: Store, *, try_out: Callable[[Collection[Node]], None] | None = None) -> dict[str, Price]:
    """The price of every artifact. `try_out` hears of the kinds of work that are tried, each of which takes about a second;
    without it none is."""
    seen: dict[str, list[Manifest]] = {}
    works = {key: work_of(node, graph.nodes) for key, node in graph.nodes.items()}
    for key, node in graph.nodes.items():
        if len(seen.get(works[key], ())) < MOST and store.has(node.stage, key):
            seen.setdefault(works[key], []).append(store.manifest(node.stage, key))
    known = {work: _seen(manifests) for work, manifests in seen.items()}
    unseen = {works[key]: node for key, node in graph.nodes.items() if works[key] not in known}
    memory = Memory.of(graph.pipeline.device)
    if try_out is not None and (new := {w: n for w, n in unseen.items() if w not in memory.prices and _can_try(n)}):
        try_out([*new.values()])
        memory.add(tried(graph, store, new))
    for work, node in unseen.items():
        known[work] = memory.prices.get(work) or Price(guess(node), "guessed")
    missing = [key for key, node in graph.nodes.items() if not store.has(node.stage, key)]
    idle = _idle_lanes(graph, missing)
    found = {key: known[work] for key, work in works.items()}
    return {key: _times(price, idle.get(key, 1.0)) if price.known == "tried" else price for key, price in found.items()}


def _times(price: Price, factor: float) -> Price:
    return replace(price, seconds=price.seconds * factor)


def _idle_lanes(graph: Graph, missing: Sequence[str]) -> dict[str, float]:
    """What a training takes, as a multiple of its lane's part: lanes that are left over take as long as those that are used.
    Trainings share steps that are alike and ready at once, as those of one level are."""
    depths: dict[str, int] = {}
    groups: dict[tuple[str, int], list[str]] = {}
    for key in missing:
        node = graph.nodes[key]
        depths[key] = 1 + max((depths.get(used, 0) for used in node.inputs.values()), default=0)
        if (group := company(node, graph.nodes)) is not None:
            groups.setdefault((group, depths[key]), []).append(key)
    factors: dict[str, float] = {}
    for keys in groups.values():
        lanes = graph.nodes[keys[0]].job.lanes
        factors |= dict.fromkeys(keys, lanes * ceil_div(len(keys), lanes) / len(keys))
    return factors


def _seen(manifests: Sequence[Manifest]) -> Price:
    """What equal work took."""
    seconds, mb = median(m.seconds for m in manifests), max(m.peak_mb for m in manifests)
    return Price(seconds + PUBLISHING, "seen", mb, sum(f.size for f in manifests[0].files.values()))


def tried(graph: Graph, store: Store, nodes: Mapping[str, Node]) -> dict[str, Price]:
    """The price of each kind of work that shows how long it takes."""
    from distill_prune.run.imagined import Imagined
    from distill_prune.run.pilot import measured

    imagined, known = Imagined(graph, store, graph.pipeline.device), dict[str, Price]()
    for work, node in nodes.items():
        if (trial := measured(node, imagined)) is not None:
            size, read = imagined.size(node), imagined.read_bytes(node)
            seconds = trial.seconds + PUBLISHING + WRITTEN * size + READ * read
            known[work] = Price(round(seconds, 6), "tried", round(trial.mb), size)
    return known


def _can_try(node: Node) -> bool:
    """Whether the work can be begun on made-up inputs: a study's summary is made of what is measured."""
    return not (isinstance(node.job, CompareJob) and node.job.analysis.name == "summary")


@dataclass
class Memory:
    """What work took when it was tried on this machine, kept in the user's cache."""

    path: Path
    machine: str
    prices: dict[str, Price]

    @classmethod
    def of(cls, device: str) -> Memory:
        from distill_prune.run.devices import processor
        from distill_prune.run.worker import versions

        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        path = cache / "distill-prune" / "prices.json"
        machine = f"{platform.node()} {processor()} {device} torch {versions()['torch']} pilots {PILOTS}"
        return cls(path, machine, _read(path).get(machine, {}))

    def add(self, prices: Mapping[str, Price]) -> None:
        """Remember; where the cache cannot be written, for this command alone."""
        self.prices = {**self.prices, **prices}
        machines = {**_read(self.path), self.machine: self.prices}
        content = {m: {w: [p.seconds, p.mb, p.bytes] for w, p in works.items()} for m, works in machines.items()}
        with contextlib.suppress(OSError):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            replace_json(self.path, content)


def _read(path: Path) -> dict[str, dict[str, Price]]:
    """What is remembered, of every machine; nothing where that cannot be read."""
    with contextlib.suppress(OSError, DataError, ValueError, TypeError, AttributeError):
        content = read_json(path)
        return {
            m: {w: Price(float(s), "tried", float(mb), int(size)) for w, (s, mb, size) in works.items()}
            for m, works in content.items()
        }
    return {}


GUESS = {"data": 2.0, "experts": 10.0, "distill": 60.0, "prune": 2.0, "retrain": 2.0, "compare": 1.0}


def guess(node: Node) -> float:
    """Seconds from the length of training, where it is known, and what the network's entry says of one step on one core."""
    job = node.job
    if isinstance(job, DistillJob):
        method = dict(job.method)
        steps, model = 3 * method.get("iterations", 0) * method.get("inner_steps", 1), job.model
    elif isinstance(job, ExpertsJob | DenseJob | TrainedLevelJob | RetrainJob) and job.recipe is not None:
        steps, model = job.recipe.passes * job.recipe.length.steps(2000, job.recipe.batch), job.model
    elif isinstance(job, CompareJob) and isinstance(job.analysis, Protocol):
        steps, model = job.analysis.nets * job.analysis.length.steps(100, job.analysis.batch), job.model
    elif not _can_try(node):
        return 1e-4 * len(node.inputs)
    else:
        steps, model = 0, None
    each = Network.STEP_SECONDS if model is None else MODELS[model.name].STEP_SECONDS
    return 0.05 + each * steps if steps else GUESS[node.stage] / 20
