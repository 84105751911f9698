"""Run a graph: what is missing, longest path first, each artifact once, whatever dies on the way."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from distill_prune.compiled import check_compiler
from distill_prune.errors import DistillPruneError, RunError
from distill_prune.plan.foresight import foresee
from distill_prune.plan.nodes import Graph, Node
from distill_prune.run.devices import check_device
from distill_prune.run.events import Busy, Damaged, Died, Event, Executor, Failed, Hit, Line, Made, Tick
from distill_prune.run.executors import make_executor
from distill_prune.run.failures import Failures
from distill_prune.run.firsts import firsts_early
from distill_prune.run.forecast import Forecast
from distill_prune.run.logged import log_of
from distill_prune.run.profile import Profile
from distill_prune.run.schedule import Schedule
from distill_prune.run.status import recorded
from distill_prune.run.watching import Watcher, Watchers
from distill_prune.store.leases import lease
from distill_prune.store.store import Store

TRIES = 3
BUSY_SECONDS = 0.5


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


class _Run:
    """A run on its way: what is open, what was said, and what became of it."""

    def __init__(
        self, graph: Graph, store: Store, watcher: Watcher, schedule: Schedule, forecast: Forecast, profile: Profile
    ) -> None:
        self.graph, self.store, self.watcher, self.schedule, self.profile = graph, store, watcher, schedule, profile
        self.forecast, self.report, self.failures = forecast, Report(), Failures()
        self._ends = False  # nothing more is begun
        self._tries: dict[str, int] = {}
        self._deaths = 0  # artifacts that were given up since the last was made, for their workers died
        self._made: set[str] = set()
        self._doubted: set[str] = set()  # in flight, and perhaps begun from an input that was found damaged

    def over(self) -> bool:
        """Whether nothing is open; where nothing more is begun, whether nothing is in flight."""
        return not (self.schedule.flying if self._ends else self.schedule)

    def submit_to(self, executor: Executor) -> None:
        """Hand out ready artifacts, most urgent first, while there is room."""
        while executor.room() and not self._ends and (keys := self.schedule.take(time.monotonic())):
            nodes = [self.graph.nodes[key] for key in keys]
            self.watcher.started(nodes)
            self.forecast.started(nodes)
            self.profile.submitted(nodes)
            executor.submit(nodes)

    def hear(self, event: Event) -> None:
        node = self.graph.nodes[event.key]
        doubted = event.key in self._doubted and not isinstance(event, Tick | Line)
        if doubted:
            self._doubted.discard(event.key)
            self._drop_snapshots([event.key])
        match event:
            case Tick(_, done, total, note):
                self.forecast.ticked(event.key, done, total)
                self.watcher.ticked(node, done, total, note)
                self.watcher.beat(self.forecast.left())
            case Line(_, text):
                self.watcher.printed(node, text)
            case Made(key, seconds):
                self._end(node, seconds)
                self.report.made += 1
                self.profile.made(node, event)
                self.watcher.finished(node, "made", seconds, self.forecast.left())
                self._made.add(key)
                self._deaths = 0
                if doubted:
                    self._take_back(key)
            case Hit():
                self._end(node)
                self.report.elsewhere += 1
                self.watcher.finished(node, "hit", 0.0, self.forecast.left())
            case Busy():
                self._put_back(node, time.monotonic() + BUSY_SECONDS)
            case Damaged():
                self._damaged(node, event)
            case Died(_, where):
                self._again(node, f"its worker died ({where})")
            case Failed() if doubted:  # for what it was made from, perhaps
                self._put_back(node)
            case Failed(_, error):
                self._fail(node, error)

    def _end(self, node: Node, seconds: float | None = None) -> None:
        self.schedule.end(node.key)
        self.forecast.ended(node, seconds)

    def _put_back(self, node: Node, not_before: float = 0.0) -> None:
        self.schedule.put_back(node.key, not_before)
        self.forecast.ended(node)
        self.watcher.put_back(node)

    def _fail(self, node: Node, error: DistillPruneError) -> None:
        """Give up an artifact and what depends on it. All else goes on, unless nothing else could be written either."""
        before = len(self.schedule.given_up)
        self.schedule.give_up(node.key)
        self.forecast.ended(node)
        self._ends |= error.ends_run
        new = self.failures.add(node, error)
        given_up = len(self.schedule.given_up) - before - 1
        self.watcher.failed(node, error, given_up, new=new and not self.over())

    def stop(self, error: DistillPruneError) -> None:
        """The run ends with an error that is no artifact's."""
        self._ends = True
        self.failures.add(None, error)

    def _again(self, node: Node, why: str) -> None:
        """Put a node back, a bounded number of times."""
        self._put_back(node)
        log = log_of(self.store, node)
        log.end(why, always=True)
        if self._tried(node.key) < TRIES:
            self.watcher.warn(f"{node.label}: {why}; trying again")
            return
        self._deaths += 1
        error = RunError(f"{why}, {TRIES} times", fix="`distill-prune doctor`; more memory, or fewer --workers")
        error.log = str(log.path) if log.path.exists() else ""
        error.ends_run = self._deaths >= TRIES
        self._fail(node, error)

    def _tried(self, key: str) -> int:
        self._tries[key] = self._tries.get(key, 0) + 1
        return self._tries[key]

    def _damaged(self, node: Node, event: Damaged) -> None:
        """Make a damaged input again, and what it needs in turn, and then this node."""
        stage, key, reason = event.stage, event.input, event.reason
        self._put_back(node, time.monotonic() + BUSY_SECONDS)
        if key in self.schedule or self.store.has(stage, key):
            return  # several workers met it: said already, and being made or made again
        tries, known = self._tried(key), key in self.graph.nodes
        self.watcher.warn(f"{stage} {key[:12]} was damaged ({reason}); moved to {self.store.root / '.damaged'} and made again")
        self._take_back_all(key)
        if not known or tries >= TRIES:
            why = f"{TRIES} times" if known else "and is not made by this pipeline"
            self._fail(node, RunError(f"{stage} {key[:12]} was damaged ({reason}) {why}", fix="make or import it again"))
            return
        stack = [key]
        while stack:
            lost = self.graph.nodes[stack.pop()]
            if lost.key not in self.schedule and not self.store.has(lost.stage, lost.key):
                self.schedule.reopen(lost.key, event.key)
                stack += [used for used in lost.inputs.values() if used in self.graph.nodes]

    def _take_back_all(self, damaged: str) -> None:
        """What this run made from an input goes with it, for the damage may be older than that; so do snapshots, which an
        earlier run may have left."""
        after = self.schedule.computed_from(damaged)
        self._doubted |= after & self.schedule.flying
        self._drop_snapshots(after - self.schedule.flying)
        for key in sorted(after & self._made):
            self._take_back(key)

    def _take_back(self, key: str) -> None:
        """Move an artifact that this run made away, and make it again."""
        node = self.graph.nodes[key]
        self._made.discard(key)
        with self.store.lock(key) as mine:
            if mine and self.store.exists(node.stage, key):
                self.store.set_aside(node.stage, key)
        self.watcher.warn(f"{node.stage} {key[:12]} ({node.label}) was made from it; moved there, too")
        self.schedule.reopen(key, key)

    def _drop_snapshots(self, keys: Iterable[str]) -> None:
        """Forget unfinished work, unless another process is at it: it only saves time."""
        for key in keys:
            if self.store.work(key).exists():
                with self.store.lock(key) as mine:
                    if mine:
                        shutil.rmtree(self.store.work(key), ignore_errors=True)


def run(
    graph: Graph,
    store: Store,
    executor_name: str,
    device: str,
    workers: int,
    until: str,
    watcher: Watcher,
    cost: Callable[[Node], float],
    profile: Profile | None = None,
    name: str = "",
) -> Report:
    """Make every artifact that is missing up to stage `until`. A `profile` learns where the time went; `name` is what `status`
    calls the pipeline.

    Raises:
        StoreError: the store's folder is not there.
        UserError: steps are to be compiled, and there is no compiler; or the data cannot give what the pipeline asks of them.
        DistillPruneError: artifacts could not be made; a UserError where all reasons are. All that do not depend on them were
            made first, unless nothing more could be written.
        KeyboardInterrupt: passed on after the workers have been ended.
    """
    began = time.perf_counter()
    store.require()
    if executor_name != "ray":  # whose workers look on their nodes
        check_device(device)
    wanted, missing = needed(graph, store, until)
    compiles = any(graph.nodes[key].job.compile for key in missing)
    if compiles and device == "cpu" and executor_name != "ray":
        check_compiler()
    foresee(graph, store, missing)
    there = [key for key in graph.behind(graph.goals(until)) - missing if store.exists(graph.nodes[key].stage, key)]
    total = len(there) + len(missing)
    if not missing:
        watcher.begin(total, total, 0.0)
        return Report(hits=total, seconds=time.perf_counter() - began)
    workers = min(workers, len(missing))
    ranks = urgency(graph, wanted, cost)
    schedule = Schedule(graph.nodes, missing, firsts_early(graph, missing, ranks), cost)
    forecast = Forecast(schedule, ranks, cost, workers)
    with lease(store, graph.keys()) as lease_id, recorded(store, lease_id, name, until, executor_name, workers) as record:
        state = _Run(graph, store, Watchers([watcher, record]), schedule, forecast, profile or Profile())
        state.report.hits = len(there)
        state.watcher.begin(total, len(there), forecast.left())
        for node in (graph.nodes[key] for key in missing):
            if store.exists(node.stage, node.key):
                what = f"{node.stage} {node.key[:12]} ({node.label})"
                watcher.warn(f"{what} is damaged; it is moved to {store.root / '.damaged'} and made again")
        _make(state, make_executor(executor_name, store, device, workers, graph.pipeline.threads, state.hear, compiles))
        if state.failures.reasons:
            depend = len(schedule.given_up) - state.failures.count
            raise state.failures.error(depend, len(schedule), total, _kept(name))
    state.report.seconds = time.perf_counter() - began
    return state.report


def _kept(name: str) -> str:
    """What is said of the artifacts that were made, in spite of failures."""
    how = f", and `distill-prune report {name}` with the same --set and --store shows them"
    return "the others are kept" + (how if name else "")


def _make(state: _Run, executor: Executor) -> None:
    """Make all that is open; the workers end with this."""
    try:
        while not state.over():
            state.submit_to(executor)
            if not state.schedule.flying:
                time.sleep(0.1)  # all that is left is being made by another run
            else:
                for event in executor.events(BUSY_SECONDS):
                    state.hear(event)
            state.watcher.beat(state.forecast.left())
    except DistillPruneError as problem:  # the executor's own
        state.stop(problem)
    finally:
        executor.close()
