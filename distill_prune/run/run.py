"""Run a graph: what is missing, longest path first, each artifact once, whatever dies on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Protocol

from distill_prune.errors import RunError
from distill_prune.plan.nodes import Graph, Node
from distill_prune.run.devices import check_device
from distill_prune.run.events import Event
from distill_prune.run.executors import make_executor
from distill_prune.store.store import Store

TRIES = 3
BUSY_SECONDS = 0.5


class Watcher(Protocol):
    """Hears of everything: the terminal's progress, or a plain log."""

    def begin(self, total: int, hits: int, cost_s: float) -> None: ...
    def started(self, node: Node) -> None: ...
    def ticked(self, node: Node, done: int, total: int, note: str) -> None: ...
    def printed(self, node: Node, line: str) -> None: ...
    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None: ...
    def warn(self, message: str) -> None: ...


@dataclass
class Report:
    """What a run did: artifacts made, found, made by somebody else meanwhile; seconds."""

    made: int = 0
    hits: int = 0
    elsewhere: int = 0
    seconds: float = 0.0


def needed(graph: Graph, store: Store, until: str) -> tuple[set[str], set[str]]:
    """(all artifacts that `until` is for, those that have to be made): what is missing, back from the goals.

    Goals and synthetic sets are hashed, for nothing in the run may read them, yet the report does; what else lies
    behind them is hashed when it is read.
    """
    missing: set[str] = set()
    hits: set[str] = set()
    goals = graph.goals(until)
    shown = {*goals, *graph.sets.values()}
    stack = [*goals, *(k for k in graph.sets.values() if k in graph.nodes and until == "compare")]
    while stack:
        key = stack.pop()
        if key in missing or key in hits:
            continue
        node = graph.nodes[key]
        if store.sound(node.stage, key) if key in shown else store.has(node.stage, key):
            hits.add(key)
        else:
            missing.add(key)
            stack += [i for i in node.inputs.values() if i in graph.nodes]
    return missing | hits, missing


def urgency(graph: Graph, keys: Iterable[str], cost: Callable[[Node], float]) -> dict[str, float]:
    """For each artifact the seconds of the longest path from it to the end of the run."""
    inside = set(keys)
    longest: dict[str, float] = {}
    for key in reversed([k for k in graph.nodes if k in inside]):
        longest[key] = longest.get(key, 0.0) + cost(graph.nodes[key])
        for used in graph.nodes[key].inputs.values():
            if used in inside:
                longest[used] = max(longest.get(used, 0.0), longest[key])
    return longest


@dataclass
class _Running:
    graph: Graph
    store: Store
    watcher: Watcher
    rank: dict[str, float]
    cost: Callable[[Node], float]
    waiting: set[str]
    flying: set[str] = field(default_factory=set)
    later: dict[str, float] = field(default_factory=dict)
    tries: dict[str, int] = field(default_factory=dict)
    seen: dict[str, tuple[int, float]] = field(default_factory=dict)
    failure: BaseException | None = None
    report: Report = field(default_factory=Report)

    def ready(self) -> list[str]:
        """Nodes whose inputs are there, most urgent first; those that another run is making, only now and then."""
        now, open_ = time.monotonic(), self.waiting | self.flying
        found = [
            k
            for k in self.waiting
            if self.later.get(k, 0.0) <= now and not any(i in open_ for i in self.graph.nodes[k].inputs.values())
        ]
        return sorted(found, key=lambda k: (-self.rank[k], k))

    def left(self) -> float:
        """Seconds of work left: artifacts cost what those of their kind took in this run, else what was guessed."""
        total = 0.0
        for node in (self.graph.nodes[k] for k in self.waiting | self.flying):
            count, seconds = self.seen.get(node.kind, (0, 0.0))
            total += seconds / count if count else self.cost(node)
        return total

    def again(self, key: str, why: str) -> None:
        """Put a node back, a bounded number of times."""
        self.tries[key] = self.tries.get(key, 0) + 1
        self.waiting.add(key)
        if self.tries[key] >= TRIES:
            self.failure = RunError(
                f"{self.graph.nodes[key].label}: {why}, {TRIES} times",
                mend="`distill-prune doctor`; more memory, or fewer --workers",
            )
        else:
            self.watcher.warn(f"{self.graph.nodes[key].label}: {why}; trying again")

    def hear(self, event: Event) -> None:
        node = self.graph.nodes[event.key]
        if event.kind == "tick":
            self.watcher.ticked(node, *event.payload)
            return
        if event.kind == "printed":
            self.watcher.printed(node, event.payload)
            return
        self.flying.discard(event.key)
        if event.kind == "failed":
            self.failure = self.failure or event.payload
        elif event.kind == "died":
            where = f"exit code {event.payload}" if isinstance(event.payload, int) else event.payload
            self.again(event.key, f"its worker died ({where})")
        elif event.kind == "busy":
            self.waiting.add(event.key)
            self.later[event.key] = time.monotonic() + BUSY_SECONDS
        elif event.kind == "damaged":
            self._damaged(event)
        else:
            self.report.made += event.kind == "made"
            self.report.elsewhere += event.kind == "hit"
            if event.kind == "made":
                count, seconds = self.seen.get(node.kind, (0, 0.0))
                self.seen[node.kind] = count + 1, seconds + event.payload.seconds
            self.watcher.finished(node, event.kind, event.payload.seconds, self.left())

    def _damaged(self, event: Event) -> None:
        """Make a damaged input again, and what it needs in turn, and then this node."""
        stage, key, reason = event.payload.damaged
        self.waiting.add(event.key)
        self.later[event.key] = time.monotonic() + BUSY_SECONDS
        if key in self.waiting | self.flying or self.store.has(stage, key):
            return  # several workers met it: said already, and being made or made again
        self.tries[key] = self.tries.get(key, 0) + 1
        self.watcher.warn(f"{stage} {key[:12]} was damaged ({reason}); moved to {self.store.root / '.damaged'} and made again")
        if key not in self.graph.nodes or self.tries[key] >= TRIES:
            why = f"{TRIES} times" if key in self.graph.nodes else "and is not made by this pipeline"
            self.failure = RunError(f"{stage} {key[:12]} was damaged ({reason}) {why}", mend="make or import it again")
            return
        stack = [key]
        while stack:
            lost = stack.pop()
            node = self.graph.nodes[lost]
            if lost not in self.waiting | self.flying and not self.store.has(node.stage, lost):
                self.waiting.add(lost)
                self.rank.setdefault(lost, self.rank[event.key] + 1)
                stack += [i for i in node.inputs.values() if i in self.graph.nodes]


def run(
    graph: Graph,
    store: Store,
    executor_name: str,
    device: str,
    workers: int,
    until: str,
    watcher: Watcher,
    cost: Callable[[Node], float],
) -> Report:
    """Make every artifact that is missing up to stage `until`.

    Raises:
        StoreError: the store's folder is not there.
        DistillPruneError: an artifact could not be made; those in flight are finished first, and all are kept.
        KeyboardInterrupt: passed on after the workers have been ended.
    """
    began = time.perf_counter()
    store.require()
    if executor_name != "ray":  # whose workers look on their nodes
        check_device(device)
    wanted, missing = needed(graph, store, until)
    state = _Running(graph, store, watcher, urgency(graph, wanted, cost), cost, set(missing))
    state.report.hits = len(wanted) - len(missing)
    watcher.begin(len(wanted), state.report.hits, state.left())
    for key in missing:
        node = graph.nodes[key]
        if store.exists(node.stage, key):
            watcher.warn(
                f"{node.stage} {key[:12]} ({node.label}) is damaged; it is moved to {store.root / '.damaged'} and made again"
            )
    if not missing:
        state.report.seconds = time.perf_counter() - began
        return state.report
    workers, threads = min(workers, len(missing)), graph.pipeline.threads
    executor = make_executor(executor_name, store, device, workers, threads, state.hear)
    try:
        while (state.waiting or state.flying) and not (state.failure and not state.flying):
            while executor.room() and not state.failure and (ready := state.ready()):
                key = ready[0]
                state.waiting.discard(key)
                state.flying.add(key)
                watcher.started(graph.nodes[key])
                executor.submit(graph.nodes[key])
            if not state.flying:
                time.sleep(0.1)  # all that is left is being made by another run
                continue
            for event in executor.events(BUSY_SECONDS):
                state.hear(event)
    finally:
        executor.close()
    if state.failure is not None:
        raise state.failure
    state.report.seconds = time.perf_counter() - began
    return state.report
