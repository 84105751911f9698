"""The page of a sweep: a map of each measure over the axes, and every cell in a table. Lays out; computes nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from distill_prune.analyze.metric import ACCURACY, BARRIER, Metric
from distill_prune.letters import printable
from distill_prune.report.formats import finite, fixed, number, sparsity
from distill_prune.store.disk import make_folder, replace_file

if TYPE_CHECKING:
    from collections.abc import Mapping

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
    """One measure over two axes: `rows` are the values of the first, each with its squares in the order of `columns`.
    `facet` are the values of further axes."""

    title: str
    facet: str
    across: str
    down: str
    columns: list[str]
    rows: list[tuple[str, list[Square]]]


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
    """A map for every measure and value of the third axis and further ones."""
    keys = [*document["axes"]]
    down, across, *others = [*keys, ""] if len(keys) == 1 else keys
    facets = dict.fromkeys(tuple(json.dumps(c["place"][key]) for key in others) for c in document["cells"])
    for title, of in _measures(document, metrics):
        known = [v for v, _ in of.values() if finite(v)]
        low, high = (min(known), max(known)) if known else (0.0, 0.0)
        for facet in facets:
            cells = [c for c in document["cells"] if tuple(json.dumps(c["place"][key]) for key in others) == facet]
            at = {(json.dumps(c["place"][down]), json.dumps(c["place"][across]) if across else ""): c for c in cells}
            columns = [json.dumps(value) for value in document["axes"][across]] if across else [""]

            def square(cell: CellLine, of: Mapping[str, Value] = of, low: float = low, high: float = high) -> Square:
                value, text = of[cell["name"]]
                shade = (value - low) / (high - low) if finite(value) and high > low else None if value is None else 0.0
                return Square(text, cell["name"], shade, cell["name"] == document["chosen"])

            rows = [
                (json.dumps(value), [square(at[json.dumps(value), column]) for column in columns])
                for value in document["axes"][down]
            ]
            words = ", ".join(f"{key} = {value}" for key, value in zip(others, facet, strict=True))
            yield Map(title, words, across, down, columns, rows)


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
        values: dict[str, Value] = {}
        for cell in cells:
            line = next((d for d in cell["differences"] if (d["arm"], d["versus"], d["metric"]) == (arm, versus, name)), None)
            mean = line["difference"]["mean"] * metrics[name].scale if line else None
            values[cell["name"]] = (mean, f"{number(mean)} ({line['outcome']})" if line else "–")
        yield f"{arm} minus {versus}: {_heading(metrics[name], 'points')}", values


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
