"""Who shows a run on its way: bars with time left in a terminal, plain lines in a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from distill_prune.letters import printable, printable_lines
from distill_prune.run.watching import Watcher
from distill_prune.terminal import duration
from distill_prune.terminal.bars import at_work, rows

if TYPE_CHECKING:
    from rich.console import RenderableType

    from distill_prune.errors import DistillPruneError
    from distill_prune.plan.nodes import Node

SILENCE_SECONDS = 60.0
"""After so long without a line a plain log says what is at work."""


class Quiet(Watcher):
    """Prints warnings, failures and the lines that a user's code prints, on stderr, and nothing else. Base of the others here.

    It keeps the streams of now: while an artifact is made in this process, what is printed is taken off the standard streams.
    """

    def __init__(self) -> None:
        self._total, self._done = 0, 0
        self._out, self._err = sys.stdout, sys.stderr

    def begin(self, total: int, hits: int, left_s: float) -> None:
        self._total, self._done = total, hits

    def printed(self, node: Node, line: str) -> None:
        self.say(f"{node.label}: {line}")

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        self._done += 1

    def failed(self, node: Node, error: DistillPruneError, given_up: int, *, new: bool) -> None:
        """Says why, once a reason: the run's own error tells all at its end."""
        if new:
            depend = f"; {given_up:,} that depend on it are given up" if given_up else ""
            self.say(f"failed: {node.label}: {error.what}{depend}; the rest goes on")

    def warn(self, message: str) -> None:
        self.say(f"warning: {message}")

    def say(self, text: str) -> None:
        """Print on stderr."""
        print(printable_lines(text), file=self._err, flush=True)


class Lines(Quiet):
    """A line with the time of day when an artifact begins and when it ends; after a minute of silence, what is at work."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        from distill_prune.run.status import Board

        super().__init__()
        self._board, self._clock, self._last = Board(), clock, clock()

    def _line(self, text: str) -> None:
        self._last = self._clock()
        print(f"{time.strftime('%H:%M:%S')} {printable(text)}", file=self._out, flush=True)

    def say(self, text: str) -> None:
        super().say(text)
        self._last = self._clock()

    def begin(self, total: int, hits: int, left_s: float) -> None:
        super().begin(total, hits, left_s)
        if total > hits:
            artifacts = f"{total:,} artifact{'s' * (total != 1)}"
            self._line(f"{artifacts}: {hits:,} in the store, {total - hits:,} to make; about {duration(left_s)}")

    def started(self, nodes: Sequence[Node]) -> None:
        self._board.started(nodes)
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        self._line(f"begin {nodes[0].stage} {nodes[0].label}{more}")

    def ticked(self, node: Node, done: int, total: int, note: str) -> None:
        self._board.ticked(node, done, total, note)

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        super().finished(node, status, seconds, left_s)
        self._board.finished(node, status, seconds, left_s)
        how = "made elsewhere" if status == "hit" else duration(seconds)
        name = f"{node.stage} {node.key[:12]} {node.label}"
        left = f"; about {duration(left_s)} left" if self._done < self._total else ""
        self._line(f"[{self._done}/{self._total}] {name}: {how}{left}")

    def failed(self, node: Node, error: DistillPruneError, given_up: int, *, new: bool) -> None:
        super().failed(node, error, given_up, new=new)
        self._board.put_back(node)

    def put_back(self, node: Node) -> None:
        self._board.put_back(node)

    def beat(self, left_s: float) -> None:
        if self._clock() - self._last >= SILENCE_SECONDS:
            self._line(f"at work: {at_work(self._board.bars())}; about {duration(left_s)} left")


class Live(Quiet):
    """A line for the whole run and a bar for every group of artifacts in the making."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live as Region

        from distill_prune.run.status import Board

        super().__init__()
        self._board, self._console = Board(), Console(file=self._err)
        self._region = Region(
            get_renderable=self._shown,
            console=self._console,
            transient=True,
            refresh_per_second=8,
            vertical_overflow="ellipsis",
        )

    def _shown(self) -> RenderableType:
        return rows(self._board.status(), time.time(), self._console.width)

    def begin(self, total: int, hits: int, left_s: float) -> None:
        self._board.begin(total, hits, left_s)
        if total > hits:
            self._region.start()

    def started(self, nodes: Sequence[Node]) -> None:
        self._board.started(nodes)

    def ticked(self, node: Node, done: int, total: int, note: str) -> None:
        self._board.ticked(node, done, total, note)

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        self._board.finished(node, status, seconds, left_s)

    def failed(self, node: Node, error: DistillPruneError, given_up: int, *, new: bool) -> None:
        super().failed(node, error, given_up, new=new)
        self._board.failed(node, error, given_up, new=new)

    def put_back(self, node: Node) -> None:
        self._board.put_back(node)

    def beat(self, left_s: float) -> None:
        self._board.beat(left_s)

    def say(self, text: str) -> None:
        """Print above the bars; what calls for attention is yellow."""
        for kind in ("warning:", "failed:"):
            if text.startswith(kind):
                self._console.print(f"[yellow]{kind}[/]", end="")
                text = text.removeprefix(kind)
        self._console.print(printable_lines(text), markup=False, highlight=False, emoji=False, soft_wrap=True)

    def close(self) -> None:
        self._region.stop()


def is_moving() -> bool:
    """Whether lines of the terminal can be written again."""
    return sys.stderr.isatty() and sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def watcher(*, json: bool = False) -> Quiet:
    """The watcher for this stream: bars where lines can be written again."""
    if json:
        return Quiet()
    return Live() if is_moving() else Lines()
