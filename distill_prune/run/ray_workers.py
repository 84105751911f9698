"""Artifacts made by actors of a Ray cluster.

A worker is an actor with `threads` CPUs and, on `cuda`, a GPU or a share of one. It keeps prepared data between artifacts,
as a worker process does. Nothing passes through Ray but nodes, ticks and outcomes; all else lies in the store, which every
node must see at the same path: before its first artifact a worker looks there for a lock that the driver holds. Ray ends
the actors of a driver that is dead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import queue
import secrets
import socket
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_prune.errors import DistillPruneError, RunError, StoreError, UserError
from distill_prune.plan.nodes import Node
from distill_prune.plugins import Registered
from distill_prune.run.events import Died, Event, Failed, Line, Outcome, Parcel, make
from distill_prune.run.printed import quiet_libraries
from distill_prune.run.ray_cluster import address, connection, resources, share
from distill_prune.store.store import Store

if TYPE_CHECKING:
    from distill_prune.run.worker import Worker

STARTS = 3
"""Times that a worker may die as it starts, one after the other."""

PATIENCE_SECONDS, OWN_PATIENCE_SECONDS = 600.0, 60.0
"""How long a run goes on without a single worker: a cluster may be bringing nodes, but to one of our own none will come."""

KEPT_LINES = 1000
"""Printed lines of an artifact that an actor keeps until it answers."""

BEHIND_SECONDS = 10.0
"""How far a network file system may be behind on another node."""


# -- on a node


@dataclass(frozen=True)
class _Setup:
    """What a worker has to know; `beacon` is the lock that the driver holds in the store."""

    store: str
    beacon: str
    device: str
    compiles: bool
    folder: str
    registered: Registered
    versions: Mapping[str, str]


@dataclass
class Lines:
    """The last lines that were printed, and how many there were in all."""

    last: deque[str] = field(default_factory=lambda: deque(maxlen=KEPT_LINES))
    count: int = 0

    def add(self, line: str) -> None:
        self.last.append(line)
        self.count += 1

    def since(self, count: int) -> list[str]:
        """Those after the first `count`, as far as they are kept."""
        return list(self.last)[max(len(self.last) - max(self.count - count, 0), 0) :]


@dataclass(frozen=True)
class Answer:
    """What an actor answers: the outcomes, and what was printed, by node. The mailbox brings lines at once, but nobody waits
    for it: those that the driver has not had from it by now, it takes from here."""

    outcomes: list[Outcome]
    printed: Mapping[str, Lines]


class Maker:
    """An actor that makes artifacts. Answers with errors of the family, never raises them: Ray would add its traceback."""

    def __init__(self, setup: _Setup, mailbox: Any) -> None:
        self._setup, self._mailbox = setup, mailbox
        self._worker: Worker  # set by `begin`

    def begin(self) -> str | DistillPruneError:
        """The node's name once everything is found to be right on it."""
        from distill_prune.compiled import check_compiler
        from distill_prune.run.devices import check_device
        from distill_prune.run.worker import Worker, versions

        setup, node = self._setup, socket.gethostname()
        try:
            check_versions(node, versions(), setup.versions)
            check_store(node, Path(setup.store), setup.beacon)
            with contextlib.suppress(OSError):
                os.chdir(setup.folder)  # paths of a pipeline may be relative to where its driver was started
            quiet_libraries()
            setup.registered.restore()
            check_device(setup.device)
            if setup.compiles and setup.device == "cpu":
                check_compiler()
            self._worker = Worker(Store(setup.store), setup.device)
        except DistillPruneError as error:
            return error
        return node

    def make(self, attempt: int, parcels: Sequence[Parcel]) -> Answer:
        """Make the artifacts of a group. `attempt` numbers what the driver submits: events of one that died are nobody's."""
        printed = {parcel.key: Lines() for parcel in parcels}

        def hear(event: Event) -> None:
            if isinstance(event, Line):
                printed[event.key].add(event.text)
            self._mailbox.put.remote(pickle.dumps((attempt, event)))

        return Answer(make(self._worker, parcels, hear), printed)


def check_versions(node: str, here: Mapping[str, str], there: Mapping[str, str]) -> None:
    """Refuse a node with other versions of what decides bits than the driver has.

    Raises:
        UserError: which differ.
    """
    if names := [n for n in sorted({*here, *there}) if here.get(n) != there.get(n)]:
        raise UserError(
            f"the Ray node {node} has other versions than the driver, and would make other bits",
            got=", ".join(f"{n} {here.get(n, 'missing')}" for n in names),
            expected=", ".join(f"{n} {there.get(n, 'missing')}" for n in names),
            fix="the same environment on every node",
        )


def check_store(node: str, root: Path, beacon: str) -> None:
    """Refuse a node that does not see the driver's store, or does not see its locks.

    Raises:
        StoreError: so.
    """
    end = time.monotonic() + BEHIND_SECONDS
    while not (root / ".locks" / beacon).exists():
        if time.monotonic() > end:
            raise StoreError(
                f"the store '{root}' is not there on the Ray node {node}, or is another one",
                expected="a folder of a shared file system, at the same path on every node",
                fix="--store, or $DISTILL_PRUNE_STORE",
            )
        time.sleep(0.1)
    try:
        with Store(root).lock(beacon) as mine:
            got = "a lock that the driver holds could be taken there" if mine else None
    except (OSError, NotImplementedError) as problem:
        got = str(problem)
    if got is not None:
        raise StoreError(
            f"locks in the store '{root}' do not hold on the Ray node {node}",
            got=got,
            expected="a file system whose locks (flock) hold across nodes",
            fix="other mount options (docs/scaling.md), or another --store",
        )


def _mailbox() -> type:
    """The class of the actor that brings pickled ticks and printed lines to the driver.

    It is local, so that Ray sends its code, and it opens no event: a process that had to import either would import torch.
    """

    class Mailbox:
        def __init__(self) -> None:
            self._events: asyncio.Queue[bytes] = asyncio.Queue()

        async def put(self, event: bytes) -> None:
            self._events.put_nowait(event)

        async def take(self) -> list[bytes]:
            events = [await self._events.get()]
            while not self._events.empty():
                events.append(self._events.get_nowait())
            return events

    return Mailbox


# -- the driver


@dataclass
class _Worker:
    """An actor; `where` is empty until it has begun, `heard` counts the printed lines that have arrived, by node."""

    actor: Any
    starts: int
    where: str = ""
    nodes: Sequence[Node] = field(default_factory=list)
    attempt: int = 0
    heard: Counter[str] = field(default_factory=Counter)


class RayWorkers:
    """Ready artifacts in parallel, an actor each group. A dead actor is replaced; each of its nodes gets a `Died` event.

    Replies come by callbacks into a queue, on which alone the driver waits: Ray's own waiting answers no interrupt but
    Python's.

    Raises:
        UserError: no cluster, no such device in it, or a node that cannot be used: this from `room` and `events` too.
    """

    def __init__(self, store: Path, device: str, workers: int, threads: int, *, compiles: bool) -> None:
        from distill_prune.run.worker import versions

        self._arrived: queue.SimpleQueue[tuple[Callable[[Future[Any]], None], Future[Any]]] = queue.SimpleQueue()
        self._events: list[Event] = []
        self._pool: list[_Worker] = []
        self._alive = time.monotonic()
        self._patience = PATIENCE_SECONDS if address() else OWN_PATIENCE_SECONDS
        self._attempts = 0
        self._open = contextlib.ExitStack()
        try:
            gpus = None if device == "cuda" else 0
            ray = self._ray = self._open.enter_context(connection(workers * threads, gpus))
            nodes = resources(ray)
            part = share(nodes, device, threads, workers)
            if not part.places(nodes):
                got = "; ".join(f"{n.get('CPU', 0):.0f} CPUs, {n.get('GPU', 0):.0f} GPUs" for n in nodes)
                raise UserError("no node of the Ray cluster has room for a worker", got=got, expected=f"{threads} CPUs")
            beacon = f"ray-{secrets.token_hex(8)}"
            self._open.enter_context(Store(store).lock(beacon))
            self._open.callback((store / ".locks" / beacon).unlink, missing_ok=True)
            here = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(
                ray.get_runtime_context().get_node_id(), soft=True
            )
            self._mailbox = ray.remote(_mailbox()).options(num_cpus=0, scheduling_strategy=here).remote()
            self._maker = ray.remote(Maker).options(num_cpus=part.cpus, num_gpus=part.gpus, scheduling_strategy="SPREAD")
            root = str(store.resolve())
            self._setup = _Setup(root, beacon, device, compiles, str(Path.cwd()), Registered.here(), versions())
            self._expect(self._mailbox.take.remote(), self._ticked)
            self._pool = [self._start() for _ in range(workers)]
        except BaseException:
            self.close()
            raise

    def _expect(self, reply: Any, then: Callable[[Future[Any]], None]) -> None:
        reply.future().add_done_callback(lambda future: self._arrived.put((then, future)))

    def _start(self, starts: int = 1) -> _Worker:
        worker = _Worker(self._maker.remote(self._setup, self._mailbox), starts)
        self._expect(worker.actor.begin.remote(), partial(self._began, worker))
        return worker

    def _replace(self, worker: _Worker, starts: int) -> None:
        with contextlib.suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.actor)  # Ray may have lost it while it lives
        self._pool[self._pool.index(worker)] = self._start(starts)

    def _began(self, worker: _Worker, reply: Future[Any]) -> None:
        try:
            answer = reply.result()
        except self._ray.exceptions.RayTaskError as problem:
            got = str(problem).strip().splitlines()[-1]
            raise UserError("a Ray worker cannot start", got=got, fix="the same environment on every node") from None
        except self._ray.exceptions.RayError as problem:
            if worker.starts == STARTS:
                raise RunError(f"a Ray worker died as it started, {STARTS} times", got=problem) from None
            self._replace(worker, worker.starts + 1)
            return
        if isinstance(answer, DistillPruneError):
            raise answer
        worker.where = answer

    def _made(self, worker: _Worker, nodes: Sequence[Node], reply: Future[Any]) -> None:
        try:
            answer: Answer = reply.result()
            for key, lines in answer.printed.items():
                self._events += [Line(key, text) for text in lines.since(worker.heard[key])]
            self._events += answer.outcomes
        except self._ray.exceptions.RayTaskError as problem:
            last = str(problem).strip().splitlines()[-1]
            self._events += [Failed(node.key, RunError(last)) for node in nodes]
        except self._ray.exceptions.RayError:
            self._events += [Died(node.key, f"on the Ray node {worker.where}") for node in nodes]
            self._replace(worker, 1)
        worker.nodes = []

    def _ticked(self, reply: Future[Any]) -> None:
        try:
            events: list[tuple[int, Event]] = [pickle.loads(event) for event in reply.result()]
        except self._ray.exceptions.RayError:
            return  # progress is late, and nothing else
        flying = {worker.attempt: worker for worker in self._pool if worker.nodes}
        for attempt, event in events:
            if attempt in flying:
                flying[attempt].heard[event.key] += isinstance(event, Line)
                self._events.append(event)
        self._expect(self._mailbox.take.remote(), self._ticked)

    def _hear(self, timeout: float) -> None:
        """Deal with all replies that are there, or with the first that comes in time."""
        with contextlib.suppress(queue.Empty):
            then, reply = self._arrived.get(timeout=timeout) if timeout else self._arrived.get_nowait()
            then(reply)
            while True:
                then, reply = self._arrived.get_nowait()
                then(reply)

    def room(self) -> int:
        self._hear(0)
        if any(worker.where for worker in self._pool):
            self._alive = time.monotonic()
        elif time.monotonic() - self._alive > self._patience:
            fix = "`ray status` on a node of it" if address() else "run again: what is finished is kept"
            raise RunError(f"no worker of the Ray cluster for {self._patience:.0f} s", fix=fix)
        return sum(bool(worker.where) and not worker.nodes for worker in self._pool)

    def submit(self, nodes: Sequence[Node]) -> None:
        idle = next(worker for worker in self._pool if worker.where and not worker.nodes)
        self._attempts += 1
        idle.nodes, idle.attempt, idle.heard = nodes, self._attempts, Counter()
        reply = idle.actor.make.remote(idle.attempt, [Parcel.of(node) for node in nodes])
        self._expect(reply, partial(self._made, idle, nodes))

    def events(self, timeout: float) -> list[Event]:
        if not self._events:
            self._hear(timeout)
        events, self._events = self._events, []
        return events

    def close(self) -> None:
        """End all workers at once: what they were making is kept as far as its last snapshot."""
        for worker in self._pool:
            with contextlib.suppress(self._ray.exceptions.RayError):
                self._ray.kill(worker.actor)
        self._pool = []
        self._open.close()
