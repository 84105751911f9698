"""How each stage computes one artifact from its job and its inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from distill_prune.analyze import ANALYSES
from distill_prune.artifacts import (
    SPLITS,
    Mask,
    Measurements,
    Parts,
    Sentences,
    Weights,
)
from distill_prune.data import fingerprint, prepare
from distill_prune.distill import METHODS, Source
from distill_prune.distill.experts import train_expert
from distill_prune.errors import RunError, UserError
from distill_prune.plan.jobs import CompareJob, ControlJob, DataJob, DenseJob, DistillJob, ExpertsJob, LevelJob, RetrainJob
from distill_prune.plan.nodes import Node
from distill_prune.progress import Progress
from distill_prune.prune.controls import control_ticket
from distill_prune.prune.imp import dense_ticket, next_level
from distill_prune.rng import Streams
from distill_prune.run.collect import summarise
from distill_prune.run.reader import Reader
from distill_prune.training import train
from distill_prune.tree import to


def compute(node: Node, reader: Reader, progress: Progress) -> Parts:
    """The artifact's tensors and numbers."""
    return _STAGES[type(node.job)](node.job, node.inputs, reader, progress)


def _data(job: DataJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    found = fingerprint(job.source)
    if found != job.fingerprint:
        raise UserError(
            "the data source changed while it was being used", got=found, expected=job.fingerprint, mend="run again"
        )
    return prepare(job.source).parts()


def _experts(job: ExpertsJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    model, train_part = reader.model_for(job.model, inputs["data"]), reader.part(inputs["data"], "train")
    streams = Streams(job.seed, ("experts",)).under(index=job.index)
    trajectory, cost = train_expert(model, train_part, job.recipe, streams, reader.device, progress)
    parts = trajectory.parts()
    return Parts(parts.tensors, {**parts.numbers, "cost": cost.json()})


def _distill(job: DistillJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    images = reader.images(inputs["data"])
    experts = [reader.store.trajectory(key) for name, key in sorted(inputs.items(), key=_numbered) if name != "data"]
    model = reader.model_for(job.model, inputs["data"]) if job.model is not None else None
    source = Source(reader.part(inputs["data"], "train"), images.classes, images.transform, model, experts)
    made = METHODS[job.method.name].distill(job.method, source, Streams(job.seed, ("distill",)), reader.device, progress)
    parts = made.set.parts()
    return Parts(parts.tensors, {**parts.numbers, "cost": made.cost.json(), "record": made.record})


def _numbered(item: tuple[str, str]) -> tuple[int, str]:
    """expert10 comes after expert9."""
    return len(item[0]), item[0]


def _dense(job: DenseJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    model = reader.model_for(job.model, inputs["data"])
    examples, steps = None, 0
    if job.recipe is not None:
        examples = reader.examples(inputs.get("images", inputs["data"]), inputs["data"])
        steps = job.k.steps(len(examples), job.recipe.batch)
    return dense_ticket(model, job.seed, examples, job.recipe, steps, reader.device, progress, job.draw).parts(None)


def _level(job: LevelJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    previous, dense = reader.ticket(inputs["previous"]), reader.ticket(inputs["dense"])
    model, examples, first = None, None, 0
    data = reader.store.manifest("prune", inputs["dense"]).inputs["data"]
    images = inputs.get("images", data)
    if job.model is not None or "images" in inputs:
        examples = reader.examples(images, data)
    if job.model is not None and examples is not None:
        classes = reader.classes(images)
        own = images == data or examples.tokens
        model = reader.model_for(job.model, data) if own else reader.model(job.model, tuple(examples.shape), classes)
        shapes = {n: model.module.get_parameter(n).shape for n in model.prunable}
        whole = max(len(reader.images(data).classes), 1)
        if max(classes, 1) != whole or any(previous.mask.kept[n].shape != shape for n, shape in shapes.items()):
            raise UserError(
                "the set that a chain prunes with does not fit its network",
                got=f"examples {tuple(examples.shape)}, {classes} classes",
                expected=f"examples of the arm's own task, {whole} classes",
            )
        first = job.first.steps(len(examples), job.recipe.batch) if job.recipe is not None else 0
    ticket = next_level(
        model,
        previous,
        dense,
        job.step,
        # One-shot levels come out of one training, so that their masks nest.
        Streams(job.seed, ("prune",)).under(level=job.level if job.step.rounds == 1 else 1),
        level=job.level,
        examples=examples,
        recipe=job.recipe,
        first=first,
        device=reader.device,
        progress=progress,
    )
    return ticket.parts(dense.state)


def _control(job: ControlJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    ticket, dense = reader.ticket(inputs["of"]), reader.ticket(inputs["dense"])
    return control_ticket(job.control.kind, ticket, dense, Streams(job.seed, ("control",))).parts(dense.state)


def _retrain(job: RetrainJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    model, ticket = reader.model_for(job.model, inputs["data"]), reader.ticket(inputs["ticket"])
    examples = reader.part(inputs["data"], "train")
    trained = train(
        model,
        ticket.state,
        examples,
        job.recipe,
        Streams(job.seed, ("retrain",)).under(copy=job.copy_index),
        mask=ticket.mask,
        first=job.first.steps(len(examples), job.recipe.batch),
        device=reader.device,
        progress=progress,
    )
    numbers = {"cost": trained.cost.json(), "train_loss": list(trained.losses)}
    if model.frozen:
        numbers["frozen"] = list(model.frozen)
    return Weights({n: t for n, t in trained.state.items() if n not in model.frozen}, numbers).parts()


def _compare(job: CompareJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    analysis = ANALYSES[job.analysis.name]
    return _TUPLES[analysis.TAKES](analysis, job, inputs, reader, progress).parts()


def _asked(analysis: Any, job: CompareJob, offered: Mapping[str, Any]) -> Measurements:
    """Call `measure` with the settings and, by the names of its other parameters, what it asks for of what there is."""
    parameters = list(inspect.signature(analysis.measure).parameters.values())[1:]
    unknown = [p.name for p in parameters if p.name not in offered and p.default is p.empty]
    if unknown:
        raise RunError(
            f"analysis '{job.analysis.name}' asks for '{unknown[0]}'",
            expected=f"of what an analysis of a {analysis.TAKES} can have: {', '.join(offered)}",
        )
    return analysis.measure(job.analysis, **{p.name: offered[p.name] for p in parameters if p.name in offered})  # type: ignore[no-any-return]


def _copies(analysis: Any, job: CompareJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Measurements:
    assert job.model is not None and job.seed is not None
    data = inputs["data"]
    states = [reader.state(key) for name, key in sorted(inputs.items(), key=_numbered) if name.startswith("copy")]
    ticket = reader.ticket(inputs["ticket"])
    parts = {name: reader.part(data, name) for name in SPLITS}
    learned = reader.set(inputs["distilled"]).examples(reader.images(data).transform) if "distilled" in inputs else None
    return _asked(
        analysis,
        job,
        {
            "model": reader.model_for(job.model, data),
            "copies": states,
            "masks": [Mask(dict(ticket.mask.kept)).to(reader.device)] * len(states),
            "start": to(ticket.state, reader.device),
            "distilled": None if learned is None else learned.to(reader.device),
            "parts": parts,
            **parts,
            "streams": Streams(job.seed, ("compare",)),
            "progress": progress,
        },
    )


def _pair(analysis: Any, job: CompareJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Measurements:
    return _asked(analysis, job, {name: reader.ticket(inputs[name]).mask for name in ("a", "b")})


def _tickets(analysis: Any, job: CompareJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Measurements:
    assert job.model is not None and job.seed is not None
    offered: dict[str, Any] = {
        "model": reader.model_for(job.model, inputs["data"]),
        "train": reader.part(inputs["data"], "train"),
        "test": reader.part(inputs["data"], "test"),
        "streams": Streams(job.seed, ("compare",)),
        "progress": progress,
    }
    for side in "ab":
        keys = [key for name, key in sorted(inputs.items(), key=_numbered) if name.startswith(f"{side}_copy")]
        offered |= {f"copies_{side}": [reader.state(key) for key in keys]}
        offered |= {f"mask_{side}": reader.ticket(inputs[side]).mask.to(reader.device)}
    return _asked(analysis, job, offered)


def _set(analysis: Any, job: CompareJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Measurements:
    assert job.model is not None
    synthetic, images = reader.set(inputs["set"]), reader.images(inputs["data"])
    if synthetic.lr is None and "rate_of" in inputs:  # a control is trained at the rate of the set that it controls
        synthetic = replace(synthetic, lr=reader.set(inputs["rate_of"]).lr)
    text = isinstance(images, Sentences)
    if (
        (synthetic.transform.kind == "text") != text
        or len(synthetic.classes) != len(images.classes)
        or (not text and tuple(synthetic.images.shape[1:]) != images.shape)
    ):
        raise UserError(
            "the synthetic set does not fit the data",
            got=f"images {tuple(synthetic.images.shape[1:])}, {len(synthetic.classes)} classes",
            expected=f"images {images.shape}, {len(images.classes)} classes",
        )
    return _asked(
        analysis,
        job,
        {
            "model": reader.model_for(job.model, inputs["data"]),
            "synthetic": synthetic,
            "parts": {name: reader.part(inputs["data"], name) for name in SPLITS},
            "transform": images.transform,
            "streams": Streams(0, ("evaluation",)),
            "device": reader.device,
            "progress": progress,
            "network": job.model.name,
        },
    )


def _study(analysis: Any, job: CompareJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Measurements:
    return summarise(analysis, job, inputs, reader.store)


_TUPLES: dict[str, Callable[[Any, CompareJob, Mapping[str, str], Reader, Progress], Measurements]] = {
    "copies": _copies,
    "pair": _pair,
    "tickets": _tickets,
    "set": _set,
    "study": _study,
}
_STAGES: dict[type, Callable[[Any, Mapping[str, str], Reader, Progress], Parts]] = {
    DataJob: _data,
    ExpertsJob: _experts,
    DistillJob: _distill,
    DenseJob: _dense,
    LevelJob: _level,
    ControlJob: _control,
    RetrainJob: _retrain,
    CompareJob: _compare,
}
