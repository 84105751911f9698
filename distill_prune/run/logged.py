"""What a worker writes into the logs of the artifacts that it makes."""

from __future__ import annotations

from collections.abc import Sequence

from distill_prune.plan.nodes import Node
from distill_prune.run.events import Busy, Damaged, Event, Failed, Hear, Hit, Line, Made, Outcome
from distill_prune.store.logs import Log
from distill_prune.store.store import Store


def log_of(store: Store, node: Node) -> Log:
    """The log of a node's artifact."""
    return Log(store, node.key, f"{node.stage} {node.key[:12]} {node.label}")


class Logs:
    """The logs of a group of artifacts: `hear` writes their printed lines, and `end` what became of them."""

    def __init__(self, store: Store, nodes: Sequence[Node], hear: Hear) -> None:
        self._logs = {node.key: log_of(store, node) for node in nodes}
        self._hear = hear

    def hear(self, event: Event) -> None:
        if isinstance(event, Line):
            self._logs[event.key].add(event.text)
        self._hear(event)

    def end(self, outcomes: Sequence[Outcome]) -> None:
        """Write the last lines. A failure names its log from now on."""
        for outcome in outcomes:
            log = self._logs[outcome.key]
            match outcome:
                case Failed(_, error):
                    log.end(f"{error.trace}failed: {error}", always=True)
                    error.log = str(log.path) if log.path.exists() else ""
                case Made(_, seconds):
                    log.end(f"made in {seconds:.2f} s")
                case Damaged():
                    log.end(f"an input was damaged: {outcome.stage} {outcome.input} ({outcome.reason})")
                case Hit():
                    log.end("made by another run")
                case Busy():
                    pass  # another run writes this log
