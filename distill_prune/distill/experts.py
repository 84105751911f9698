"""Expert trajectories: teachers trained on real data, their parameters kept at the start and at every epoch's end.

Convex experts keep the first and the last of them (artifacts/convex.py).

References:
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), section 3.1,
      https://arxiv.org/abs/2203.11932
"""

from __future__ import annotations

from distill_prune.artifacts import Cost, Examples, Trajectory
from distill_prune.artifacts.convex import convexified
from distill_prune.errors import needed
from distill_prune.models import Model
from distill_prune.progress import Progress
from distill_prune.rng import Streams
from distill_prune.training import Recipe, Trained, Training, train_alone
from distill_prune.tree import select, shapes


def train_expert(
    model: Model,
    examples: Examples,
    recipe: Recipe,
    streams: Streams,
    device: str,
    progress: Progress,
    *,
    convex: bool = False,
) -> tuple[Trajectory, Cost]:
    """One teacher from its own initialisation and SGD noise; row t of its trajectory is the end of epoch t."""
    training = teaching(model, examples, recipe, streams)
    return expert(training, train_alone(training, device, progress), convex=convex)


def teaching(model: Model, examples: Examples, recipe: Recipe, streams: Streams) -> Training:
    """The training of a teacher."""
    start = model.fresh(streams.seed, *streams.names, "init", **dict(streams.parts))
    return Training(model, start, examples, recipe, streams, keep_epochs=True)


def expert(training: Training, trained: Trained, *, convex: bool = False) -> tuple[Trajectory, Cost]:
    """A trained teacher's trajectory, and what it cost."""
    checkpoints = needed(trained.checkpoints, "checkpoints", "an expert")
    record = tuple({"epoch": e + 1.0, "train_loss": loss} for e, loss in enumerate(trained.losses))
    layout = shapes(select(training.start, training.model.parameters))
    return Trajectory(convexified(checkpoints, layout) if convex else checkpoints, layout, record), trained.cost
