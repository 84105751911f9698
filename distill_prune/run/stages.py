"""How each stage computes one artifact from its job and its inputs; those that are one training are in `trainings`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from distill_prune.analyze import ANALYSES
from distill_prune.analyze.inputs import Copies, Input, Pair, Retrained, SetInput, Tickets
from distill_prune.artifacts import SPLITS, Cost, Examples, Mask, Parts, Sentences
from distill_prune.data import fingerprint, prepare
from distill_prune.distill import METHODS
from distill_prune.errors import RunError, UserError, needed
from distill_prune.models import Model
from distill_prune.plan.jobs import (
    CompareJob,
    ControlJob,
    DataJob,
    DenseJob,
    DistillJob,
    LevelJob,
    ScoredLevelJob,
)
from distill_prune.plan.nodes import Node
from distill_prune.plan.roles import keys_of
from distill_prune.progress import Progress
from distill_prune.prune.controls import control_ticket, intersection_ticket
from distill_prune.prune.imp import initial, level_after, level_zero
from distill_prune.prune.permuted import permuted_ticket
from distill_prune.prune.signs import signs_ticket
from distill_prune.rng import Streams
from distill_prune.run.collect import collected
from distill_prune.run.reader import Reader
from distill_prune.run.trainings import chain_data, fitting, source_of, streams_of
from distill_prune.tree import to


def compute(node: Node, reader: Reader, progress: Progress) -> Parts:
    """The tensors and numbers of an artifact that is not one training."""
    inputs = node.inputs
    match node.job:
        case DataJob() as job:
            return _data(job)
        case DistillJob() as job:
            return _distill(job, inputs, reader, progress)
        case DenseJob() as job:
            return _dense(job, inputs, reader)
        case LevelJob() as job:
            return _level(job, inputs, reader)
        case ControlJob() as job:
            return _control(job, inputs, reader)
        case CompareJob() as job:
            return _compare(job, inputs, reader, progress)
        case job:
            raise RunError(f"no stage computes a {type(job).__name__}")


def _data(job: DataJob) -> Parts:
    now = fingerprint(job.source)
    if now != job.fingerprint:
        raise UserError("the data source changed while it was being used", got=now, expected=job.fingerprint, fix="run again")
    return prepare(job.source).parts()


def _distill(job: DistillJob, inputs: Mapping[str, str], reader: Reader, progress: Progress) -> Parts:
    source = source_of(job, inputs, reader)
    streams = Streams(job.seed, ("distill",))
    distilled = METHODS[job.method.name].distill(job.method, source, streams, reader.device, progress)
    parts = distilled.set.parts()
    return Parts(parts.tensors, {**parts.numbers, "cost": distilled.cost.json(), "record": distilled.record})


def _dense(job: DenseJob, inputs: Mapping[str, str], reader: Reader) -> Parts:
    """Level 0 at W_0, for which nothing is trained."""
    model = reader.model_for(job.model, inputs["data"])
    return level_zero(model, initial(model, job.seed, job.draw), Cost()).parts(None)


def _level(job: LevelJob, inputs: Mapping[str, str], reader: Reader) -> Parts:
    """A level whose criterion trains nothing."""
    previous, dense = reader.ticket(inputs["previous"]), reader.ticket(inputs["dense"])
    data = chain_data(inputs, reader)
    model: Model | None = None
    examples: Examples | None = None
    if isinstance(job, ScoredLevelJob):
        if "images" in inputs:
            model, examples = fitting(job.model, inputs["images"], data, previous, reader)
        else:
            model = reader.model_for(job.model, data)
    streams, device = streams_of(job), reader.device
    ticket = level_after(model, previous, dense, job.step, streams, None, examples=examples, device=device, level=job.level)
    return ticket.parts(dense.state)


def _control(job: ControlJob, inputs: Mapping[str, str], reader: Reader) -> Parts:
    dense = reader.ticket(inputs["dense"])
    if job.control.kind == "intersection":
        return intersection_ticket([reader.ticket(key) for key in keys_of("of", inputs)], dense).parts(dense.state)
    ticket = reader.ticket(inputs["of"])
    streams = Streams(job.seed, ("control",))
    copies = {role: to(reader.state(inputs[role]), "cpu") for role in ("trained", "target") if role in inputs}
    if job.control.kind == "signs":
        control = signs_ticket(job.control, ticket, dense, copies["trained"])
    elif job.control.kind == "permuted":
        model = reader.model_for(needed(job.model, "a network", "permuted"), chain_data(inputs, reader))
        control = permuted_ticket(model, ticket, dense, copies["trained"], copies["target"], streams)
    else:
        control = control_ticket(job.control.kind, ticket, dense, streams)
    return control.parts(dense.state)


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
        job.lanes,
    )
