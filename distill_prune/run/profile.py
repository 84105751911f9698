"""Where the time of a run goes: seconds by stage and kind, and a trace of every worker.

    waiting    from handing a group of artifacts to a worker until it begins with the first
    reading    inputs out of the store;    writing    the artifact into it
    computing  all else that a worker does for an artifact

The trace is a file in Chrome's trace event format, which chrome://tracing and https://ui.perfetto.dev show.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_prune.plan.nodes import Node
from distill_prune.run.events import Made
from distill_prune.store.manifest import Provenance
from distill_prune.store.store import Store

if TYPE_CHECKING:
    from distill_prune.artifacts import Parts, Trajectory


class TimedStore(Store):
    """A store that counts the `seconds` in which artifacts are read and written through it."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.seconds = 0.0

    @contextlib.contextmanager
    def _counted(self) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - began

    def read(self, stage: str, key: str) -> Parts:
        with self._counted():
            return super().read(stage, key)

    def numbers(self, stage: str, key: str) -> dict[str, Any]:
        with self._counted():
            return super().numbers(stage, key)

    def trajectory(self, key: str, *, sizes_only: bool = False) -> Trajectory:
        with self._counted():
            return super().trajectory(key, sizes_only=sizes_only)

    def write(self, provenance: Provenance, parts: Parts) -> None:
        with self._counted():
            super().write(provenance, parts)


def worker_name() -> str:
    """The host and the number of this process."""
    return f"{socket.gethostname()} {os.getpid()}"


@dataclass
class Part:
    """Artifacts of one stage and kind: how many, and seconds of all."""

    stage: str
    kind: str
    artifacts: int = 0
    computing: float = 0.0
    reading: float = 0.0
    writing: float = 0.0
    waiting: float = 0.0

    @property
    def total(self) -> float:
        return self.computing + self.reading + self.writing + self.waiting


def added(parts: Sequence[Part]) -> Part:
    """All parts together."""
    seconds = {name: sum(getattr(part, name) for part in parts) for name in ("computing", "reading", "writing", "waiting")}
    return Part("", "all", sum(part.artifacts for part in parts), **seconds)


@dataclass
class Profile:
    """What the driver hears of artifacts that are made."""

    _made: list[tuple[Node, Made, float]] = field(default_factory=list)
    _submitted: dict[str, float] = field(default_factory=dict)

    def submitted(self, nodes: Sequence[Node]) -> None:
        """A group goes to a worker now; the first waits for it."""
        self._submitted[nodes[0].key] = time.time()

    def made(self, node: Node, event: Made) -> None:
        waiting = event.began - self._submitted.pop(node.key, event.began)
        self._made.append((node, event, max(waiting, 0.0)))  # clocks of two hosts may differ

    def parts(self) -> list[Part]:
        """By stage and kind, the most seconds first."""
        parts: dict[tuple[str, str], Part] = {}
        for node, event, waiting in self._made:
            part = parts.setdefault((node.stage, node.kind), Part(node.stage, node.kind))
            part.artifacts += 1
            part.computing += event.seconds - event.reading
            part.reading += event.reading
            part.writing += event.writing
            part.waiting += waiting
        return sorted(parts.values(), key=lambda part: -part.total)

    def trace(self) -> dict[str, object]:
        """The JSON object of a trace file; times are microseconds from the first artifact's beginning."""
        workers: dict[str, int] = {}
        free: dict[str, float] = {}
        slices: list[dict[str, object]] = []
        first = min((event.began for _, event, _ in self._made), default=0.0)
        for node, event, waiting in sorted(self._made, key=lambda made: made[1].began):
            thread = workers.setdefault(event.worker, len(workers) + 1)
            began = max(event.began, free.get(event.worker, 0.0))  # those of a group share its time, one after the other
            spent = event.seconds + event.writing
            free[event.worker] = began + spent
            seconds = {"waiting_s": waiting, "reading_s": event.reading, "writing_s": event.writing}
            slices.append(
                {
                    "ph": "X",
                    "pid": 1,
                    "tid": thread,
                    "ts": round((began - first) * 1e6),
                    "dur": round(spent * 1e6),
                    "name": f"{node.stage} {node.label}",
                    "cat": node.stage,
                    "args": {"key": node.key, "kind": node.kind, **{n: round(s, 6) for n, s in seconds.items()}},
                }
            )
        names = [
            {"ph": "M", "pid": 1, "tid": thread, "name": "thread_name", "args": {"name": f"worker {worker}"}}
            for worker, thread in workers.items()
        ]
        return {"displayTimeUnit": "ms", "traceEvents": [*names, *slices]}
