"""The answer on a terminal or in a pipe: nothing is wider than the screen."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_prune.study.answer_table import COULD_SHOW, arm_rows, difference_rows, set_line
from distill_prune.terminal import duration

if TYPE_CHECKING:
    from distill_prune.analyze.metric import Metric
    from distill_prune.study.outcome import Document
    from distill_prune.study.sweep import SweepDocument

GAP = "  "
NARROW = 10
"""Columns of a figure that a narrow screen still holds."""


def answer_lines(document: Document, metrics: dict[str, Metric], width: int) -> list[str]:
    """The verdict, the table of arms, the differences, the sets, what next."""
    lines = textwrap.wrap(document["verdict"], width)
    if document["arms"]:
        lines += ["", *_table(arm_rows(document, metrics), width)]
    if document["differences"]:
        lines += ["", *_table(difference_rows(document["differences"], metrics), width)]
        if any(line["could_show"] is not None for line in document["differences"]):
            lines += textwrap.wrap(COULD_SHOW, width, subsequent_indent="  ")
    for line in document["sets"]:
        lines += textwrap.wrap(set_line(line), width, subsequent_indent="  ")
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
    """Columns as wide as their longest cell; where that is too wide for the screen, cells are wrapped, the widest first."""
    sizes = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    room = width - len(GAP) * (len(sizes) - 1)
    while sum(sizes) > room and max(sizes) > NARROW:
        sizes[sizes.index(max(sizes))] -= 1
    lines = []
    for row in rows:
        cells = [textwrap.wrap(cell, size) or [""] for cell, size in zip(row, sizes, strict=True)]
        for i in range(max(map(len, cells))):
            texts = [(cell[i] if i < len(cell) else "").ljust(size) for cell, size in zip(cells, sizes, strict=True)]
            lines.append(GAP.join(texts).rstrip())
    return lines
