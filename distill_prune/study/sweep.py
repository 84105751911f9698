"""What a store says of a sweep: the answer of each cell beside the values that make it, and which cell validation chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TypedDict, cast

from pydantic import JsonValue

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.metric import ACCURACY, BARRIER
from distill_prune.analyze.records import Summary, estimate_of
from distill_prune.errors import DamagedArtifact
from distill_prune.plan.nodes import Graph
from distill_prune.plan.sweep import Cell, Cells, Choice
from distill_prune.run import measured
from distill_prune.store.store import Store
from distill_prune.study.conclusion import metrics
from distill_prune.study.outcome import ArmLine, DifferenceLine, outcome
from distill_prune.study.study import answer


class CellLine(TypedDict):
    """One study of a sweep: its place (values by key) and its verdict.

    At the sparsest level that its arms share it has their means and differences, as the answer of a single study has; of
    dense networks accuracy and barrier. `validation` is the mean validation accuracy of the arm `versus` there, null
    without a validation part. A cell that is not finished has no verdict.
    """

    name: str
    place: dict[str, JsonValue]
    verdict: str
    sparsity: float | None
    dense: dict[str, Estimate | None]
    arms: list[ArmLine]
    differences: list[DifferenceLine]
    validation: float | None


class SweepDocument(TypedDict):
    """A sweep: its axes (values by key) and its cells in their order.

    `chosen` is the name of the cell that validation chooses, null where none is asked for or none is finished.
    """

    axes: dict[str, list[JsonValue]]
    cells: list[CellLine]
    choose: Choice
    chosen: str | None


def sweep_document(graph: Graph, cells: Cells, store: Store) -> SweepDocument:
    """What the store has of a sweep. `graph` is that of its cells."""
    axes: dict[str, list[JsonValue]] = {}
    for cell in cells.each:
        for key, value in cell.place.items():
            values = axes.setdefault(key, [])
            if value not in values:
                values.append(value)
    lines = [_line(cell, graph.cells[cell.name], store) for cell in cells.each]
    chosen = _chosen(lines) if cells.choose == "validation" else None
    return {"axes": axes, "cells": lines, "choose": cells.choose, "chosen": chosen}


def _chosen(lines: Sequence[CellLine]) -> str | None:
    """The cell of the largest validation accuracy; of equal ones the first."""
    known = [line for line in lines if line["validation"] is not None]
    return max(known, key=lambda line: line["validation"] or 0.0)["name"] if known else None


def _line(cell: Cell, graph: Graph, store: Store) -> CellLine:
    blank: CellLine = {
        "name": cell.name,
        "place": dict(cell.place),
        "verdict": "",
        "sparsity": None,
        "dense": {},
        "arms": [],
        "differences": [],
        "validation": None,
    }
    try:
        numbers = {
            key: measured.numbers(store, "compare", key) for key in (graph.summary, *(m.key for m in graph.set_measures))
        }
    except DamagedArtifact:
        return blank
    summary = cast("Summary", numbers[graph.summary])
    said = outcome(answer(graph, numbers), summary, metrics(graph), None, graph.pipeline.claim_p)
    return {
        **blank,
        "verdict": said["verdict"],
        "sparsity": said["sparsity"],
        "dense": {name: estimate_of(summary["dense"], name) for name in (ACCURACY, BARRIER)},
        "arms": said["arms"],
        "differences": said["differences"],
        "validation": _validation(graph, said["level"], store),
    }


def _validation(graph: Graph, level: int | None, store: Store) -> float | None:
    """The mean validation accuracy, a fraction, of the arm `versus` at a level, over initialisations and copies."""
    units = [u for u in graph.units if u.arm == graph.pipeline.versus and u.level == level and "accuracy" in u.measured]
    means: list[float] = []
    for unit in units:
        accuracy: Mapping[str, Estimate] = measured.numbers(store, "compare", unit.measured["accuracy"])["accuracy"]
        if "validation" not in accuracy:
            return None
        means.append(accuracy["validation"]["mean"])
    return fmean(means) if means else None
