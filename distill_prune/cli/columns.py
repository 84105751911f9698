"""Tables that fit the terminal; in a pipe nothing is cut."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from distill_prune.letters import printable
from distill_prune.terminal import columns

GAP = "  "


@dataclass(frozen=True)
class Column:
    """A heading, whether its cells stand to the right, and when the column is left out on a narrow terminal: those of the
    largest `last` first, 0 never. A column that `shrinks` is cut to `shrinks` characters before that is not enough."""

    head: str
    right: bool = False
    last: int = 0
    shrinks: int = 0


def width() -> int | None:
    """The columns of the terminal; None in a pipe."""
    return columns() if sys.stdout.isatty() else None


def fitted(line: str) -> list[str]:
    """A line, wrapped where the terminal is narrower; whole in a pipe."""
    if (room := width()) is None or len(line) <= room:
        return [line]
    indent = " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.wrap(line, room, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def table(heads: Sequence[Column], rows: Sequence[Sequence[str]], room: int | None) -> list[str]:
    """The lines of a table, its heads first. Columns without content are left out."""
    cells = [[column.head for column in heads], *([printable(cell) for cell in row] for row in rows)]
    shown = [i for i in range(len(heads)) if any(row[i] for row in cells[1:])] or [*range(len(heads))]
    sizes = [max(len(row[i]) for row in cells) for i in range(len(heads))]
    if room is not None:
        for i in sorted((i for i in shown if heads[i].last), key=lambda i: -heads[i].last):
            if _taken(sizes, shown) > room:
                shown.remove(i)
        for i in sorted(shown, key=lambda i: -sizes[i]):
            if heads[i].shrinks:
                sizes[i] = max(min(sizes[i], heads[i].shrinks), sizes[i] - max(0, _taken(sizes, shown) - room))
    return [GAP.join(_cell(row[i], sizes[i], heads[i].right) for i in shown).rstrip() for row in cells]


def _taken(sizes: Sequence[int], shown: Sequence[int]) -> int:
    return sum(sizes[i] for i in shown) + len(GAP) * (len(shown) - 1)


def _cell(text: str, size: int, right: bool) -> str:
    """The text, cut where it is too long; what stands behind the last `/` is seen longest."""
    if len(text) > size:
        text = f"…{text[len(text) - size + 1 :]}" if "/" in text and not text.startswith("(") else f"{text[: size - 1]}…"
    return text.rjust(size) if right else text.ljust(size)
