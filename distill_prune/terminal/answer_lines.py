"""The answer on a terminal or in a pipe: nothing is wider than the screen."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from distill_prune.terminal import duration

if TYPE_CHECKING:
    from distill_prune.analyze.estimate import Estimate
    from distill_prune.analyze.metric import Metric
    from distill_prune.study.outcome import ArmLine, DifferenceLine, Document

GAP = "  "
COULD_SHOW = "could show: the smallest true difference that so many initialisations show with a probability of 80%"
NARROW = 10
"""Columns of a figure that a narrow screen still holds."""


def answer_lines(document: Document, metrics: dict[str, Metric], width: int) -> list[str]:
    """The verdict, the table of arms, the differences, the sets, what next."""
    lines = textwrap.wrap(document["verdict"], width)
    if document["arms"]:
        counts = {arm["n"] for arm in document["arms"]}
        n = f", n = {counts.pop()}" if len(counts) == 1 else ""
        at = f"at {100 * (document['sparsity'] or 0.0):.1f}% sparsity{n}"
        lines += ["", *_table(_arm_rows(document["arms"], metrics, at, each=not n), width)]
    if document["differences"]:
        lines += ["", *_table(_difference_rows(document["differences"], metrics), width)]
        if any(line["could_show"] is not None for line in document["differences"]):
            lines += textwrap.wrap(COULD_SHOW, width, subsequent_indent="  ")
    for line in document["sets"]:
        accuracy = line["accuracy"]
        text = f"set {line['set']}: fresh {line['network']} reach {_mean(accuracy, 100)}% test accuracy (n = {accuracy['n']})"
        lines += textwrap.wrap(text, width, subsequent_indent="  ")
    if more := document["next"]:
        workers = f"{more['workers']} worker{'s' * (more['workers'] != 1)}"
        cost = f"{more['artifacts']:,} more artifacts, about {duration(more['seconds'])} on {workers}"
        text = f"To claim a difference:  {more['option']}  ({cost if more['artifacts'] > 1 else 'all of it is there'})"
        lines += ["", *textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False, break_on_hyphens=False)]
    return lines


def _arm_rows(arms: Sequence[ArmLine], metrics: dict[str, Metric], at: str, *, each: bool) -> list[list[str]]:
    """The table of arms; `each` has its number of initialisations where they differ."""
    names = [name for name in arms[0]["values"] if any(arm["values"][name] for arm in arms)]
    heads = [at, *(_head(metrics[name]) for name in names), "images for masks"]
    rows = [heads]
    for arm in arms:
        cells = [_value(arm["values"][name], metrics[name].scale) for name in names]
        rows.append(
            [
                f"{arm['label']} (n = {arm['n']})" if each else arm["label"],
                *cells,
                _images(arm["images_search"], arm["images_in_all"]),
            ]
        )
    return rows


def _difference_rows(differences: Sequence[DifferenceLine], metrics: dict[str, Metric]) -> list[list[str]]:
    rows = [["difference", "of", "mean [95% interval]", "p", ""]]
    for line in differences:
        metric, difference = metrics[line["metric"]], line["difference"]
        low, high, could = difference["low"], difference["high"], line["could_show"]
        interval = "" if low is None or high is None else f" [{_short(low * metric.scale)}, {_short(high * metric.scale)}]"
        rows.append(
            [
                f"{line['arm']} - {line['versus']}",
                _head(metric, "points"),
                f"{_short(difference['mean'] * metric.scale)}{interval}",
                f"{line['p']:.2g}",
                line["outcome"] + ("" if could is None else f" (could show {_short(could * metric.scale)})"),
            ]
        )
    return rows


def _head(metric: Metric, share: str = "%") -> str:
    """A metric's heading; shares are in percent, barriers and differences of shares in points."""
    if metric.scale != 100:
        return metric.in_words
    return f"{metric.in_words} ({'points' if metric.group == 'barrier' else share})"


def _value(estimate: Estimate | None, scale: float) -> str:
    return "–" if estimate is None else _mean(estimate, scale)


def _mean(estimate: Estimate, scale: float) -> str:
    spread = estimate["sd"]
    if scale == 100:
        return f"{scale * estimate['mean']:.1f}" + ("" if spread is None else f" ± {scale * spread:.1f}")
    return _short(estimate["mean"]) + ("" if spread is None else f" ± {spread:.1g}")


def _short(number: float) -> str:
    return f"{number:.2f}" if 0.1 <= abs(number) < 1000 else f"{number:.2g}"


def _images(search: float | None, in_all: float | None) -> str:
    if search is None:
        return "–"
    text = _count(search)
    if in_all is None:
        return f"{text} + ? to distil"
    return text if in_all <= search else f"{text} + {_count(in_all - search)} to distil"


def _count(number: float) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.0f}"


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
