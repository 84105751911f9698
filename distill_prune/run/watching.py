"""Who hears of a run on its way: the terminal's progress, a plain log, the file that `status` reads, TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_prune.errors import DistillPruneError
    from distill_prune.plan.nodes import Node


class Watcher:
    """Hears of all that happens in a run, and does nothing: a watcher overrides what it cares for.

    `left_s` are the seconds that the run will still take, as far as one can tell.
    """

    def begin(self, total: int, hits: int, left_s: float) -> None:
        """Of `total` artifacts `hits` are there, and the others are to be made."""

    def started(self, nodes: Sequence[Node]) -> None:
        """A worker is given a group of artifacts to make."""

    def ticked(self, node: Node, done: int, total: int, note: str) -> None:
        """`done` of `total` steps of an artifact are finished."""

    def printed(self, node: Node, line: str) -> None:
        """Code that makes the artifact printed a line."""

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        """The artifact was "made" in so many seconds; or is a "hit", made by another run meanwhile."""

    def failed(self, node: Node, error: DistillPruneError, given_up: int, *, new: bool) -> None:
        """The artifact could not be made, and `given_up` others are not made because of it. It is `new` where the run goes on
        and no failure before had its reason."""

    def put_back(self, node: Node) -> None:
        """The artifact is not in the making any more, and waits again."""

    def beat(self, left_s: float) -> None:
        """Time goes by: at least every half second while the run waits for workers, and with each tick."""

    def warn(self, message: str) -> None:
        """Something that the user should know, and that stops nothing."""

    def close(self) -> None:
        """The run is over."""


@dataclass
class Watchers(Watcher):
    """Several watchers as one."""

    each: Sequence[Watcher]

    def begin(self, total: int, hits: int, left_s: float) -> None:
        for watcher in self.each:
            watcher.begin(total, hits, left_s)

    def started(self, nodes: Sequence[Node]) -> None:
        for watcher in self.each:
            watcher.started(nodes)

    def ticked(self, node: Node, done: int, total: int, note: str) -> None:
        for watcher in self.each:
            watcher.ticked(node, done, total, note)

    def printed(self, node: Node, line: str) -> None:
        for watcher in self.each:
            watcher.printed(node, line)

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        for watcher in self.each:
            watcher.finished(node, status, seconds, left_s)

    def failed(self, node: Node, error: DistillPruneError, given_up: int, *, new: bool) -> None:
        for watcher in self.each:
            watcher.failed(node, error, given_up, new=new)

    def put_back(self, node: Node) -> None:
        for watcher in self.each:
            watcher.put_back(node)

    def beat(self, left_s: float) -> None:
        for watcher in self.each:
            watcher.beat(left_s)

    def warn(self, message: str) -> None:
        for watcher in self.each:
            watcher.warn(message)

    def close(self) -> None:
        for watcher in self.each:
            watcher.close()
