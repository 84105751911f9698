"""The bars of a run in a terminal of any width: nothing wraps.

Beside a note a label takes two fifths of the columns at most. Where columns are few, notes go first, then bars shrink, then
labels are cut, then bars go. What is cut ends with an ellipsis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_prune.letters import printable
from distill_prune.terminal import duration

if TYPE_CHECKING:
    from rich.console import RenderableType

    from distill_prune.run.status import Bar, Status

LONGEST_BAR, SHORTEST_BAR = 28, 8
LEAST_NOTE, LEAST_LABEL = 10, 20


@dataclass(frozen=True)
class Layout:
    """Columns of each part of a row; 0 where it is left out."""

    label: int
    bar: int
    count: int
    note: int


def layout(width: int, label: int, count: int, note: int) -> Layout:
    """The columns for rows in a terminal of `width`, whose longest label, count and note have these lengths. Parts are two
    columns apart."""
    left = width - count - 2 if count else width
    short = min(label, max(round(0.4 * width), LEAST_LABEL))
    if (room := left - short - LONGEST_BAR - 4) >= min(note, LEAST_NOTE) and note:
        return Layout(short, LONGEST_BAR, count, min(note, room))
    bar = min(LONGEST_BAR, max(left - label - 2, SHORTEST_BAR))
    if left - bar - 2 >= min(label, LEAST_LABEL):
        return Layout(min(label, left - bar - 2), bar, count, 0)
    return Layout(min(label, max(left, 1)), 0, count, 0)


def seconds_left(status: Status, now: float) -> float:
    """Seconds that the run will still take from the time `now` on."""
    return max(status.left_s - max(now - status.written, 0.0), 0.0)


def summary(status: Status, now: float) -> str:
    """How far a run is, in one line."""
    running = status.state == "running"
    parts = [f"{status.done:,} of {status.total:,} artifacts"]
    if running:
        parts.append(f"about {duration(seconds_left(status, now))} left")
    if status.failed:
        depend = f" and {status.given_up:,} depend on them" if status.given_up else ""
        parts.append(f"{status.failed:,} failed{depend}")
    parts.append(f"after {duration(max((now if running else status.written) - status.began, 0.0))}")
    return ", ".join(parts)


def name(bar: Bar) -> str:
    """What a worker is making."""
    return f"{bar.stage}  {printable(bar.label)}" + (f" and {bar.more} more" if bar.more else "")


def count(bar: Bar) -> str:
    return f"{bar.done:,}/{bar.total:,}" if bar.total else ""


def at_work(bars: Sequence[Bar]) -> str:
    """What workers are making, in one line."""
    return "; ".join(f"{name(bar)} {count(bar)}".rstrip().replace("  ", " ") for bar in bars) or "other runs"


def rows(status: Status, now: float, width: int) -> RenderableType:
    """A bar for the whole run, and one for every group of artifacts in the making."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    head = Text(summary(status, now), no_wrap=True, overflow="ellipsis")
    if not status.at_work:
        return head
    names, counts = [name(bar) for bar in status.at_work], [count(bar) for bar in status.at_work]
    notes = [printable(bar.note) for bar in status.at_work]
    parts = layout(width - 2, *(max(_lengths(texts)) for texts in (names, counts, notes)))
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(width=parts.label + 2, no_wrap=True, overflow="ellipsis")
    cells: list[list[RenderableType]] = [[Text(f"  {each}", no_wrap=True, overflow="ellipsis")] for each in names]
    if parts.bar:
        table.add_column(width=parts.bar)
        for row, bar in zip(cells, status.at_work, strict=True):
            row.append(ProgressBar(bar.total or None, bar.done, width=parts.bar, pulse=not bar.total))
    if parts.count:
        table.add_column(width=parts.count, justify="right", no_wrap=True)
        for row, each in zip(cells, counts, strict=True):
            row.append(Text(each, no_wrap=True))
    if parts.note:
        table.add_column(width=parts.note, no_wrap=True, overflow="ellipsis")
        for row, each in zip(cells, notes, strict=True):
            row.append(Text(each, style="dim", no_wrap=True, overflow="ellipsis"))
    for row in cells:
        table.add_row(*row)
    return Group(head, table)


def _lengths(texts: Sequence[str]) -> list[int]:
    from rich.cells import cell_len

    return [cell_len(text) for text in texts]
