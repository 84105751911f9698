"""The stages that train a network: the training that an artifact takes, and the artifact that comes of it.

Reading the inputs, the steps and the rest are apart, so that a worker can give several artifacts their steps together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from distill_prune.artifacts import Examples, Parts, Ticket, Weights
from distill_prune.distill import Source
from distill_prune.distill.experts import expert, teaching
from distill_prune.distill.kept import kept
from distill_prune.errors import UserError
from distill_prune.models import Model
from distill_prune.plan.jobs import DenseJob, DistillJob, ExpertsJob, LevelJob, RetrainJob, TrainedLevelJob
from distill_prune.plan.nodes import Node
from distill_prune.plan.roles import keys_of
from distill_prune.prune.imp import level_after, level_zero, rewinding
from distill_prune.rng import Streams
from distill_prune.run.reader import Reader
from distill_prune.settings import Entry
from distill_prune.training import Recipe, Trained, Training


@dataclass(frozen=True)
class Task:
    """The training that an artifact takes, and the artifact's parts once it is done."""

    training: Training
    parts: Callable[[Trained], Parts]


def task_of(node: Node, reader: Reader) -> Task | None:
    """The task of an artifact that is one training; None of others."""
    match node.job:
        case ExpertsJob() as job:
            return _expert(job, node.inputs, reader)
        case DenseJob(recipe=Recipe() as recipe) as job:
            return _dense(job, recipe, node.inputs, reader)
        case TrainedLevelJob() as job:
            return _level(job, node.inputs, reader)
        case RetrainJob() as job:
            return _copy(job, node.inputs, reader)
        case _:
            return None


def _expert(job: ExpertsJob, inputs: Mapping[str, str], reader: Reader) -> Task:
    source = source_of(job, inputs, reader)
    training = teaching(source.network, source.train, job.recipe, Streams(job.seed, ("experts",)).under(index=job.index))

    def parts(trained: Trained) -> Parts:
        trajectory, cost = expert(training, trained, convex=job.convex)
        plain = trajectory.parts()
        return Parts(plain.tensors, {**plain.numbers, "cost": cost.json()})

    return Task(training, parts)


def _dense(job: DenseJob, recipe: Recipe, inputs: Mapping[str, str], reader: Reader) -> Task:
    model = reader.model_for(job.model, inputs["data"])
    examples = reader.examples(inputs.get("images", inputs["data"]), inputs["data"])
    training = rewinding(model, job.seed, examples, recipe, job.k.steps(len(examples), recipe.batch), job.draw)
    return Task(training, lambda trained: level_zero(model, trained.state, trained.cost).parts(None))


def _level(job: TrainedLevelJob, inputs: Mapping[str, str], reader: Reader) -> Task:
    previous, dense = reader.ticket(inputs["previous"]), reader.ticket(inputs["dense"])
    model, examples = fitting(job.model, inputs["images"], chain_data(inputs, reader), previous, reader)
    streams, first = streams_of(job), job.first.steps(len(examples), job.recipe.batch)

    def parts(trained: Trained) -> Parts:
        ticket = level_after(
            model, previous, dense, job.step, streams, trained, examples=examples, device=reader.device, level=job.level
        )
        return ticket.parts(dense.state)

    return Task(Training(model, previous.state, examples, job.recipe, streams, previous.mask, first), parts)


def _copy(job: RetrainJob, inputs: Mapping[str, str], reader: Reader) -> Task:
    model, ticket = reader.model_for(job.model, inputs["data"]), reader.ticket(inputs["ticket"])
    examples = reader.part(inputs["data"], "train")
    noise = Streams(job.seed, ("retrain",)).under(copy=job.copy_index)
    first = job.first.steps(len(examples), job.recipe.batch)

    def parts(trained: Trained) -> Parts:
        numbers = {"cost": trained.cost.json(), "train_loss": list(trained.losses)}
        if model.frozen:
            numbers["frozen"] = list(model.frozen)
        return Weights({n: t for n, t in trained.state.items() if n not in model.frozen}, numbers).parts()

    return Task(Training(model, ticket.state, examples, job.recipe, noise, ticket.mask, first), parts)


def source_of(job: ExpertsJob | DistillJob, inputs: Mapping[str, str], reader: Reader) -> Source:
    """What experts see, or a method may use: the real images, all or those that scorers choose; network and experts."""
    images = reader.images(inputs["data"])
    model = reader.model_for(job.model, inputs["data"]) if job.model is not None else None
    scorers, experts = ([reader.trajectory(key) for key in keys_of(role, inputs)] for role in ("scorer", "expert"))
    source = Source(reader.part(inputs["data"], "train"), images.classes, images.transform, model, scorers)
    return replace(kept(source, job.source), experts=experts)


# -- what levels that train share with those that do not


def chain_data(inputs: Mapping[str, str], reader: Reader) -> str:
    """The key of the data set of a level's chain."""
    return reader.store.manifest("prune", inputs["dense"]).made_from("data")


def streams_of(job: LevelJob) -> Streams:
    """The random streams of a level. One-shot levels come out of one training, so that their masks nest."""
    return Streams(job.seed, ("prune",)).under(level=job.level if job.step.rounds == 1 else 1)


def fitting(settings: Entry, images: str, data: str, previous: Ticket, reader: Reader) -> tuple[Model, Examples]:
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
