"""What happens to a node in the making, and making it: the same in this process, in another, on Ray."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from distill_prune.errors import DistillPruneError, RunError, UserError
from distill_prune.plan.jobs import VERSIONS
from distill_prune.plan.nodes import Node
from distill_prune.run.printed import heard
from distill_prune.store.store import identity

# -- what happens to the node of a key


@dataclass(frozen=True)
class Tick:
    """`done` of `total` steps are finished; `note` is a short text beside them."""

    key: str
    done: int
    total: int
    note: str


@dataclass(frozen=True)
class Line:
    """Code that makes the artifact printed a line."""

    key: str
    text: str


@dataclass(frozen=True)
class Made:
    """The artifact was made, in `seconds` of wall time."""

    key: str
    seconds: float


@dataclass(frozen=True)
class Hit:
    """The artifact is in the store: another run made it meanwhile."""

    key: str


@dataclass(frozen=True)
class Busy:
    """Another run is making the artifact."""

    key: str


@dataclass(frozen=True)
class Damaged:
    """An input, `<stage>/<input>`, was damaged, and has been moved aside."""

    key: str
    stage: str
    input: str
    reason: str


@dataclass(frozen=True)
class Failed:
    """The artifact could not be made."""

    key: str
    error: DistillPruneError


@dataclass(frozen=True)
class Died:
    """The worker that was making the artifact died; `where` says which, or how."""

    key: str
    where: str


Outcome = Made | Hit | Busy | Damaged
"""What a worker answers."""

Event = Tick | Line | Outcome | Failed | Died
MEANWHILE = (Tick, Line)
"""Events that leave a node in the making."""


# -- making it


class Executor(Protocol):
    """Makes nodes. `submit` only while `room()`; `events` waits for at least one event."""

    def room(self) -> int: ...
    def submit(self, node: Node) -> None: ...
    def events(self, timeout: float) -> list[Event]: ...
    def close(self) -> None: ...


class Maker(Protocol):
    """Makes one node's artifact, and calls `tick` with (done, total, note) meanwhile."""

    def make(self, node: Node, tick: Callable[[int, int, str], None], /) -> Outcome: ...


def make(worker: Maker, key: str, label: str, node: Callable[[], Node], hear: Callable[[Event], None]) -> Event:
    """Make a node's artifact and answer with what became of it. Ticks and printed lines go to `hear` meanwhile, all of them
    before this returns."""
    try:
        with heard(lambda text: hear(Line(key, text))):
            return worker.make(node(), lambda done, total, note: hear(Tick(key, done, total, note)))
    except DistillPruneError as error:
        error.label = label
        return Failed(key, error)
    except MemoryError:
        return Failed(key, RunError(f"{label}: out of memory", mend="fewer --workers, or smaller batches"))
    except Exception as problem:
        place = traceback.extract_tb(problem.__traceback__)[-1]
        failure = RunError(f"{label} failed: {type(problem).__name__}: {problem} ({place.filename}, line {place.lineno})")
        failure.trace = traceback.format_exc()
        return Failed(key, failure)


def received(pickled: bytes) -> Node:
    """A node that the driver sent; the modules of its plugins are imported by this.

    Raises:
        UserError: a plugin is another one here than where the key was made.
    """
    node: Node = pickle.loads(pickled)
    if identity(node.stage, VERSIONS[node.stage], node.job.identity(), node.inputs) != node.key:
        raise UserError("the code of a plugin changed while it was being used", mend="run again")
    return node
