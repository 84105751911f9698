"""What a report is laid out from: plain data of the store, what is missing included."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import yaml
from pydantic import ConfigDict, Field, ValidationError

from distill_prune.analyze.answer import Answer, SetScore, compare
from distill_prune.analyze.declared import foreign, tested
from distill_prune.analyze.records import Summary, Unit
from distill_prune.errors import DamagedArtifact
from distill_prune.plan.nodes import Graph, is_control
from distill_prune.run import measured
from distill_prune.run.collect import gather
from distill_prune.settings import Settings, canonical
from distill_prune.store.store import Store
from distill_prune.study.details import (
    Numbers,
    between,
    curves,
    densities,
    diagonals,
    layer_traces,
    layers,
    layerwise,
    planes,
    tickets,
)
from distill_prune.study.records import (
    Between,
    Curve,
    Data,
    Density,
    Diagonal,
    Distillation,
    Evaluation,
    LayerCount,
    LayerTrace,
    Layerwise,
    Missing,
    Plane,
    Provenance,
    Ranking,
    Samples,
    Ticket,
)

if TYPE_CHECKING:
    from distill_prune.artifacts import SyntheticSet


@dataclass(frozen=True)
class Study:
    """One study as plain data. Shares are fractions; `summary` is None until every measurement is there.

    `tasks` has every arm's task, None for the study's own data; `versus` is the arm that its differences are taken from.
    `plugins` are the analyses of plugins that declare metrics.
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
    synthetic: np.ndarray[Any, Any] | None
    synthetic_labels: list[int]
    classes: list[str]
    evaluations: list[Evaluation]
    rankings: list[Ranking]
    answer: Answer
    distillation: Distillation | None
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
    tasks: dict[str, str | None] = field(default_factory=dict)
    samples: Samples | None = None
    plugins: tuple[str, ...] = ()


def read(name: str, graph: Graph, store: Store) -> Study:
    """Everything that the report shows, as far as the store holds it; damaged artifacts count as missing."""
    missing: list[Missing] = []
    provenance: list[Provenance] = []
    numbers: dict[str, dict[str, Any]] = {}
    versions: dict[str, str] = {}
    for key, node in graph.nodes.items():
        try:
            manifest = store.check(node.stage, key, sizes_only=True)
            if node.stage in ("prune", "compare", "distill", "experts", "data"):
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
    shown = _synthetic(graph, store, numbers)
    data = numbers.get(graph.data, {})
    return Study(
        name=name,
        title=graph.pipeline.title or name,
        question=graph.pipeline.question,
        config_text=yaml.safe_dump(canonical(graph.pipeline), sort_keys=False, allow_unicode=True),
        store=str(store.root),
        summary=cast(Summary | None, numbers.get(graph.summary)),
        missing=missing,
        units=units,
        curves=list(curves(graph, numbers)),
        layers=layers(graph, numbers),
        synthetic=shown.pixels,
        synthetic_labels=shown.labels,
        classes=list(data.get("classes", [])),
        evaluations=_evaluations(graph, numbers),
        rankings=_rankings(graph, numbers),
        answer=answer(graph, numbers),
        distillation=shown.course,
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
        claim_p=graph.pipeline.claim_p,
        tasks={name: at.task for name, at in graph.pipeline.placed().items()},
        samples=shown.samples,
        plugins=foreign(graph.pipeline.compare),
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


@dataclass(frozen=True)
class _Shown:
    """The set that is shown: 8-bit pixels with their labels, or what its samples of text are; and its distillation."""

    pixels: np.ndarray[Any, Any] | None = None
    labels: list[int] = field(default_factory=list)
    samples: Samples | None = None
    course: Distillation | None = None


def _synthetic(graph: Graph, store: Store, numbers: Numbers) -> _Shown:
    """Of the first set that is no control, else of the first."""
    from distill_prune.artifacts import SyntheticSet

    there = {n: k for n, k in graph.sets.items() if k in numbers or store.sound("distill", k)}
    if not there:
        return _Shown()
    learned = [k for n, k in there.items() if not is_control(graph.methods[n])]
    key = (learned or list(there.values()))[0]
    synthetic = store.noun("distill", key, SyntheticSet.of)
    course = _course(measured.numbers(store, "distill", key).get("record"))
    if synthetic.transform.kind == "text":
        return _Shown(samples=_samples(synthetic), course=course)
    return _Shown(eight_bit(synthetic), synthetic.hard.tolist(), course=course)


def eight_bit(synthetic: SyntheticSet) -> np.ndarray[Any, Any]:
    """The pixels of a set's images, (N, H, W) where they are gray, else (N, H, W, C), as 8 bits."""
    pixels = (synthetic.transform.invert(synthetic.images).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


class _Course(Settings):
    """What is shown of a method's record."""

    model_config = ConfigDict(strict=True, extra="ignore")

    iteration: list[int | float] = Field(min_length=1)
    loss: list[float]
    lr: list[float] | None = None


def _course(record: object) -> Distillation | None:
    """The course of a distillation; None where the method records something else."""
    try:
        course = _Course.model_validate(record)
    except ValidationError:
        return None
    return {"iterations": [int(i) for i in course.iteration], "loss": course.loss, "lr": course.lr}


def _samples(synthetic: SyntheticSet) -> Samples:
    """What a set of text is: its samples are word embeddings, or sentences of the training data, with soft or hard labels."""
    embedded = synthetic.images.is_floating_point()
    return {
        "made_of": "embeddings" if embedded else "sentences",
        "count": len(synthetic.images),
        "length": synthetic.images.shape[1 if embedded else 2],
        "width": synthetic.images.shape[2] if embedded else None,
        "classes": synthetic.hard.tolist(),
        "labels": None if synthetic.label_kind == "classes" else synthetic.targets.tolist(),
    }


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
