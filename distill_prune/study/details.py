"""What a report shows of single tickets: planes, spectra, layers, lines between tickets, and a row for every ticket.

`numbers` are those of the artifacts that are there, by key; a ticket that is not there has no records.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from distill_prune.analyze import records
from distill_prune.analyze.metric import BARRIER
from distill_prune.plan.nodes import Graph, Unit
from distill_prune.study.records import (
    Between,
    Curve,
    Density,
    Diagonal,
    LayerCount,
    LayerTrace,
    Layerwise,
    Place,
    Plane,
    Ticket,
    Training,
)

Numbers = Mapping[str, Mapping[str, Any]]


def _measured(graph: Graph, numbers: Numbers, analysis: str) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Where a unit stands, and the numbers of one analysis of it."""
    for u in graph.units:
        measurement = numbers.get(u.measured.get(analysis, ""))
        if measurement and u.ticket in numbers:
            yield _place(u, numbers), measurement


def _place(u: Unit, numbers: Numbers) -> Place:
    place: Place = {"arm": u.arm, "seed": u.seed, "level": u.level, "sparsity": numbers[u.ticket]["sparsity"]}
    return place if u.draw is None else {**place, "draw": u.draw}


def curves(graph: Graph, numbers: Numbers) -> Iterator[Curve]:
    for place, line in _measured(graph, numbers, "connectivity"):
        test, train = line["curves"]["test_error"], line["curves"]["train_error"]
        yield {**place, "alphas": line["alphas"], "test_error": test, "train_error": train}


def planes(graph: Graph, numbers: Numbers) -> Iterator[Plane]:
    for place, landscape in _measured(graph, numbers, "landscape"):
        for kind, plane in landscape["planes"].items():
            if plane is not None:
                yield cast(Plane, {**place, "kind": kind, **plane})


def densities(graph: Graph, numbers: Numbers) -> Iterator[Density]:
    for place, spectrum in _measured(graph, numbers, "spectrum"):
        for copy in spectrum["copies"]:
            shape = {**copy["density"], "eigenvalues": copy["eigenvalues"]}
            yield cast(Density, {**place, "copy": copy["copy"], **shape})


def diagonals(graph: Graph, numbers: Numbers) -> Iterator[Diagonal]:
    for place, diagonal in _measured(graph, numbers, "diagonal"):
        for copy in diagonal["copies"]:
            yield cast(Diagonal, {**place, **copy})


def drawn_copies(graph: Graph) -> set[str]:
    """The keys of the copies whose losses are shown: of the first, the middle and the last level of the study."""
    levels = sorted({u.level for u in graph.units if u.copies})
    shown = {levels[i] for i in (0, len(levels) // 2, -1)} if levels else set()
    return {key for u in graph.units if u.level in shown for key in u.copies}


def trainings(graph: Graph, numbers: Numbers) -> Iterator[Training]:
    """The losses of the retrained copies at hand that recorded some."""
    for u in graph.units:
        for copy, key in enumerate(u.copies):
            if u.ticket in numbers and (losses := numbers.get(key, {}).get("train_loss")):
                yield {**_place(u, numbers), "copy": copy, "losses": list(losses)}


def layers(graph: Graph, numbers: Numbers) -> list[LayerCount]:
    """Remaining weights by layer, means over seeds."""
    counts_by_layer: dict[tuple[str, int, str], list[Mapping[str, int]]] = {}
    for (arm, *_), chain in graph.chains.items():
        for level, key in chain.items():
            for layer, counts in numbers.get(key, {}).get("layers", {}).items():
                counts_by_layer.setdefault((arm, level, layer), []).append(counts)
    return [
        {
            "arm": arm,
            "level": level,
            "layer": layer,
            "remaining": sum(c["remaining"] for c in counts) / len(counts),
            "total": counts[0]["total"],
        }
        for (arm, level, layer), counts in counts_by_layer.items()
    ]


def layerwise(graph: Graph, numbers: Numbers) -> Iterator[Layerwise]:
    for place, measurement in _measured(graph, numbers, "layerwise"):
        for layer, of in measurement["layers"].items():
            excess = {f"excess_{part}": of["excess"][f"{part}_error"]["mean"] for part in ("test", "train")}
            barrier = {BARRIER: of["barrier"]["test_error"]["mean"]}
            yield cast(Layerwise, {**place, "layer": layer, **excess, **barrier})


def layer_traces(graph: Graph, numbers: Numbers) -> list[LayerTrace]:
    """Trace per surviving weight by layer, means over seeds; layers that nothing survives in are left out."""
    traces_by_layer: dict[tuple[str, int, str], list[tuple[float, float]]] = {}
    for place, curvature in _measured(graph, numbers, "curvature"):
        for layer, of in curvature["layers"].items():
            if of["trace_per_weight"] is not None:
                traces = traces_by_layer.setdefault((place["arm"], place["level"], layer), [])
                traces.append((place["sparsity"], of["trace_per_weight"]["mean"]))
    return [
        {
            "arm": arm,
            "level": level,
            "layer": layer,
            "sparsity": traces[0][0],
            "trace_per_weight": sum(t for _, t in traces) / len(traces),
        }
        for (arm, level, layer), traces in traces_by_layer.items()
    ]


def between(graph: Graph, numbers: Numbers) -> Iterator[Between]:
    for b in graph.betweens:
        line = numbers.get(b.key)
        if line is None or "barrier" not in line or b.unit.ticket not in numbers:
            continue
        metrics = {
            BARRIER: line["barrier"]["test_error"]["mean"],
            "barrier_train": line["barrier"]["train_error"]["mean"],
            "excess_test": line["excess"]["test_error"]["mean"],
            "disagreement": line["disagreement"]["mean"],
            "distance": line["distance"]["mean"],
            "shared": line["shared"],
        }
        which = {"kind": b.kind, **_place(b.unit, numbers), "versus": b.other.arm, "versus_level": b.other.level}
        yield cast(Between, {**which, **metrics})


def tickets(graph: Graph, numbers: Numbers, units: Sequence[records.Unit]) -> list[Ticket]:
    """A row for every retrained ticket of the grid, with all that was measured of it."""
    arms = graph.pipeline.placed()
    unit_by_place = {(u["arm"], u["seed"], u.get("draw"), u["level"]): u for u in units}
    rows = []
    for u in graph.units:
        about = numbers.get(u.ticket)
        if about is None:
            continue
        ticket: Ticket = {
            "label": arms[u.arm].arm.label or u.arm,
            "k": str(arms[u.arm].k),
            "remaining": about["remaining"],
            "total": about["total"],
            "key": u.ticket,
            **_place(u, numbers),
        }
        rows.append(cast(Ticket, {**ticket, **unit_by_place.get((*u.chain, u.level), {})}))
    return rows
