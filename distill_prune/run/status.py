"""The state of runs, for whoever looks from another terminal: a small file that the driver writes at most once a second.

`<store>/.status/run-<id>.json` goes with the lease `run-<id>`. Its driver holds that lock while it lives, so a run whose file
says that it is running, and whose lock is free, has died. The files of the last runs are kept with their outcome.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field, TypeAdapter

from distill_prune.errors import DistillPruneError, StoreError
from distill_prune.run.watching import Watcher
from distill_prune.settings import Settings
from distill_prune.store.disk import make_folder, no_links, replace_passing
from distill_prune.store.documents import BadDocument, read
from distill_prune.store.leases import busy
from distill_prune.store.store import Store

if TYPE_CHECKING:
    from distill_prune.plan.nodes import Node

KEPT = 5
"""Files of runs that have ended."""
EVERY_SECONDS = 1.0

State = Literal["running", "done", "failed", "interrupted", "dead"]


class Bar(Settings):
    """Artifacts in the making by one worker, named by the first: `more` others share its steps. `began` is in seconds since
    1970; `done` of `total` steps are finished, where it says so."""

    stage: str
    key: str
    label: str
    more: int = Field(0, ge=0)
    began: float
    done: int = Field(0, ge=0)
    total: int = Field(0, ge=0)
    note: str = ""


class Status(Settings):
    """The state of a run at the time `written`; times are seconds since 1970.

    Of `total` artifacts `hits` were there before, `made` were made, `elsewhere` were made by other runs meanwhile, `failed`
    could not be made and `given_up` depend on these. `left_s` are the seconds that it will still take.
    """

    pipeline: str
    until: str
    executor: str
    workers: int = Field(ge=1)
    host: str
    pid: int = Field(ge=1)
    began: float
    written: float
    state: State = "running"
    total: int = Field(0, ge=0)
    hits: int = Field(0, ge=0)
    made: int = Field(0, ge=0)
    elsewhere: int = Field(0, ge=0)
    failed: int = Field(0, ge=0)
    given_up: int = Field(0, ge=0)
    left_s: float = Field(0.0, ge=0)
    at_work: list[Bar] = Field(default_factory=list)

    @property
    def done(self) -> int:
        """Artifacts that are in the store."""
        return self.hits + self.made + self.elsewhere


_STATUS = TypeAdapter(Status)


def _blank(pipeline: str, until: str, executor: str, workers: int) -> Status:
    """The state of a run that begins now, in this process."""
    return Status(
        pipeline=pipeline,
        until=until,
        executor=executor,
        workers=workers,
        host=socket.gethostname(),
        pid=os.getpid(),
        began=time.time(),
        written=time.time(),
    )


class Board(Watcher):
    """A watcher that keeps the state of its run."""

    def __init__(self, status: Status | None = None) -> None:
        self._status = status or _blank("", "", "", 1)
        self._bars: dict[str, Bar] = {}

    def bars(self) -> list[Bar]:
        """What is in the making."""
        return [*self._bars.values()]

    def status(self) -> Status:
        """The state of now."""
        return self._status.model_copy(update={"written": time.time(), "at_work": self.bars()})

    def _set(self, **changes: object) -> None:
        self._status = self._status.model_copy(update=changes)

    def begin(self, total: int, hits: int, left_s: float) -> None:
        self._set(total=total, hits=hits, left_s=left_s)

    def started(self, nodes: Sequence[Node]) -> None:
        first = nodes[0]
        bar = Bar(stage=first.stage, key=first.key, label=first.label, more=len(nodes) - 1, began=time.time())
        self._bars[first.key] = bar

    def ticked(self, node: Node, done: int, total: int, note: str) -> None:
        if (bar := self._bars.get(node.key)) is not None:
            self._bars[node.key] = bar.model_copy(update={"done": done, "total": total, "note": note})

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        self._bars.pop(node.key, None)
        which = "elsewhere" if status == "hit" else "made"
        self._set(left_s=left_s, **{which: getattr(self._status, which) + 1})

    def failed(self, node: Node, error: DistillPruneError, given_up: int, *, new: bool) -> None:
        self._bars.pop(node.key, None)
        self._set(failed=self._status.failed + 1, given_up=self._status.given_up + given_up)

    def put_back(self, node: Node) -> None:
        self._bars.pop(node.key, None)

    def beat(self, left_s: float) -> None:
        self._set(left_s=left_s)


class _File(Board):
    """Writes the state into a file as it changes. Nobody's work ends because that cannot be written."""

    def __init__(self, status: Status, store: Store, path: Path) -> None:
        super().__init__(status)
        self._store, self._path, self._due = store, path, 0.0

    def beat(self, left_s: float) -> None:
        super().beat(left_s)
        if time.monotonic() >= self._due:
            self.write()

    def begin(self, total: int, hits: int, left_s: float) -> None:
        super().begin(total, hits, left_s)
        self.write()

    def end(self, state: State) -> None:
        self._bars.clear()
        self._set(state=state, left_s=0.0)
        self.write()

    def write(self) -> None:
        self._due = time.monotonic() + EVERY_SECONDS
        with contextlib.suppress(OSError, StoreError):
            no_links(self._store.root, self._path.parent)
            make_folder(self._path.parent)
            replace_passing(self._path, json.dumps(self.status().model_dump(), indent=1) + "\n")


@contextlib.contextmanager
def recorded(store: Store, lease: str, pipeline: str, until: str, executor: str, workers: int) -> Iterator[Board]:
    """A watcher that writes the state of the run of a lease, and at the end its outcome."""
    _forget_old(store)
    file = _File(_blank(pipeline, until, executor, workers), store, _path(store, lease))
    state: State = "interrupted"
    try:
        yield file
        state = "done"
    except DistillPruneError:
        state = "failed"
        raise
    finally:
        file.end(state)


def _path(store: Store, lease: str) -> Path:
    return store.root / ".status" / f"{lease}.json"


def _paths(store: Store) -> list[Path]:
    """The files, the newest last."""

    def written(path: Path) -> float:
        try:
            return path.lstat().st_mtime
        except OSError:
            return 0.0  # removed meanwhile

    return sorted((store.root / ".status").glob("run-*.json"), key=written)


def _forget_old(store: Store) -> None:
    ended = [path for path in _paths(store) if not busy(store, path.stem)]
    for path in ended[: -KEPT + 1]:
        with contextlib.suppress(OSError):
            path.unlink()


@dataclass(frozen=True)
class Seen:
    """A run of a store, by its lease's name: its state, or why that cannot be read."""

    id: str
    status: Status | None
    problem: str = ""

    @property
    def at_work(self) -> bool:
        return self.status is not None and self.status.state == "running"


def runs(store: Store) -> list[Seen]:
    """The runs on a store: those at work, and the last ones that have ended; in the order of their beginning."""
    seen = [_seen(store, path) for path in _paths(store)]
    return sorted((run for run in seen if run is not None), key=lambda run: run.status.began if run.status else 0.0)


def _seen(store: Store, path: Path) -> Seen | None:
    lease, alive = path.stem, busy(store, path.stem)  # before the file is read: who ends in between has written its outcome
    try:
        status = read(path, _STATUS)
    except FileNotFoundError:
        return None
    except (BadDocument, OSError) as problem:
        return Seen(lease, None, str(problem))
    dead = status.state == "running" and not alive
    return Seen(lease, status.model_copy(update={"state": "dead"}) if dead else status)
