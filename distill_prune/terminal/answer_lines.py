"""The answer on a terminal or in a pipe: nothing is wider than the screen."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_prune.study.answer_table import COULD_SHOW, arm_rows, difference_rows, set_lines
from distill_prune.terminal import duration

if TYPE_CHECKING:
    from distill_prune.analyze.metric import Metric
    from distill_prune.study.outcome import Document
    from distill_prune.study.sweep import SweepDocument

GAP = "  "
LABEL = 16
"""Columns that a narrow screen leaves to the names of rows."""


def answer_lines(document: Document, metrics: dict[str, Metric], width: int) -> list[str]:
    """The verdict, the table of arms, the differences, the sets, what next."""
    lines = _wrapped(document["verdict"], width, "")
    if document["arms"]:
        lines += ["", *_table(arm_rows(document, metrics), width)]
    if document["differences"]:
        lines += ["", *_differences(difference_rows(document["differences"], metrics), width)]
        if any(line["could_show"] is not None for line in document["differences"]):
            lines += textwrap.wrap(COULD_SHOW, width, subsequent_indent="  ")
    for text in set_lines(document["sets"]):
        lines += _wrapped(text, width, GAP)
    if more := document["next"]:
        workers = f"{more['workers']} worker{'s' * (more['workers'] != 1)}"
        cost = f"{more['artifacts']:,} more artifacts, about {duration(more['seconds'])} on {workers}"
        text = f"To claim a difference:  {more['option']}  ({cost if more['artifacts'] > 1 else 'all of it is there'})"
        lines += ["", *textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)]
    return lines


def sweep_lines(document: SweepDocument, width: int) -> list[str]:
    """The verdict of every cell, and the cell that validation chooses."""
    lines: list[str] = []
    for cell in document["cells"]:
        text = f"{cell['name']}: {cell['verdict'] or 'not finished'}"
        lines += textwrap.wrap(text, width, subsequent_indent="  ", break_on_hyphens=False)
    if document["choose"] == "validation":
        chosen = document["chosen"] or "no cell is finished"
        lines += ["", *textwrap.wrap(f"chosen by validation accuracy alone: {chosen}", width, subsequent_indent="  ")]
    return lines


def _table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Columns as wide as their longest cell. Where that is too wide for the screen, heads and names of rows are wrapped, then
    the columns go on in further tables below, each with the names: figures stay whole."""
    longest = _longest(rows)
    if _taken(longest) <= width:
        return _columns(rows, longest)
    words = [max(map(len, head.split())) for head in rows[0]]
    sizes = [max(word, body) for word, body in zip(words, _longest(rows[1:]), strict=True)]
    lines: list[str] = []
    block: list[int] = []
    for i in range(1, len(sizes)):
        if block and _taken([LABEL, *(sizes[j] for j in (*block, i))]) > width:
            lines += [*_block(rows, block, sizes, longest[0], width), ""]
            block = []
        block.append(i)
    return lines + _block(rows, block, sizes, longest[0], width)


def _block(rows: Sequence[Sequence[str]], block: Sequence[int], sizes: Sequence[int], name: int, width: int) -> list[str]:
    """The columns of a block behind the names of the rows, which take `name` columns or what is left of the width."""
    figures = [min(sizes[i], width - LABEL - len(GAP)) for i in block]
    return _columns([[row[0], *(row[i] for i in block)] for row in rows], [min(name, width - _taken([0, *figures])), *figures])


def _differences(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """A table where it fits the screen, else two lines a difference."""
    if _taken(_longest(rows)) <= width:
        return _columns(rows, _longest(rows))
    lines = _wrapped(f"{rows[0][0]}: {rows[0][2]}, {rows[0][3]}", width)
    for arms, of, mean, p, shown in rows[1:]:
        figures = f"{GAP}{mean.replace(' ', _WHOLE)}, p{_WHOLE}={_WHOLE}{p}: {shown}"
        lines += [*_wrapped(f"{arms}, {of}", width), *_wrapped(figures, width)]
    return lines


_WHOLE = "\u00a0"
"""A space at which no line ends."""


def _wrapped(text: str, width: int, indent: str = 2 * GAP) -> list[str]:
    """Lines of a text; the count of initialisations stays with its name."""
    text = re.sub(r"\bn = (?=\d)", f"n{_WHOLE}={_WHOLE}", text)
    lines = textwrap.wrap(text, width, subsequent_indent=indent, break_on_hyphens=False)
    return [line.replace(_WHOLE, " ") for line in lines]


def _longest(rows: Sequence[Sequence[str]]) -> list[int]:
    return [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]


def _taken(sizes: Sequence[int]) -> int:
    return sum(sizes) + len(GAP) * (len(sizes) - 1)


def _columns(rows: Sequence[Sequence[str]], sizes: Sequence[int]) -> list[str]:
    """The lines of a table whose columns have these sizes; cells that are longer are wrapped."""
    lines = []
    for row in rows:
        cells = [_wrapped(cell, size, "") or [""] for cell, size in zip(row, sizes, strict=True)]
        for i in range(max(map(len, cells))):
            texts = [(cell[i] if i < len(cell) else "").ljust(size) for cell, size in zip(cells, sizes, strict=True)]
            lines.append(GAP.join(texts).rstrip())
    return lines
