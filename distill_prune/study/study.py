"""What a report is laid out from: plain data read from the store, with what is missing said as missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from distill_prune.analyze.answer import Answer, SetScore, compare
from distill_prune.analyze.metric import foreign, tested
from distill_prune.errors import DamagedArtifact
from distill_prune.models import MODELS
from distill_prune.plan.nodes import Graph, Node, is_control
from distill_prune.run.collect import gather
from distill_prune.settings import canonical
from distill_prune.store.store import Store
from distill_prune.study.details import details, tickets

if TYPE_CHECKING:
    from distill_prune.artifacts import SyntheticSet

Record = dict[str, Any]


@dataclass(frozen=True)
class Study:
    """One study as plain data. Shares are fractions; `summary` is None until every measurement is there.

    `tasks` has every arm's task, None for the study's own data; `versus` is the arm that its differences are taken from.
    `samples` describes a distilled set of text: {made_of, count, length, width, classes, labels (N, K) or None}.
    """

    name: str
    title: str
    question: str
    config_text: str
    store: str
    summary: Record | None
    missing: list[Record]
    units: list[Record]
    curves: list[Record]
    layers: list[Record]
    synthetic: np.ndarray[Any, Any] | None
    synthetic_labels: list[int]
    classes: list[str]
    evaluations: list[Record]
    rankings: list[Record]
    answer: Answer
    distillation: Record | None
    provenance: list[Record]
    versions: dict[str, str]
    sets: list[str] = field(default_factory=list)
    data: Record = field(default_factory=dict)
    planes: list[Record] = field(default_factory=list)
    densities: list[Record] = field(default_factory=list)
    diagonals: list[Record] = field(default_factory=list)
    layerwise: list[Record] = field(default_factory=list)
    layer_traces: list[Record] = field(default_factory=list)
    between: list[Record] = field(default_factory=list)
    tickets: list[Record] = field(default_factory=list)
    versus: str = "real"
    tasks: dict[str, str | None] = field(default_factory=dict)
    samples: Record | None = None
    plugins: tuple[str, ...] = ()


def read(name: str, graph: Graph, store: Store) -> Study:
    """Everything that the report shows, as far as the store holds it; damaged artifacts count as missing."""
    missing, provenance, numbers = [], [], {}
    versions: dict[str, str] = {}
    for key, node in graph.nodes.items():
        try:
            manifest = store.check(node.stage, key, sizes_only=True)
            if node.stage in ("prune", "compare", "distill", "experts", "data"):
                numbers[key] = store.numbers(node.stage, key)
        except DamagedArtifact:
            missing.append({"stage": node.stage, "key": key, "label": node.label})
            continue
        versions |= manifest.versions
        shown = manifest.model_dump(include={"stage", "key", "seconds", "peak_mb", "device", "created"})
        provenance.append(shown | {"label": node.label})
    job = graph.nodes[graph.summary].job
    roles = job.roles["inputs"]  # type: ignore[attr-defined]
    summary_inputs = graph.nodes[graph.summary].inputs
    found = {role: numbers[k] for role, k in summary_inputs.items() if k in numbers}
    units = gather(roles, found)["units"]
    images, labels, samples, record = _synthetic(graph, store, numbers)
    data = numbers.get(graph.data, {})
    return Study(
        name=name,
        title=graph.pipeline.title or name,
        question=graph.pipeline.question,
        config_text=yaml.safe_dump(canonical(graph.pipeline), sort_keys=False, allow_unicode=True),
        store=str(store.root),
        summary=numbers.get(graph.summary),
        missing=missing,
        units=units,
        curves=_curves(graph, numbers),
        layers=_layers(graph, numbers),
        synthetic=images,
        synthetic_labels=labels,
        classes=list(data.get("classes", [])),
        evaluations=_evaluations(graph, numbers),
        rankings=_rankings(graph, numbers),
        answer=answer(graph, numbers),
        distillation=record,
        provenance=provenance,
        versions=versions,
        sets=list(graph.sets),
        data=_data(graph, data) if data else {},
        **details(graph, numbers),
        tickets=tickets(graph, numbers, units),
        versus=graph.pipeline.versus,
        tasks={name: at.task for name, at in graph.pipeline.placed().items()},
        samples=samples,
        plugins=foreign(graph.pipeline.compare),
    )


def answer(graph: Graph, numbers: Mapping[str, Record]) -> Answer:
    """What the study says of its tickets, where an arm prunes with a learned set, and of its sets."""
    treated = any(a.images in graph.sets and not is_control(graph.methods[a.images]) for a in graph.pipeline.arms.values())
    sets = tuple(SetScore(e["set"], e["network"], e["accuracy"]) for e in _evaluations(graph, numbers))
    summary = numbers.get(graph.summary)
    if summary is None or (sets and not treated):
        return Answer(sets=sets)
    metrics = {m.name: m for m in tested(foreign(graph.pipeline.compare))}
    arms, rows, paired, scan, onset = (summary[name] for name in ("arms", "rows", "paired", "scan", "onset"))
    return Answer(compare(arms, rows, paired, scan, onset, graph.pipeline.versus, metrics), sets)


def _data(graph: Graph, numbers: Record) -> Record:
    """What the data are: `task` is there where they are one task of several that the data set has."""
    task = getattr(graph.pipeline.data, "task", None)
    said = {"title": _title(graph)} | {k: numbers[k] for k in ("counts", "shape", "transform")}
    return said | ({"task": str(task)} if task else {})


def _title(graph: Graph) -> str:
    """What to call the data: said in the pipeline, else the data set's task, the folder's or file's name, or its own name."""
    source: Any = graph.pipeline.data
    if task := getattr(source, "task", ""):
        return str(source.title or f"{source.name} {task}")
    return str(getattr(source, "title", "") or Path(getattr(source, "path", "")).name or source.name)


def _curves(graph: Graph, numbers: dict[str, Record]) -> list[Record]:
    out = []
    for u in graph.units:
        found = numbers.get(u.measured.get("connectivity", ""))
        if found and u.ticket in numbers:
            out.append(
                {
                    "arm": u.arm,
                    "seed": u.seed,
                    "level": u.level,
                    "sparsity": numbers[u.ticket]["sparsity"],
                    "alphas": found["alphas"],
                    **{k: found["curves"][k] for k in ("test_error", "train_error")},
                }
            )
    return out


def _layers(graph: Graph, numbers: dict[str, Record]) -> list[Record]:
    """Remaining weights by layer, means over seeds."""
    held: dict[tuple[str, int, str], list[Record]] = {}
    for (arm, _), chain in graph.chains.items():
        for level, key in chain.items():
            for layer, counts in numbers.get(key, {}).get("layers", {}).items():
                held.setdefault((arm, level, layer), []).append(counts)
    return [
        {
            "arm": a,
            "level": n,
            "layer": layer,
            "remaining": sum(c["remaining"] for c in found) / len(found),
            "total": found[0]["total"],
        }
        for (a, n, layer), found in held.items()
    ]


def _synthetic(graph: Graph, store: Store, numbers: dict[str, Record]) -> tuple[Any, list[int], Record | None, Record | None]:
    """The first set that is no control (else the first): as 8-bit pixels with its labels, or, of text, as what its samples
    are; and the record of its distillation."""
    from distill_prune.artifacts import SyntheticSet

    there = {n: k for n, k in graph.sets.items() if k in numbers or store.sound("distill", k)}
    if not there:
        return None, [], None, None
    learned = [k for n, k in there.items() if not is_control(graph.methods[n])]
    key = (learned or list(there.values()))[0]
    made = SyntheticSet.of(store.read("distill", key))
    record = store.numbers("distill", key).get("record") or None
    shown = None if not record else {"iterations": record["iteration"], "loss": record["loss"], "lr": record.get("lr")}
    if made.transform.kind == "text":
        return None, [], _samples(made), shown
    pixels = (made.transform.invert(made.images).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return (pixels[..., 0] if pixels.shape[-1] == 1 else pixels), made.hard.tolist(), None, shown


def _samples(made: SyntheticSet) -> Record:
    """What a set of text is: its samples are word embeddings, or sentences of the training data, with soft or hard labels."""
    embedded = made.images.is_floating_point()
    return {
        "made_of": "embeddings" if embedded else "sentences",
        "count": len(made.images),
        "length": made.images.shape[1 if embedded else 2],
        "width": made.images.shape[2] if embedded else None,
        "classes": made.hard.tolist(),
        "labels": None if made.label_kind == "classes" else made.targets.tolist(),
    }


def _evaluations(graph: Graph, numbers: Mapping[str, Record]) -> list[Record]:
    out = []
    for m in graph.set_measures:
        if m.analysis == "evaluation" and m.key in numbers:
            n = numbers[m.key]
            out.append(
                {
                    "label": m.set,
                    "set": m.set,
                    "network": m.architecture or n["network"],
                    "accuracy": n["accuracy"]["test"],
                    "validation": n["accuracy"].get("validation"),
                    "accuracies": [net["test"]["accuracy"] for net in n["nets"]],
                }
            )
    return out


def _rankings(graph: Graph, numbers: dict[str, Record]) -> list[Record]:
    names = ("hlr", "ior", "lrs")
    return [
        {"set": m.set, "network": numbers[m.key]["network"], **{n: numbers[m.key][n] for n in names}}
        for m in graph.set_measures
        if m.analysis == "ranking" and m.key in numbers
    ]


def cost_of(graph: Graph, store: Store) -> dict[str, float]:
    """A rough cost in seconds of every artifact: the mean of finished ones of its kind, else a guess by steps."""
    seconds: dict[str, list[float]] = {}
    for key, node in graph.nodes.items():
        if store.has(node.stage, key) and len(seconds.get(node.kind, [])) < 8:
            seconds.setdefault(node.kind, []).append(store.manifest(node.stage, key).seconds)
    return {
        key: sum(known) / len(known) if (known := seconds.get(node.kind)) else _guess(node) for key, node in graph.nodes.items()
    }


GUESS = {"data": 2.0, "experts": 10.0, "distill": 60.0, "prune": 2.0, "retrain": 2.0, "compare": 1.0}


def _guess(node: Node) -> float:
    """A guess from the length of training, where it is known: 1.5 ms a step of a small network on one core, or what the
    network's entry says of itself."""
    job: Any = node.job
    steps, model = 0, getattr(job, "model", None)
    each = 1.5e-3 if model is None else MODELS[model.name].STEP_SECONDS
    if (method := getattr(job, "method", None)) is not None:
        steps = getattr(method, "iterations", 0) * getattr(method, "inner_steps", 1) * 3
    elif (recipe := getattr(job, "recipe", None)) is not None:
        steps = recipe.length.steps(2000, recipe.batch)
    return 0.05 + each * steps if steps else GUESS[node.stage] / 20
