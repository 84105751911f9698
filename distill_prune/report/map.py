"""The page of a sweep: a map of each measure over the axes, and every cell in a table. Lays out; computes nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from distill_prune.analyze.metric import ACCURACY, BARRIER, Metric
from distill_prune.letters import printable
from distill_prune.report.formats import finite, fixed, number, sparsity
from distill_prune.store.disk import make_folder, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from distill_prune.study.outcome import DifferenceLine
    from distill_prune.study.sweep import CellLine, SweepDocument


@dataclass(frozen=True)
class Square:
    """One cell of a map: what it shows, its full name, how dark it is (0 to 1, None: nothing was measured), and whether
    validation chose it."""

    text: str
    name: str
    shade: float | None
    chosen: bool


@dataclass(frozen=True)
class Map:
    """One measure over all axes: the first half of them goes down, the others go across.

    `down` are the names of the former. `heads` has a line for each of the latter: its headings, each with the number of
    columns that it spans. `rows` are the values of the former, each with its squares."""

    title: str
    down: list[str]
    heads: list[list[tuple[str, int]]]
    rows: list[tuple[list[str], list[Square]]]


Value = tuple[float | None, str]
"""A number to shade by, and its text."""


def write_map(document: SweepDocument, title: str, question: str, metrics: Mapping[str, Metric], folder: Path) -> Path:
    """Write `folder`/report.html and `folder`/tables/cells.{csv,json}; the page's path.

    Raises:
        OSError: the folder cannot be written to.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=lambda value: printable(value) if isinstance(value, str) else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = list(records(document, metrics))
    html = env.get_template("map.html.j2").render(
        title=title,
        question=question,
        document=document,
        maps=list(maps(document, metrics)),
        short={name: key for key, name in short_names([*document["axes"]]).items() if name != key},
        head=[*rows[0]] if rows else [],
        rows=[[*row.values()] for row in rows],
        finished=sum(bool(cell["verdict"]) for cell in document["cells"]),
    )
    make_folder(folder / "tables")
    text = io.StringIO()
    writer = csv.DictWriter(text, [*rows[0]] if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    replace_file(folder / "tables" / "cells.csv", text.getvalue().encode())
    replace_file(folder / "tables" / "cells.json", (json.dumps(document, indent=1) + "\n").encode())
    replace_file(folder / "report.html", html.encode())
    return folder / "report.html"


def records(document: SweepDocument, metrics: Mapping[str, Metric]) -> Iterator[dict[str, str]]:
    """A row for each cell, of texts by heading."""
    measures = [*_measures(document, metrics)]
    for cell in document["cells"]:
        row = {key: json.dumps(value) for key, value in cell["place"].items()}
        row["sparsity (%)"] = sparsity(cell["sparsity"])
        row |= {name: of[cell["name"]][1] for name, of in measures}
        yield {**row, "validation (%)": fixed(cell["validation"], 2, 100), "answer": cell["verdict"] or "not finished"}


def maps(document: SweepDocument, metrics: Mapping[str, Metric]) -> Iterator[Map]:
    """A map for every measure."""
    axes = {key: [_written(value) for value in values] for key, values in document["axes"].items()}
    names, half = short_names([*axes]), (len(axes) + 1) // 2
    down, across = [*axes][:half], [*axes][half:]
    columns, heads = [*product(*(axes[key] for key in across))], list[list[tuple[str, int]]]()
    for i, key in enumerate(across):
        span = prod(len(axes[other]) for other in across[i + 1 :])
        heads.append([(f"{names[key]} = {column[i]}", span) for column in columns[::span]])
    at = {tuple(_written(cell["place"][key]) for key in axes): cell for cell in document["cells"]}
    for title, of in _measures(document, metrics):
        known = [value for value, _ in of.values() if value is not None and finite(value)]
        low, high = (min(known), max(known)) if known else (0.0, 0.0)

        def square(cell: CellLine, of: Mapping[str, Value] = of, low: float = low, high: float = high) -> Square:
            value, text = of[cell["name"]]
            shade = (value - low) / (high - low) if finite(value) and high > low else None if value is None else 0.0
            return Square(text, cell["name"], shade, cell["name"] == document["chosen"])

        rows = [([*row], [square(at[row + column]) for column in columns]) for row in product(*(axes[key] for key in down))]
        yield Map(title, [names[key] for key in down], heads or [[("mean", 1)]], rows)


def short_names(keys: Sequence[str]) -> dict[str, str]:
    """The last parts of each key that no other of them ends with."""

    def shortest(key: str) -> str:
        parts = key.split(".")
        ends = (".".join(parts[-count:]) for count in range(1, len(parts)))
        return next((end for end in ends if sum(f".{k}".endswith(f".{end}") for k in keys) == 1), key)

    return {key: shortest(key) for key in keys}


def _written(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _measures(document: SweepDocument, metrics: Mapping[str, Metric]) -> Iterator[tuple[str, dict[str, Value]]]:
    """What maps show, by cell: accuracy and barrier of dense networks, the means of each arm, and differences."""
    cells = document["cells"]
    for name in (ACCURACY, BARRIER):
        yield f"dense: {_heading(metrics[name])}", {c["name"]: _mean(c["dense"].get(name), metrics[name]) for c in cells}
    arms = dict.fromkeys(arm["label"] for c in cells for arm in c["arms"])
    names = [name for name in metrics if any(arm["values"].get(name) for c in cells for arm in c["arms"])]
    for name in names:
        for label in arms:
            of = {c["name"]: next((a["values"].get(name) for a in c["arms"] if a["label"] == label), None) for c in cells}
            yield f"{label}: {_heading(metrics[name])}", {cell: _mean(e, metrics[name]) for cell, e in of.items()}
    tested = dict.fromkeys((d["arm"], d["versus"], d["metric"]) for c in cells for d in c["differences"])
    for arm, versus, name in tested:
        metric = metrics[name]
        lines = {c["name"]: _difference(c, arm, versus, name) for c in cells}
        outcomes = {line["outcome"] for line in lines.values() if line}
        shared = f" ({outcomes.pop()})" if len(outcomes) == 1 else ""
        values: dict[str, Value] = {}
        for cell, line in lines.items():
            mean = line["difference"]["mean"] * metric.scale if line else None
            text = fixed(mean, 1, sign=True) if metric.scale == 100 else number(mean)
            values[cell] = (mean, (text if shared else f"{text} ({line['outcome']})") if line else "–")
        yield f"{arm} minus {versus}: {_heading(metric, 'points')}{shared}", values


def _difference(cell: CellLine, arm: str, versus: str, metric: str) -> DifferenceLine | None:
    return next((d for d in cell["differences"] if (d["arm"], d["versus"], d["metric"]) == (arm, versus, metric)), None)


def _mean(estimate: object, metric: Metric) -> Value:
    if not isinstance(estimate, dict):
        return None, "–"
    mean, spread = estimate["mean"] * metric.scale, estimate["sd"]
    digits = 1 if metric.scale == 100 else None
    text = fixed(mean, digits) if digits else number(mean)
    if spread is None:
        return mean, text
    return mean, f"{text} ± {fixed(spread * metric.scale, digits) if digits else number(spread * metric.scale, 2)}"


def _heading(metric: Metric, share: str = "%") -> str:
    if metric.scale != 100:
        return metric.in_words
    return f"{metric.in_words} ({'points' if metric.group == 'barrier' else share})"
