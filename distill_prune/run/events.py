"""What happens to nodes in the making, and making them: the same in this process, in another, on Ray.

Nodes come in groups: trainings that can share their steps, or one node alone. Every event is of one node.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from distill_prune.errors import DistillPruneError, RunError, UserError, system_error
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
    """The artifact was made, in `seconds` of wall time; trainings that shared their steps share the time.

    `worker` (its host and process) began at the time `began`, in seconds since 1970. `reading` the inputs out of the store is
    a part of the seconds, and `writing` the artifact comes after them.
    """

    key: str
    seconds: float
    began: float
    reading: float
    writing: float
    worker: str


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


Outcome = Made | Hit | Busy | Damaged | Failed
"""What a worker answers for a node."""

Event = Tick | Line | Outcome | Died
Hear = Callable[[Event], None]


# -- making it


class Executor(Protocol):
    """Makes nodes. `submit` takes a group of nodes for one worker, only while `room()`; `events` waits for at least one
    event."""

    def room(self) -> int: ...
    def submit(self, nodes: Sequence[Node]) -> None: ...
    def events(self, timeout: float) -> list[Event]: ...
    def close(self) -> None: ...


class Makes(Protocol):
    """Makes the artifacts of a group of nodes. Answers for each, in order; `hear` hears of ticks and lines meanwhile."""

    def make(self, nodes: Sequence[Node], hear: Hear, /) -> list[Outcome]: ...


@dataclass(frozen=True)
class Parcel:
    """A node on its way to a worker."""

    key: str
    label: str
    pickled: bytes

    @classmethod
    def of(cls, node: Node) -> Parcel:
        return cls(node.key, node.label, pickle.dumps(node))

    def open(self) -> Node:
        """The node; the modules of its plugins are imported by this.

        Raises:
            UserError: a plugin is another one here than where the key was made.
        """
        node: Node = pickle.loads(self.pickled)
        if identity(node.stage, VERSIONS[node.stage], node.job.identity(), node.inputs) != node.key:
            raise UserError("the code of a plugin changed while it was being used", fix="run again")
        return node


Result = TypeVar("Result")


def attempt(key: str, label: str, hear: Hear, work: Callable[[], Result]) -> Result | Failed:
    """What `work` for a node returns, or why it failed. Printed lines go to `hear`, all of them before this returns."""
    try:
        with heard(lambda text: hear(Line(key, text))):
            return work()
    except DistillPruneError as error:
        error.label = label
        return Failed(key, error)
    except MemoryError:
        failure: DistillPruneError = RunError("out of memory", fix="fewer --workers, or smaller batches")
    except Exception as problem:
        place = traceback.extract_tb(problem.__traceback__)[-1]
        where = f"({place.filename}, line {place.lineno})"
        if isinstance(problem, OSError):
            name = f"'{problem.filename}'" if problem.filename else "something"
            failure = system_error(f"the system refused {name} {where}", problem, "another path")
        else:
            failure = RunError(f"{type(problem).__name__}: {problem} {where}")
        failure.trace = traceback.format_exc()
    failure.label = label
    return Failed(key, failure)


def make(worker: Makes, parcels: Sequence[Parcel], hear: Hear) -> list[Outcome]:
    """Make the artifacts of nodes that the driver sent; what became of each, in order."""
    opened = [attempt(parcel.key, parcel.label, hear, parcel.open) for parcel in parcels]
    outcomes = iter(worker.make([node for node in opened if isinstance(node, Node)], hear))
    return [node if isinstance(node, Failed) else next(outcomes) for node in opened]
