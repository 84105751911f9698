"""What a report is laid out from: plain data of the store, what is missing included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import yaml

from distill_prune.analyze.answer import Answer, SetScore, compare
from distill_prune.analyze.declared import foreign, in_rows, tested
from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.records import Summary, Unit
from distill_prune.analyze.shares import Share, shares
from distill_prune.errors import DamagedArtifact
from distill_prune.plan.nodes import Graph
from distill_prune.run import measured
from distill_prune.run.collect import gather
from distill_prune.run.devices import usual_workers
from distill_prune.settings import canonical
from distill_prune.store.store import Store
from distill_prune.study.details import (
    Numbers,
    between,
    curves,
    densities,
    diagonals,
    drawn_copies,
    layer_traces,
    layers,
    layerwise,
    planes,
    tickets,
    trainings,
)
from distill_prune.study.further import further
from distill_prune.study.layers import layer_titles
from distill_prune.study.outcome import Document, outcome
from distill_prune.study.records import (
    Between,
    Curve,
    Data,
    Density,
    Diagonal,
    Evaluation,
    LayerCount,
    LayerTrace,
    Layerwise,
    Missing,
    Plane,
    Provenance,
    Ranking,
    Ticket,
    Training,
)
from distill_prune.study.sets import SetShown, sets


@dataclass(frozen=True)
class Study:
    """One study as plain data. Shares are fractions; `summary` is None until every measurement is there.

    `tasks` has every arm's task, None for the study's own data; `versus` is the arm that its differences are taken from.
    `copies` are retrained of each ticket. `plugins` are the analyses of plugins that declare metrics. `layer_titles` say what
    layers are whose own names are numbers.
    """

    name: str
    title: str
    question: str
    config_text: str
    store: str
    summary: Summary | None
    missing: list[Missing]
    units: list[Unit]
    curves: list[Curve]
    layers: list[LayerCount]
    pictures: list[SetShown]
    classes: list[str]
    evaluations: list[Evaluation]
    rankings: list[Ranking]
    answer: Answer
    outcome: Document
    provenance: list[Provenance]
    versions: dict[str, str]
    sets: list[str] = field(default_factory=list)
    data: Data = field(default_factory=lambda: Data())
    planes: list[Plane] = field(default_factory=list)
    densities: list[Density] = field(default_factory=list)
    diagonals: list[Diagonal] = field(default_factory=list)
    layerwise: list[Layerwise] = field(default_factory=list)
    layer_traces: list[LayerTrace] = field(default_factory=list)
    between: list[Between] = field(default_factory=list)
    tickets: list[Ticket] = field(default_factory=list)
    versus: str = "real"
    claim_p: float = 0.05
    copies: int = 2
    tasks: dict[str, str | None] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    shares: list[Share] = field(default_factory=list)
    layer_titles: dict[str, str] = field(default_factory=dict)
    against: Against | None = None
    trainings: list[Training] = field(default_factory=list)


@dataclass(frozen=True)
class Both:
    """An arm at a sparsity that both studies have; estimates are those of the first and of the second study."""

    arm: str
    sparsity: float
    accuracy: tuple[Estimate | None, Estimate | None]
    barrier: tuple[Estimate | None, Estimate | None]


@dataclass(frozen=True)
class Setting:
    """A setting that differs, as written; empty where a study has none."""

    name: str
    here: str
    there: str


@dataclass(frozen=True)
class Against:
    """The other study, and how the two differ."""

    other: Study
    both: list[Both]
    only_here: list[str]
    only_there: list[str]
    settings: list[Setting]


def read(name: str, graph: Graph, store: Store) -> Study:
    """Everything that the report shows, as far as the store holds it; damaged artifacts count as missing."""
    missing: list[Missing] = []
    provenance: list[Provenance] = []
    numbers: dict[str, dict[str, Any]] = {}
    versions: dict[str, str] = {}
    drawn = drawn_copies(graph)
    for key, node in graph.nodes.items():
        try:
            manifest = store.check(node.stage, key, sizes_only=True)
            if node.stage != "retrain" or key in drawn:
                numbers[key] = measured.numbers(store, node.stage, key)
        except DamagedArtifact:
            missing.append({"stage": node.stage, "key": key, "label": node.label})
            continue
        versions |= manifest.versions
        about = manifest.model_dump(include={"stage", "key", "seconds", "peak_mb", "device", "created"})
        provenance.append(cast(Provenance, about | {"label": node.label}))
    job = graph.nodes[graph.summary].job
    roles = job.roles["inputs"]  # type: ignore[attr-defined]
    by_role = {role: numbers[k] for role, k in graph.nodes[graph.summary].inputs.items() if k in numbers}
    units = gather(roles, by_role).units
    said = answer(graph, numbers)
    summary = cast(Summary | None, numbers.get(graph.summary))
    metrics = {m.name: m for m in in_rows(foreign(graph.pipeline.compare))}
    more = further(graph, store, usual_workers(graph.pipeline.threads))
    data = numbers.get(graph.data, {})
    return Study(
        name=name,
        title=graph.pipeline.title or name,
        question=graph.pipeline.question,
        config_text=yaml.safe_dump(canonical(graph.pipeline), sort_keys=False, allow_unicode=True),
        store=str(store.root),
        summary=summary,
        missing=missing,
        units=units,
        curves=list(curves(graph, numbers)),
        layers=layers(graph, numbers),
        pictures=list(sets(graph, store, numbers)),
        classes=list(data.get("classes", [])),
        evaluations=_evaluations(graph, numbers),
        rankings=_rankings(graph, numbers),
        answer=said,
        outcome=outcome(said, summary, metrics, more, graph.pipeline.claim_p),
        provenance=provenance,
        versions=versions,
        sets=list(graph.sets),
        data=_data(graph, data) if data else {},
        planes=list(planes(graph, numbers)),
        densities=list(densities(graph, numbers)),
        diagonals=list(diagonals(graph, numbers)),
        layerwise=list(layerwise(graph, numbers)),
        layer_traces=layer_traces(graph, numbers),
        between=list(between(graph, numbers)),
        tickets=tickets(graph, numbers, units),
        versus=graph.pipeline.versus,
        copies=graph.pipeline.retrain.copies,
        claim_p=graph.pipeline.claim_p,
        tasks={name: at.task for name, at in graph.pipeline.placed().items()},
        plugins=foreign(graph.pipeline.compare),
        shares=shares(units, summary["arms"], graph.pipeline.margin) if summary else [],
        layer_titles=layer_titles(graph, store, numbers),
        trainings=list(trainings(graph, numbers)),
    )


def answer(graph: Graph, numbers: Numbers) -> Answer:
    """What the study says of its tickets, where an arm prunes with a learned set, and of its sets."""
    treated = any(graph.is_learned(arm.images) for arm in graph.pipeline.arms.values())
    sets = tuple(SetScore(e["set"], e["network"], e["accuracy"]) for e in _evaluations(graph, numbers))
    summary = numbers.get(graph.summary)
    if summary is None or (sets and not treated):
        return Answer(sets=sets)
    metrics = {m.name: m for m in tested(foreign(graph.pipeline.compare))}
    arms, rows, paired, scan, onset = (summary[name] for name in ("arms", "rows", "paired", "scan", "onset"))
    return Answer(compare(arms, rows, paired, scan, onset, graph.pipeline.versus, metrics), sets)


def _data(graph: Graph, numbers: Mapping[str, Any]) -> Data:
    data: Data = {
        "title": _title(graph),
        "counts": numbers["counts"],
        "shape": numbers["shape"],
        "transform": numbers["transform"],
    }
    if task := dict(graph.pipeline.data).get("task"):
        data["task"] = str(task)
    return data


def _title(graph: Graph) -> str:
    """What to call the data: the pipeline's title, else the data set's task, the folder's or file's name, or the entry's."""
    source = graph.pipeline.data
    fields = dict(source)
    if task := fields.get("task"):
        return str(fields["title"] or f"{source.name} {task}")
    return str(fields.get("title") or Path(fields.get("path") or "").name or source.name)


def _evaluations(graph: Graph, numbers: Numbers) -> list[Evaluation]:
    return [
        {
            "label": m.set,
            "set": m.set,
            "network": m.architecture or n["network"],
            "accuracy": n["accuracy"]["test"],
            "validation": n["accuracy"].get("validation"),
            "accuracies": [net["test"]["accuracy"] for net in n["nets"]],
        }
        for m in graph.set_measures
        if m.analysis == "evaluation" and (n := numbers.get(m.key))
    ]


def _rankings(graph: Graph, numbers: Numbers) -> list[Ranking]:
    return [
        {"set": m.set, "network": n["network"], "hlr": n["hlr"], "ior": n["ior"], "lrs": n["lrs"]}
        for m in graph.set_measures
        if m.analysis == "ranking" and (n := numbers.get(m.key))
    ]
