"""The tables of a study as files: CSV for a spreadsheet, JSON as it is. Estimates become one column per part."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from distill_prune.analyze.metric import ACCURACY, BARRIER
from distill_prune.analyze.records import TransferRow
from distill_prune.report.style import task_label

if TYPE_CHECKING:
    from distill_prune.study.records import Curve, Density, Distillation, Plane, Training
    from distill_prune.study.study import Both, Study

Record = dict[str, object]


def tables(study: Study) -> dict[str, list[Record]]:
    """Records by table name; tables without a record are left out."""
    summary = study.summary or {}
    records_of: dict[str, Sequence[Mapping[str, object]]] = {
        "arms": summary.get("arms") or [],
        "dense": [{"metric": k, "estimate": v} for k, v in (summary.get("dense") or {}).items()],
        "levels": summary.get("rows") or [],
        "reach": summary.get("reach") or [],
        "scan": summary.get("scan") or [],
        "onset": summary.get("onset") or [],
        "paired": summary.get("paired") or [],
        "transfer": [_moved(study, r) for r in summary.get("transfer") or []],
        "costs": summary.get("costs") or [],
        "runs": study.units,
        "tickets": study.tickets,
        "shares": study.shares,
        "against": [_both(b) for b in study.against.both] if study.against else [],
        "training": [point for t in study.trainings for point in _losses(t)],
        "distillation": [point for s in study.pictures if s.course for point in _course(s.name, s.course)],
        "interpolation": [point for c in study.curves for point in _points(c)],
        "layerwise": study.layerwise,
        "between": study.between,
        "layers": study.layers,
        "layer_traces": study.layer_traces,
        "landscape": [point for p in study.planes for point in _plane(p)],
        "density": [point for d in study.densities for point in _density(d)],
        "eigenvalues": [value for d in study.densities for value in _eigenvalues(d)],
        "diagonal": study.diagonals,
        "evaluation": study.evaluations,
        "ranking": study.rankings,
        "provenance": study.provenance,
        "missing": study.missing,
    }
    return {name: [cleaned(r) for r in records] for name, records in records_of.items() if records}


def _moved(study: Study, row: TransferRow) -> Record:
    """A row of transfer with its target's name in words."""
    return {**row, "target": task_label(study, row["target"])}


def _place(record: Mapping[str, object]) -> Record:
    """Which ticket, and which copy of it, a record is of."""
    return {k: record[k] for k in ("arm", "seed", "level", "sparsity", "copy") if k in record}


def _points(curve: Curve) -> list[Record]:
    """A curve as one record a point."""
    fixed = {k: v for k, v in curve.items() if k not in ("alphas", "test_error", "train_error")}
    points = zip(curve["alphas"], curve["test_error"], curve["train_error"], strict=True)
    return [{**fixed, "alpha": a, "test_error": test, "train_error": train} for a, test, train in points]


def _both(row: Both) -> Record:
    """An arm at a sparsity that two studies have."""
    place: Record = {"arm": row.arm, "sparsity": row.sparsity}
    pairs = {ACCURACY: row.accuracy, BARRIER: row.barrier}
    return place | {
        f"{name}_{side}": e for name, pair in pairs.items() for side, e in zip(("here", "there"), pair, strict=True)
    }


def _losses(training: Training) -> list[Record]:
    """The losses of a retrained copy as one record an epoch."""
    return [{**_place(training), "epoch": epoch, "loss": loss} for epoch, loss in enumerate(training["losses"], start=1)]


def _course(name: str, course: Distillation) -> list[Record]:
    """The course of a distillation as one record an iteration."""
    rates: Sequence[float | None] = course["lr"] or [None] * len(course["loss"])
    points = zip(course["iterations"], course["loss"], rates, strict=False)
    return [{"set": name, "iteration": i, "loss": loss, "lr": lr} for i, loss, lr in points]


def _plane(plane: Plane) -> list[Record]:
    """A plane as one record a point, its marks after the grid with their names."""
    place = {**_place(plane), "kind": plane["kind"]}
    surfaces, at_marks = plane["surfaces"], plane.get("at_marks") or {}
    points = [
        {**place, "x": x, "y": y, "mark": None, **{name: z[i][j] for name, z in surfaces.items()}}
        for i, y in enumerate(plane["y"])
        for j, x in enumerate(plane["x"])
    ]
    marks = [
        {**place, "x": x, "y": y, "mark": mark, **{name: values[i] for name, values in at_marks.items()}}
        for i, (x, y, mark) in enumerate(plane["marks"])
    ]
    return points + marks


def _density(density: Density) -> list[Record]:
    """A spectral density as one record a point of its grid, with its standard error."""
    place = {**_place(density), "sigma": density["sigma"]}
    errors: Sequence[float | None] = density.get("errors") or [None] * len(density["grid"])
    points = zip(density["grid"], density["values"], errors, strict=True)
    return [{**place, "eigenvalue": x, "density": y, "error": error} for x, y, error in points]


def _eigenvalues(density: Density) -> list[Record]:
    """The leading eigenvalues as one record each, the share of the eigenvector that lies in each layer beside them."""
    place = _place(density)
    return [
        {**place, "rank": i, **{k: v for k, v in e.items() if k != "layers"}, "layers": e.get("layers") or {}}
        for i, e in enumerate(density["eigenvalues"], start=1)
    ]


def cleaned(record: Mapping[str, object]) -> Record:
    """A record as plain JSON."""
    return {str(k): clean(v) for k, v in record.items()}


def clean(value: object) -> object:
    """Plain JSON: numbers that JSON does not know become null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return cleaned(value)
    if isinstance(value, list | tuple):
        return [clean(v) for v in value]
    return clean(value.item()) if isinstance(value, np.generic) else value


def _flat(record: Mapping[str, object]) -> Record:
    flat: Record = {}
    for name, value in record.items():
        if isinstance(value, Mapping):
            flat |= {f"{name}_{part}": v for part, v in _flat(value).items()}
        else:
            flat[name] = json.dumps(value) if isinstance(value, list) else value
    return flat


def columns(records: Sequence[Mapping[str, object]]) -> list[Record]:
    """The records with one column for each part of an estimate, all with the same columns; None where a value is not there."""
    rows = [_flat(r) for r in records]
    names = dict.fromkeys(c for r in rows for c in r)
    # A null estimate has no parts: its bare name is not a column beside the parts that others have.
    bare = {c for c in names if all(r.get(c) is None for r in rows) and any(o.startswith(f"{c}_") for o in names)}
    return [{name: row.get(name) for name in names if name not in bare} for row in rows]


def to_csv(records: Sequence[Mapping[str, object]]) -> str:
    """CSV text with a header line; a value that is not there is an empty cell."""
    rows, out = columns(records), io.StringIO()
    writer = csv.DictWriter(out, [*rows[0]] if rows else [], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def to_json(records: Sequence[Mapping[str, object]]) -> str:
    """JSON text, a line for each record."""
    lines = (json.dumps(r, ensure_ascii=False, allow_nan=False) for r in records)
    return "[\n" + ",\n".join(lines) + "\n]\n"
