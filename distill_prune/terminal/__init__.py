"""What a run looks like: live progress with time left in a terminal, plain lines in a pipe."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from distill_prune.letters import printable, printable_lines

if TYPE_CHECKING:
    from rich.progress import TaskID

    from distill_prune.plan.nodes import Node
    from distill_prune.run.profile import Part


def columns() -> int:
    """Columns of the terminal, from 40 on; of a pipe 100."""
    return max(shutil.get_terminal_size((100, 24)).columns, 40)


def duration(seconds: float) -> str:
    """Seconds in the units that people use: 8 s, 3 min 20 s, 2 h 5 min."""
    s = round(seconds)
    if s < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{s} s"
    return f"{s // 60} min {s % 60} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60} min"


def size(count: int) -> str:
    """Bytes in the units that people use, powers of a thousand: 312 B, 1.2 kB, 29 MB."""
    number, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.1f} {unit}" if unit != "B" and number < 9.95 else f"{number:.0f} {unit}"


def moment(created: str) -> str:
    """A time in ISO 8601 as the clock here showed it: 2026-11-29 13:25. Other text as it is."""
    try:
        return f"{datetime.fromisoformat(created).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError):
        return created


def spent(parts: Sequence[Part]) -> list[str]:
    """Lines that say where the time of a run went, by kind of artifact: seconds of all workers."""
    from distill_prune.run.profile import added

    if not parts:
        return ["profile: nothing was made"]
    total = sum(part.total for part in parts)
    lines = [f"{'kind of artifact':28}{'made':>7}{'computing':>12}{'reading':>10}{'writing':>10}{'waiting':>10}{'share':>7}"]
    for part in (*parts, added(parts)):
        seconds = f"{part.computing:10.1f} s{part.reading:8.2f} s{part.writing:8.2f} s{part.waiting:8.2f} s"
        lines.append(f"{part.kind:28.28}{part.artifacts:7,}{seconds}{part.total / total if total else 0.0:7.0%}")
    return lines


class Quiet:
    """Prints warnings and the lines that a user's code prints, on stderr, and nothing else. Base of the other watchers."""

    def __init__(self, workers: int = 1) -> None:
        self._workers, self._total, self._done = workers, 0, 0
        # The stream of now: while an artifact is made in this process, what is printed is taken off the standard streams.
        self._err = sys.stderr

    def begin(self, total: int, hits: int, cost_s: float) -> None:
        self._total, self._done = total, hits

    def started(self, nodes: Sequence[Node]) -> None:
        pass

    def ticked(self, node: Node, done: int, total: int, note: str) -> None:
        pass

    def printed(self, node: Node, line: str) -> None:
        print(f"{printable(node.label)}: {line}", file=self._err, flush=True)

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        self._done += 1

    def warn(self, message: str) -> None:
        print(f"warning: {printable_lines(message)}", file=self._err, flush=True)

    def close(self) -> None:
        pass

    def left(self, left_s: float) -> float:
        """Seconds left, where `left_s` seconds of work are left for the workers."""
        return left_s / self._workers


class Lines(Quiet):
    """One line an artifact."""

    def begin(self, total: int, hits: int, cost_s: float) -> None:
        super().begin(total, hits, cost_s)
        if total - hits:
            print(f"{total} artifacts: {hits} there already, {total - hits} to make", flush=True)

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        super().finished(node, status, seconds, left_s)
        how = "made elsewhere" if status == "hit" else duration(seconds)
        print(
            f"[{self._done}/{self._total}] {node.stage} {node.key[:12]} {node.label}: {how}; "
            f"about {duration(self.left(left_s))} left",
            flush=True,
        )


class Live(Quiet):
    """A bar for the whole run and one for every group of artifacts in the making, named by its first."""

    def __init__(self, workers: int = 1) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TaskID, TextColumn

        super().__init__(workers)
        self._console = Console(file=self._err)
        self._bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", style="dim", markup=False),
            console=self._console,
            transient=True,
        )
        self._rows: dict[str, TaskID] = {}
        self._whole = TaskID(0)

    def begin(self, total: int, hits: int, cost_s: float) -> None:
        super().begin(total, hits, cost_s)
        if total > hits:
            self._bars.start()
            self._whole = self._bars.add_task(
                "artifacts", total=total, completed=hits, note=f"about {duration(cost_s / self._workers)} left"
            )

    def started(self, nodes: Sequence[Node]) -> None:
        first = nodes[0]
        if first.key in self._rows:  # tried again
            return
        more = f" and {len(nodes) - 1} more" if len(nodes) > 1 else ""
        self._rows[first.key] = self._bars.add_task(f"  {first.stage}: {printable(first.label)}{more}", total=None, note="")

    def ticked(self, node: Node, done: int, total: int, note: str) -> None:
        if node.key in self._rows:
            self._bars.update(self._rows[node.key], completed=done, total=total, note=printable(note))

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        super().finished(node, status, seconds, left_s)
        if node.key in self._rows:
            self._bars.remove_task(self._rows.pop(node.key))
        self._bars.update(self._whole, completed=self._done, note=f"about {duration(self.left(left_s))} left")

    def printed(self, node: Node, line: str) -> None:
        self._console.print(f"{printable(node.label)}: {line}", markup=False, highlight=False, emoji=False)

    def warn(self, message: str) -> None:
        self._console.print("[yellow]warning:[/] ", end="")
        self._console.print(printable_lines(message), markup=False, highlight=False, emoji=False)

    def close(self) -> None:
        self._bars.stop()


def watcher(workers: int, *, json: bool = False) -> Quiet:
    """The watcher for this stream: bars where lines can be written again."""
    if json:
        return Quiet(workers)
    moving = sys.stderr.isatty() and sys.stdout.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")
    return Live(workers) if moving else Lines(workers)
