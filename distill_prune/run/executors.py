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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from distill_prune.plan.nodes import Node
from distill_prune.plugins import Registered
from distill_prune.run.events import Died, Event, Executor, Hear, Parcel, make
from distill_prune.run.printed import quiet_libraries
from distill_prune.store.store import Store


class Serial:
    """One group of artifacts after the other, in this process."""

    def __init__(self, store: Path, device: str, hear: Hear) -> None:
        from distill_prune.run.worker import Worker

        self._worker, self._hear = Worker(Store(store), device), hear
        self._queue: list[Sequence[Node]] = []

    def room(self) -> int:
        return 1 - len(self._queue)

    def submit(self, nodes: Sequence[Node]) -> None:
        self._queue.append(nodes)

    def events(self, timeout: float) -> list[Event]:
        return [*self._worker.make(self._queue.pop(), self._hear)]

    def close(self) -> None:
        pass


def _leave_with(lifeline: Connection) -> None:
    """End this process at once when the driver's end of the pipe is gone."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


def _work(store: str, device: str, registered: Registered, tasks: Connection, lifeline: Connection) -> None:
    """A worker process: groups of nodes in, events and then their outcomes out, until the driver closes the pipe or dies."""
    threading.Thread(target=_leave_with, args=(lifeline,), daemon=True).start()
    from distill_prune.run.worker import Worker

    quiet_libraries()
    registered.restore()
    worker = Worker(Store(store), device)
    with contextlib.suppress(EOFError, OSError):
        while (parcels := tasks.recv()) is not None:
            tasks.send(make(worker, parcels, tasks.send))


@dataclass
class _Process:
    process: BaseProcess
    pipe: Connection
    lifeline: Connection
    nodes: Sequence[Node] = field(default_factory=list)


class Processes:
    """Ready artifacts in parallel, a worker process each group. A dead worker is replaced; its nodes get `Died` events."""

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
        return sum(not p.nodes for p in self._pool)

    def submit(self, nodes: Sequence[Node]) -> None:
        idle = next(p for p in self._pool if not p.nodes)
        idle.nodes = nodes
        with contextlib.suppress(OSError):  # a worker that is dead shows up as such in events()
            idle.pipe.send([Parcel.of(node) for node in nodes])

    def events(self, timeout: float) -> list[Event]:
        ready = wait([p.pipe for p in self._pool if p.nodes], timeout)
        return [e for i, p in enumerate(self._pool) if p.nodes and p.pipe in ready for e in self._receive(i)]

    def _receive(self, index: int) -> Iterator[Event]:
        worker = self._pool[index]
        try:
            message: Event | list[Event] = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode
            worker.pipe.close()
            worker.lifeline.close()
            self._pool[index] = self._start()
            yield from (Died(node.key, f"exit code {code}") for node in worker.nodes)
            return
        if not isinstance(message, list):
            yield message
            return
        worker.nodes = []
        yield from message

    def close(self) -> None:
        """End all workers at once: what they were making is kept as far as its last snapshot."""
        for worker in self._pool:
            worker.process.kill()
        for worker in self._pool:
            worker.process.join()
            worker.pipe.close()
            worker.lifeline.close()
        self._pool = []


def make_executor(
    name: str, store: Store, device: str, workers: int, threads: int, hear: Hear, compiles: bool = False
) -> Executor:
    if name == "ray":
        from distill_prune.run.ray_workers import RayWorkers

        return RayWorkers(store.root, device, workers, threads, compiles=compiles)
    return Serial(store.root, device, hear) if name == "serial" else Processes(store.root, device, workers)
