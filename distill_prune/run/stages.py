"""How each stage computes one artifact from its job and its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from distill_prune.analyze import ANALYSES
from distill_prune.analyze.inputs import Copies, Input, Pair, Retrained, SetInput, Tickets
from distill_prune.artifacts import SPLITS, Examples, Mask, Parts, Sentences, Ticket, Weights
from distill_prune.data import fingerprint, prepare
from distill_prune.distill import METHODS, Source
from distill_prune.distill.experts import train_expert
from distill_prune.errors import RunError, UserError, needed
from distill_prune.models import Model
from distill_prune.plan.jobs import (
    CompareJob,
    ControlJob,
    DataJob,
    DenseJob,
    DistillJob,
    ExpertsJob,
    LevelJob,
    RetrainJob,
    ScoredLevelJob,
    TrainedLevelJob,
)
from distill_prune.plan.nodes import Node
from distill_prune.plan.roles import keys_of
from distill_prune.progress import Progress
from distill_prune.prune.controls import control_ticket
from distill_prune.prune.imp import dense_ticket, next_level
from distill_prune.rng import Streams
from distill_prune.run.collect import collected
from distill_prune.run.reader import Reader
from distill_prune.settings import Entry
from distill_prune.training import train
from distill_prune.tree import to


def compute(node: Node, reader: Reader, progress: Progress) -> Parts:
    """The artifact's tensors and numbers."""
    inputs = node.inputs
    match node.job:
        case DataJob() as job:
            return _data(job)
        case ExpertsJob() as job:
            return _experts(job, inputs, reader, progress)
        case DistillJob() as job:
            return _distill(job, inputs, reader, progress)
        case DenseJob() as job:
            return _dense(job, inputs, reader, progress)
        case LevelJob() as job:
            return _level(job, inputs, reader, progress)
        case ControlJob() as job:
            return _control(job, inputs, reader)
        case RetrainJob() as job:
            return _retrain(job, inputs, reader, progress)
        case CompareJob() as job:
            return _compare(job, inputs, reader, progress)
        case job:
            raise RunError(f"no stage computes a {type(job).__name__}")


def _data(job: DataJob) -> Parts:
    now = fingerprint(job.source)
    if now != job.fingerprint:
        raise UserError("the data source changed while it was being used", got=now, expected=job.fingerprint, mend="run again")
    return prepare(job.source).parts()


def _experts(job: ExpertsJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    model, train_part = reader.model_for(job.model, inputs["data"]), reader.part(inputs["data"], "train")
    streams = Streams(job.seed, ("experts",)).under(index=job.index)
    trajectory, cost = train_expert(model, train_part, job.recipe, streams, reader.device, progress)
    parts = trajectory.parts()
    return Parts(parts.tensors, {**parts.numbers, "cost": cost.json()})


def _distill(job: DistillJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    images = reader.images(inputs["data"])
    experts = [reader.store.trajectory(key) for key in keys_of("expert", inputs)]
    model = reader.model_for(job.model, inputs["data"]) if job.model is not None else None
    source = Source(reader.part(inputs["data"], "train"), images.classes, images.transform, model, experts)
    streams = Streams(job.seed, ("distill",))
    distilled = METHODS[job.method.name].distill(job.method, source, streams, reader.device, progress)
    parts = distilled.set.parts()
    return Parts(parts.tensors, {**parts.numbers, "cost": distilled.cost.json(), "record": distilled.record})


def _dense(job: DenseJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    model = reader.model_for(job.model, inputs["data"])
    examples, steps = None, 0
    if job.recipe is not None:
        examples = reader.examples(inputs.get("images", inputs["data"]), inputs["data"])
        steps = job.k.steps(len(examples), job.recipe.batch)
    return dense_ticket(model, job.seed, examples, job.recipe, steps, reader.device, progress, job.draw).parts(None)


def _level(job: LevelJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    previous, dense = reader.ticket(inputs["previous"]), reader.ticket(inputs["dense"])
    data = reader.store.manifest("prune", inputs["dense"]).inputs["data"]
    model: Model | None = None
    examples: Examples | None = None
    recipe, first = None, 0
    if isinstance(job, TrainedLevelJob):
        model, examples = _fitting(job.model, inputs["images"], data, previous, reader)
        recipe, first = job.recipe, job.first.steps(len(examples), job.recipe.batch)
    elif isinstance(job, ScoredLevelJob) and "images" in inputs:
        model, examples = _fitting(job.model, inputs["images"], data, previous, reader)
    elif isinstance(job, ScoredLevelJob):
        model = reader.model_for(job.model, data)
    ticket = next_level(
        model,
        previous,
        dense,
        job.step,
        # One-shot levels come out of one training, so that their masks nest.
        Streams(job.seed, ("prune",)).under(level=job.level if job.step.rounds == 1 else 1),
        level=job.level,
        examples=examples,
        recipe=recipe,
        first=first,
        device=reader.device,
        progress=progress,
    )
    return ticket.parts(dense.state)


def _fitting(settings: Entry, images: str, data: str, previous: Ticket, reader: Reader) -> tuple[Model, Examples]:
    """The network and the examples that a chain on `data` prunes with: those of `data`, or of a synthetic set beside it.

    Raises:
        UserError: the set has other classes than the data, or its images make a network of another shape than the ticket's.
    """
    examples, classes = reader.examples(images, data), reader.classes(images)
    same = images == data or examples.tokens
    model = reader.model_for(settings, data) if same else reader.model(settings, tuple(examples.shape), classes)
    shapes = {n: model.module.get_parameter(n).shape for n in model.prunable}
    expected = max(len(reader.images(data).classes), 1)
    if max(classes, 1) != expected or any(previous.mask.kept[n].shape != shape for n, shape in shapes.items()):
        raise UserError(
            "the set that a chain prunes with does not fit its network",
            got=f"examples {tuple(examples.shape)}, {classes} classes",
            expected=f"examples of the arm's own task, {expected} classes",
        )
    return model, examples


def _control(job: ControlJob, inputs: Mapping[str, str], reader: Reader) -> Parts:
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
    given: Input
    match analysis.TAKES:
        case "copies":
            given = _copies(job, inputs, reader, progress)
        case "tickets":
            given = _tickets(job, inputs, reader, progress)
        case "pair":
            given = Pair(reader.ticket(inputs["a"]).mask, reader.ticket(inputs["b"]).mask)
        case "set":
            given = _set(job, inputs, reader, progress)
        case "study":
            given = collected(job, inputs, reader.store)
    return analysis.measure(job.analysis, given).parts()


def _copies(job: CompareJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Copies:
    data, ticket = inputs["data"], reader.ticket(inputs["ticket"])
    states = [reader.state(key) for key in keys_of("copy", inputs)]
    learned = reader.set(inputs["distilled"]).examples(reader.images(data).transform) if "distilled" in inputs else None
    return Copies(
        reader.model_for(needed(job.model, "a network", job.analysis.name), data),
        states,
        [Mask(dict(ticket.mask.kept)).to(reader.device)] * len(states),
        to(ticket.state, reader.device),
        {name: reader.part(data, name) for name in SPLITS},
        Streams(needed(job.seed, "a seed", job.analysis.name), ("compare",)),
        None if learned is None else learned.to(reader.device),
        progress,
    )


def _tickets(job: CompareJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Tickets:
    data = inputs["data"]
    a = Retrained([reader.state(k) for k in keys_of("a_copy", inputs)], reader.ticket(inputs["a"]).mask.to(reader.device))
    b = Retrained([reader.state(k) for k in keys_of("b_copy", inputs)], reader.ticket(inputs["b"]).mask.to(reader.device))
    return Tickets(
        reader.model_for(needed(job.model, "a network", job.analysis.name), data),
        a,
        b,
        reader.part(data, "train"),
        reader.part(data, "test"),
        Streams(needed(job.seed, "a seed", job.analysis.name), ("compare",)),
        progress,
    )


def _set(job: CompareJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> SetInput:
    data, settings = inputs["data"], needed(job.model, "a network", job.analysis.name)
    synthetic, images = reader.set(inputs["set"]), reader.images(data)
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
    return SetInput(
        reader.model_for(settings, data),
        synthetic,
        {name: reader.part(data, name) for name in SPLITS},
        images.transform,
        Streams(0, ("evaluation",)),
        reader.device,
        progress,
        settings.name,
    )
