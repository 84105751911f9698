"""Where artifacts are made: in this process, or in one worker process a core. Keys and bits are the same.

An executor takes nodes while it has room and hands back events. A worker ends when its driver dies: it holds one end of
a pipe that the driver never writes to, and leaves when the other end is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import pickle
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from distill_prune.errors import DistillPruneError, RunError, UserError
from distill_prune.pipeline.jobs import VERSIONS
from distill_prune.pipeline.nodes import Node
from distill_prune.pipeline.printed import heard
from distill_prune.pipeline.store import Store, identity
from distill_prune.plugins import Registered


@dataclass(frozen=True)
class Event:
    """Something that happened to a node: `tick` (done, total, note), `printed` (a line), an outcome's status, `failed` (error),
    or `died`."""

    key: str
    kind: str
    payload: Any = None


MEANWHILE = ("tick", "printed")
"""Kinds of events that leave a node in the making."""


class Executor(Protocol):
    """Makes nodes. `submit` only while `room()`; `events` waits for at least one event."""

    def room(self) -> int: ...
    def submit(self, node: Node) -> None: ...
    def events(self, timeout: float) -> list[Event]: ...
    def close(self) -> None: ...


class Serial:
    """One artifact after the other, in this process."""

    def __init__(self, store: Path, device: str, hear: Callable[[Event], None]) -> None:
        from distill_prune.pipeline.worker import Worker

        self._worker, self._hear = Worker(Store(store), device), hear
        self._queue: list[Node] = []

    def room(self) -> int:
        return 1 - len(self._queue)

    def submit(self, node: Node) -> None:
        self._queue.append(node)

    def events(self, timeout: float) -> list[Event]:
        node = self._queue.pop()
        return [make(self._worker, node.key, node.label, lambda: node, self._hear)]

    def close(self) -> None:
        pass


def make(worker: Any, key: str, label: str, node: Callable[[], Node], hear: Callable[[Event], None]) -> Event:
    """Make a node's artifact and answer with what became of it. Ticks and printed lines go to `hear` meanwhile, all of them
    before this returns."""
    try:
        with heard(lambda line: hear(Event(key, "printed", line))):
            outcome = worker.make(node(), lambda *tick: hear(Event(key, "tick", tick)))
    except DistillPruneError as error:
        error.label = label  # type: ignore[attr-defined]
        return Event(key, "failed", error)
    except MemoryError:
        return Event(key, "failed", RunError(f"{label}: out of memory", mend="fewer --workers, or smaller batches"))
    except Exception as problem:
        place = traceback.extract_tb(problem.__traceback__)[-1]
        failure = RunError(f"{label} failed: {type(problem).__name__}: {problem} ({place.filename}, line {place.lineno})")
        failure.trace = traceback.format_exc()  # type: ignore[attr-defined]
        return Event(key, "failed", failure)
    return Event(key, outcome.status, outcome)


def received(pickled: bytes) -> Node:
    """A node that the driver sent; the modules of its plugins are imported by this.

    Raises:
        UserError: a plugin is another one here than where the key was made.
    """
    node: Node = pickle.loads(pickled)
    if identity(node.stage, VERSIONS[node.stage], node.job.identity(), node.inputs) != node.key:
        raise UserError("the code of a plugin changed while it was being used", mend="run again")
    return node


def _leave_with(lifeline: Connection) -> None:
    """End this process at once when the driver's end of the pipe is gone."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


def _work(store: str, device: str, registered: Registered, tasks: Connection, lifeline: Connection) -> None:
    """A worker process: nodes in, events out, until the driver closes the pipe or dies."""
    threading.Thread(target=_leave_with, args=(lifeline,), daemon=True).start()
    from distill_prune.pipeline.worker import Worker

    registered.restore()
    worker = Worker(Store(store), device)
    with contextlib.suppress(EOFError, OSError):
        while (task := tasks.recv()) is not None:
            key, label, node = task
            tasks.send(make(worker, key, label, partial(received, node), tasks.send))


@dataclass
class _Process:
    process: Any
    pipe: Connection
    lifeline: Connection
    node: Node | None = None


class Processes:
    """Ready artifacts in parallel, one worker process each. A dead worker is replaced; its node gets a `died` event."""

    def __init__(self, store: Path, device: str, workers: int) -> None:
        self._store, self._device = str(store), device
        self._context = mp.get_context("spawn")
        self._pool: list[_Process] = []
        try:
            for _ in range(workers):
                self._pool.append(self._start())
        except BaseException:
            self.close()
            raise

    def _start(self) -> _Process:
        ours, theirs = self._context.Pipe()
        theirs_alive, ours_alive = self._context.Pipe(duplex=False)
        arguments = (self._store, self._device, Registered.here(), theirs, theirs_alive)
        process = self._context.Process(target=_work, args=arguments, daemon=True)
        # Blocked while the worker starts, which inherits it: an interrupt of the terminal is the driver's alone. The
        # resource tracker must run before, for starting it unblocks the signal.
        resource_tracker.ensure_running()
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        theirs.close()
        theirs_alive.close()
        return _Process(process, ours, ours_alive)

    def room(self) -> int:
        return sum(p.node is None for p in self._pool)

    def submit(self, node: Node) -> None:
        idle = next(p for p in self._pool if p.node is None)
        idle.node = node
        with contextlib.suppress(OSError):  # a worker that is dead shows up as such in events()
            idle.pipe.send((node.key, node.label, pickle.dumps(node)))

    def events(self, timeout: float) -> list[Event]:
        ready = wait([p.pipe for p in self._pool if p.node is not None], timeout)
        return [e for i, p in enumerate(self._pool) if p.pipe in ready for e in self._receive(i)]

    def _receive(self, index: int) -> Iterator[Event]:
        held = self._pool[index]
        assert held.node is not None
        try:
            event: Event = held.pipe.recv()
        except (EOFError, OSError):
            held.process.join()
            key, code = held.node.key, held.process.exitcode
            held.pipe.close()
            held.lifeline.close()
            self._pool[index] = self._start()
            yield Event(key, "died", code)
            return
        if event.kind not in MEANWHILE:
            held.node = None
        yield event

    def close(self) -> None:
        """End all workers at once: what they were making is kept as far as its last snapshot."""
        for held in self._pool:
            held.process.kill()
        for held in self._pool:
            held.process.join()
            held.pipe.close()
            held.lifeline.close()
        self._pool = []
