"""The one training loop. Experts, dense networks, tickets, controls and retraining all pass through it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distill_prune.arithmetic import ceil_div
from distill_prune.artifacts import Cost, Examples, Mask
from distill_prune.errors import NonFiniteError, UserError
from distill_prune.models import Model
from distill_prune.models.encoder import Encoder
from distill_prune.progress import SILENT, Progress, Snapshot
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams
from distill_prune.training.batches import check_batches
from distill_prune.training.costs import input_of, training_cost
from distill_prune.training.feeds import Feeds
from distill_prune.training.gradients import Gradients
from distill_prune.training.precision import tf32
from distill_prune.training.run import Run
from distill_prune.training.sharpness import uphill
from distill_prune.tree import State


@dataclass(frozen=True)
class Trained:
    """A trained network.

    `state` holds every tensor, on the CPU; `losses` are the mean training losses of the epochs that were run. Where they
    were asked for, `checkpoints` (T, P) are the parameters at the start and at every epoch's end.
    """

    state: State
    cost: Cost
    losses: tuple[float, ...]
    checkpoints: Tensor | None = None


@dataclass(frozen=True)
class Training:
    """One training before it begins: from `start` over the steps first..last-1 of the recipe's schedule, with zero optimizer
    state at `first`.

    Epoch e visits the examples in an order of the stream noise("order", epoch=e), the last batch short where need be; step i
    draws its augmentation from noise("augment", step=i) and its CutMix from noise("cutmix", step=i). Where a mask is given,
    pruned weights are set to exactly zero after every step, so neither momentum nor weight decay brings one back. With
    `keep_epochs` the parameters are copied at the start and at every epoch's end.
    """

    model: Model
    start: State
    examples: Examples
    recipe: Recipe
    noise: Streams
    mask: Mask | None = None
    first: int = 0
    last: int | None = None
    keep_epochs: bool = False

    @property
    def signature(self) -> tuple[object, ...]:
        """What is equal in trainings that can share their steps."""
        masked = None if self.mask is None else tuple(self.mask.kept)
        size = len(self.examples), self.examples.shape, self.examples.y.dtype, self.examples.y.shape[1:]
        return self.model.identity, self.recipe, size, masked, self.first, self.last, self.keep_epochs


def train(
    model: Model,
    start: State,
    examples: Examples,
    recipe: Recipe,
    noise: Streams,
    *,
    mask: Mask | None = None,
    first: int = 0,
    last: int | None = None,
    device: str | torch.device = "cpu",
    progress: Progress = SILENT,
    keep_epochs: bool = False,
) -> Trained:
    """Train one network as `Training` says.

    Raises:
        NonFiniteError: the training loss became infinite or NaN.
        UserError: `first` lies beyond the end, or the recipe asks for what network or examples do not have.
    """
    return train_alone(Training(model, start, examples, recipe, noise, mask, first, last, keep_epochs), device, progress)


def train_alone(training: Training, device: str | torch.device = "cpu", progress: Progress = SILENT) -> Trained:
    """Train one network.

    Raises:
        NonFiniteError: the training loss became infinite or NaN.
        UserError: as `train`.
    """
    outcome = train_group([training], 1, device, [progress])[0]
    if isinstance(outcome, NonFiniteError):
        raise outcome
    return outcome


def train_group(
    trainings: Sequence[Training], lanes: int, device: str | torch.device = "cpu", progress: Sequence[Progress] = ()
) -> list[Trained | NonFiniteError]:
    """Train networks of one signature, at most `lanes` of them, in shared steps. Lanes that are left over hold copies. What
    each network becomes depends on `lanes`, but neither on its place nor on the others.

    Trainings that have snapshots of several steps go on in several groups. Whether bits depend on the place was measured for
    4, 8 and 16 lanes of every network of images in the table; torch promises it nowhere.

    Raises:
        UserError: more trainings than lanes, or of several signatures; a network that has no form for several lanes; `first`
            lies beyond the end, or the recipe asks for what network or examples do not have.
    """
    if len(trainings) > lanes or len({t.signature for t in trainings}) > 1:
        raise UserError(
            "trainings that share their steps must be alike",
            got=f"{len(trainings)} trainings of {len({t.signature for t in trainings})} signatures",
            expected=f"at most {lanes} of one network, recipe, size of data and part of the schedule",
        )
    check_batches(trainings[0].model, trainings[0].recipe, len(trainings[0].examples))
    listeners = list(progress) or [SILENT] * len(trainings)
    snapshots = [listener.load() for listener in listeners]
    by_step: dict[int, list[int]] = {}
    for index, snapshot in enumerate(snapshots):
        by_step.setdefault(-1 if snapshot is None else snapshot.numbers["step"], []).append(index)
    outcomes: dict[int, Trained | NonFiniteError] = {}
    for members in by_step.values():
        chosen = [trainings[i] for i in members]
        resumed = [s for i in members if (s := snapshots[i]) is not None]
        results = _train_abreast(chosen, lanes, device, [listeners[i] for i in members], resumed)
        outcomes.update(zip(members, results, strict=True))
    return [outcomes[i] for i in range(len(trainings))]


def _train_abreast(
    trainings: Sequence[Training],
    lanes: int,
    device: str | torch.device,
    progress: Sequence[Progress],
    snapshots: Sequence[Snapshot],
) -> list[Trained | NonFiniteError]:
    """Train networks of one signature from one step on. There is a snapshot of each, or of none."""
    one, count = trainings[0], len(trainings)
    model, recipe, n = one.model, one.recipe, len(one.examples)
    last = _end(recipe.steps(n), one.first, one.last)
    _check(recipe, one.examples, model)
    copies = [0] * (lanes - count)
    everyone = [*trainings, *(trainings[i] for i in copies)]
    run = Run.begin(
        model,
        [t.start for t in everyone],
        recipe,
        one.first,
        masks=[t.mask for t in everyone],
        abreast=lanes > 1,
        device=device,
        keep_epochs=one.keep_epochs,
    )
    if snapshots:
        run.resume([*snapshots, *(snapshots[i] for i in copies)])
    feeds = Feeds.of(
        [t.examples for t in everyone],
        recipe,
        [t.noise for t in everyone],
        last,
        device,
        abreast=lanes > 1,
        layouts=isinstance(model.module, Encoder),
    )
    gradients = Gradients(model, run.module, recipe, run.lanes, n)
    per_epoch, notes = ceil_div(n, recipe.batch), [""] * lanes  # of the last whole epoch: a step waits for no loss
    while run.step < last and len(run.failures) < lanes:
        epoch, position = divmod(run.step, per_epoch)
        run.set_rate(recipe.lr_at(run.step, n))
        batch = feeds.batch(run.step)
        with tf32(recipe.precision == "tf32"):
            losses = gradients(batch)
            if recipe.optimizer == "sam":
                with uphill(run, recipe.rho):
                    gradients(batch)
            run.update(losses, recipe.clip)
        if position == per_epoch - 1 or run.step == last:
            run.end_epoch(epoch, whole=position == per_epoch - 1)
            notes = [f"loss {means[-1]:.3f}" for means in run.losses]
            for listener, means in zip(progress, run.losses, strict=False):
                listener.record(run.step, means[-1])
        for listener, note in zip(progress, notes, strict=False):
            listener.tick(run.step - one.first, last - one.first, note)
        for index, listener in enumerate(progress):
            if run.step < last and index not in run.failures and listener.due():
                run.save(listener, index)
    shape, kind = input_of(one.examples)
    cost = training_cost(model, n, shape, recipe.batch, one.first, last, kind)
    cost = replace(cost, images=cost.images * recipe.passes, flops=cost.flops * recipe.passes)
    return [
        run.failures.get(index) or Trained(run.state(index), cost, tuple(run.losses[index]), run.checkpoints(index))
        for index in range(count)
    ]


def _end(total: int, first: int, last: int | None) -> int:
    """The step to stop before: `last`, or the end of the schedule of `total` steps.

    Raises:
        UserError: these steps are not all of the schedule.
    """
    last = total if last is None else last
    if not 0 <= first <= last <= total:
        raise UserError(
            "training would leave its schedule",
            got=f"from step {first} to step {last} of {total}",
            expected="a rewinding step k below the length of the recipe",
            fix="a smaller prune.rewind.k",
        )
    return last


def _check(recipe: Recipe, examples: Examples, model: Model) -> None:
    """Refuse what a recipe can do with images alone, or with a network of one head alone.

    Raises:
        UserError: the recipe augments or mixes text, or smooths labels over the classes of several tasks' heads.
        DataError: there are sentences that the network cannot take.
    """
    for_images = {"augment": recipe.augment != "none", "cutmix": recipe.cutmix > 0}
    for name in (n for n, asked in for_images.items() if asked and examples.text):
        raise UserError(f"{name} is for images, and these examples are text", fix=f"leave {name} out of the recipe")
    if examples.tokens and isinstance(model.module, Encoder):
        model.module.check(examples.x)
    if model.heads and recipe.label_smoothing:
        raise UserError("label_smoothing would reach the classes of other tasks' heads", fix="leave it out of the recipe")
