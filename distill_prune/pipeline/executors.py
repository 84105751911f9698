"""Where artifacts are made: in this process, or in one worker process a core. Keys and bits are the same.

An executor takes nodes while it has room and hands back events. A worker ends when its driver dies: it holds one end of
a pipe that the driver never writes to, and leaves when the other end is gone.
"""

from __future__ import annotations

import contextlib
import multiprocessing as mp
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from distill_prune.errors import DistillPruneError, RunError
from distill_prune.pipeline.graph import Node
from distill_prune.pipeline.store import Store


@dataclass(frozen=True)
class Event:
    """Something that happened to a node: `tick` (done, total, note), an outcome's status, `failed` (error), or `died`."""

    key: str
    kind: str
    payload: Any = None


class Executor(Protocol):
    """Makes nodes. `submit` only while `room()`; `events` waits for at least one event."""

    def room(self) -> int: ...
    def submit(self, node: Node) -> None: ...
    def events(self, timeout: float) -> list[Event]: ...
    def close(self) -> None: ...


class Serial:
    """One artifact after the other, in this process."""

    def __init__(self, store: Path, device: str, on_tick: Callable[[Event], None]) -> None:
        from distill_prune.pipeline.worker import Worker

        self._worker, self._on_tick = Worker(Store(store), device), on_tick
        self._queue: list[Node] = []

    def room(self) -> int:
        return 1 - len(self._queue)

    def submit(self, node: Node) -> None:
        self._queue.append(node)

    def events(self, timeout: float) -> list[Event]:
        node = self._queue.pop()
        return [_make(self._worker, node, lambda *t: self._on_tick(Event(node.key, "tick", t)))]

    def close(self) -> None:
        pass


def _make(worker: Any, node: Node, tick: Callable[..., None]) -> Event:
    try:
        outcome = worker.make(node, tick)
    except DistillPruneError as error:
        error.label = node.label  # type: ignore[attr-defined]
        return Event(node.key, "failed", error)
    except MemoryError:
        return Event(node.key, "failed", RunError(f"{node.label}: out of memory", mend="fewer --workers, or smaller batches"))
    except Exception as problem:
        failure = RunError(f"{node.label} failed: {type(problem).__name__}: {problem}")
        failure.trace = traceback.format_exc()  # type: ignore[attr-defined]
        return Event(node.key, "failed", failure)
    return Event(node.key, outcome.status, outcome)


def _leave_with(lifeline: Connection) -> None:
    """End this process at once when the driver's end of the pipe is gone."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


def _work(store: str, device: str, tasks: Connection, lifeline: Connection) -> None:
    """A worker process: nodes in, events out, until the driver closes the pipe or dies."""
    threading.Thread(target=_leave_with, args=(lifeline,), daemon=True).start()
    from distill_prune.pipeline.worker import Worker

    worker = Worker(Store(store), device)
    with contextlib.suppress(EOFError, OSError):
        while (node := tasks.recv()) is not None:
            key = node.key
            tasks.send(_make(worker, node, lambda *t, key=key: tasks.send(Event(key, "tick", t))))


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
        process = self._context.Process(target=_work, args=(self._store, self._device, theirs, theirs_alive), daemon=True)
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
            idle.pipe.send(node)

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
        if event.kind != "tick":
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
