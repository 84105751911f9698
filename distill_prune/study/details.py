"""What a report shows of single tickets: planes, spectra, layers, lines between tickets, and a row for every ticket."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from distill_prune.analyze.metric import BARRIER
from distill_prune.plan.nodes import Graph, Unit

Record = dict[str, Any]
Numbers = Mapping[str, Mapping[str, Any]]


def details(graph: Graph, numbers: Numbers) -> dict[str, list[Record]]:
    """The lists of `Study` by name, from the numbers of the artifacts that are there, by key."""
    return {
        "planes": list(_planes(graph, numbers)),
        "densities": list(_densities(graph, numbers)),
        "diagonals": list(_diagonals(graph, numbers)),
        "layerwise": list(_layerwise(graph, numbers)),
        "layer_traces": _layer_traces(graph, numbers),
        "between": list(_between(graph, numbers)),
    }


def _measured(graph: Graph, numbers: Numbers, analysis: str) -> Iterator[tuple[Record, Mapping[str, Any]]]:
    """Where a unit stands, and the numbers of one analysis of it."""
    for u in graph.units:
        found = numbers.get(u.measured.get(analysis, ""))
        if found and u.ticket in numbers:
            yield _place(u, numbers), found


def _place(u: Unit, numbers: Numbers) -> Record:
    return {"arm": u.arm, "seed": u.seed, "level": u.level, "sparsity": numbers[u.ticket]["sparsity"]}


def _planes(graph: Graph, numbers: Numbers) -> Iterator[Record]:
    for place, found in _measured(graph, numbers, "landscape"):
        for kind, plane in found["planes"].items():
            if plane is not None:
                yield {**place, "kind": kind, **plane}


def _densities(graph: Graph, numbers: Numbers) -> Iterator[Record]:
    for place, found in _measured(graph, numbers, "spectrum"):
        for copy in found["copies"]:
            yield {**place, "copy": copy["copy"], **copy["density"], "eigenvalues": copy["eigenvalues"]}


def _diagonals(graph: Graph, numbers: Numbers) -> Iterator[Record]:
    for place, found in _measured(graph, numbers, "diagonal"):
        for copy in found["copies"]:
            yield {**place, **copy}


def _layerwise(graph: Graph, numbers: Numbers) -> Iterator[Record]:
    for place, found in _measured(graph, numbers, "layerwise"):
        for layer, of in found["layers"].items():
            yield {
                **place,
                "layer": layer,
                "excess_test": of["excess"]["test_error"]["mean"],
                "excess_train": of["excess"]["train_error"]["mean"],
                BARRIER: of["barrier"]["test_error"]["mean"],
            }


def _layer_traces(graph: Graph, numbers: Numbers) -> list[Record]:
    """Trace per surviving weight by layer, means over seeds; layers that nothing survives in are left out."""
    held: dict[tuple[str, int, str], list[tuple[float, float]]] = {}
    for place, found in _measured(graph, numbers, "curvature"):
        for layer, of in found["layers"].items():
            if of["trace_per_weight"] is not None:
                values = held.setdefault((place["arm"], place["level"], layer), [])
                values.append((place["sparsity"], of["trace_per_weight"]["mean"]))
    return [
        {
            "arm": a,
            "level": n,
            "layer": layer,
            "sparsity": found[0][0],
            "trace_per_weight": sum(t for _, t in found) / len(found),
        }
        for (a, n, layer), found in held.items()
    ]


def _between(graph: Graph, numbers: Numbers) -> Iterator[Record]:
    for b in graph.betweens:
        found = numbers.get(b.key)
        if found is None or "barrier" not in found or b.unit.ticket not in numbers:
            continue
        yield {
            "kind": b.kind,
            **_place(b.unit, numbers),
            "versus": b.other.arm,
            "versus_level": b.other.level,
            BARRIER: found["barrier"]["test_error"]["mean"],
            "barrier_train": found["barrier"]["train_error"]["mean"],
            "excess_test": found["excess"]["test_error"]["mean"],
            "disagreement": found["disagreement"]["mean"],
            "distance": found["distance"]["mean"],
            "shared": found["shared"],
        }


def tickets(graph: Graph, numbers: Numbers, units: Sequence[Mapping[str, Any]]) -> list[Record]:
    """A row for every retrained ticket of the grid, with all that was measured of it."""
    arms = graph.pipeline.placed()
    known = {(u["arm"], u["seed"], u["level"]): u for u in units}
    rows = []
    for u in graph.units:
        about = numbers.get(u.ticket)
        if about is None:
            continue
        rows.append(
            {
                "label": arms[u.arm].arm.label or u.arm,
                "k": str(arms[u.arm].k),
                "remaining": about["remaining"],
                "total": about["total"],
                "key": u.ticket,
                **_place(u, numbers),
                **known.get((u.arm, u.seed, u.level), {}),
            }
        )
    return rows
