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
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from distill_prune.plan.nodes import Node
from distill_prune.plugins import Registered
from distill_prune.run.events import MEANWHILE, Died, Event, Executor, make, received
from distill_prune.store.store import Store


class Serial:
    """One artifact after the other, in this process."""

    def __init__(self, store: Path, device: str, hear: Callable[[Event], None]) -> None:
        from distill_prune.run.worker import Worker

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


def _leave_with(lifeline: Connection) -> None:
    """End this process at once when the driver's end of the pipe is gone."""
    with contextlib.suppress(EOFError, OSError):
        lifeline.recv()
    os._exit(1)


def _work(store: str, device: str, registered: Registered, tasks: Connection, lifeline: Connection) -> None:
    """A worker process: nodes in, events out, until the driver closes the pipe or dies."""
    threading.Thread(target=_leave_with, args=(lifeline,), daemon=True).start()
    from distill_prune.run.worker import Worker

    registered.restore()
    worker = Worker(Store(store), device)
    with contextlib.suppress(EOFError, OSError):
        while (task := tasks.recv()) is not None:
            key, label, node = task
            tasks.send(make(worker, key, label, partial(received, node), tasks.send))


@dataclass
class _Process:
    process: BaseProcess
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
        return [e for i, p in enumerate(self._pool) if p.node is not None and p.pipe in ready for e in self._receive(i, p.node)]

    def _receive(self, index: int, node: Node) -> Iterator[Event]:
        worker = self._pool[index]
        try:
            event: Event = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join()
            code = worker.process.exitcode
            worker.pipe.close()
            worker.lifeline.close()
            self._pool[index] = self._start()
            yield Died(node.key, f"exit code {code}")
            return
        if not isinstance(event, MEANWHILE):
            worker.node = None
        yield event

    def close(self) -> None:
        """End all workers at once: what they were making is kept as far as its last snapshot."""
        for worker in self._pool:
            worker.process.kill()
        for worker in self._pool:
            worker.process.join()
            worker.pipe.close()
            worker.lifeline.close()
        self._pool = []


def make_executor(name: str, store: Store, device: str, workers: int, threads: int, hear: Callable[[Event], None]) -> Executor:
    if name == "ray":
        from distill_prune.run.ray_workers import RayWorkers

        return RayWorkers(store.root, device, workers, threads)
    return Serial(store.root, device, hear) if name == "serial" else Processes(store.root, device, workers)
