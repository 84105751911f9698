"""What happens to a node in the making, and making it: the same in this process, in another, on Ray."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from distill_prune.errors import DistillPruneError, RunError, UserError
from distill_prune.plan.jobs import VERSIONS
from distill_prune.plan.nodes import Node
from distill_prune.run.printed import heard
from distill_prune.store.store import identity


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


def make(worker: Any, key: str, label: str, node: Callable[[], Node], hear: Callable[[Event], None]) -> Event:
    """Make a node's artifact and answer with what became of it. Ticks and printed lines go to `hear` meanwhile, all of them
    before this returns."""
    try:
        with heard(lambda line: hear(Event(key, "printed", line))):
            outcome = worker.make(node(), lambda *tick: hear(Event(key, "tick", tick)))
    except DistillPruneError as error:
        error.label = label
        return Event(key, "failed", error)
    except MemoryError:
        return Event(key, "failed", RunError(f"{label}: out of memory", mend="fewer --workers, or smaller batches"))
    except Exception as problem:
        place = traceback.extract_tb(problem.__traceback__)[-1]
        failure = RunError(f"{label} failed: {type(problem).__name__}: {problem} ({place.filename}, line {place.lineno})")
        failure.trace = traceback.format_exc()
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
