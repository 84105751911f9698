"""The one training loop. Experts, dense networks, tickets, controls and retraining all pass through it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill_prune import objective
from distill_prune.arithmetic import ceil_div
from distill_prune.artifacts import Cost, Examples, Mask
from distill_prune.data import cutmix
from distill_prune.data.augment import augment
from distill_prune.errors import UserError
from distill_prune.models import Model
from distill_prune.progress import SILENT, Progress
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams
from distill_prune.training.costs import input_of, training_cost
from distill_prune.training.order import batches
from distill_prune.training.run import Run
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
    """Train from `start` over the steps first..last-1 of the recipe's schedule, with zero optimizer state at `first`.

    Epoch e visits the examples in an order of the stream noise("order", epoch=e), the last batch short where need be;
    step i draws its augmentation from noise("augment", step=i) and its CutMix from noise("cutmix", step=i). Where a mask
    is given, pruned weights are set to exactly zero after every step, so neither momentum nor weight decay brings one
    back. With `keep_epochs` the parameters are copied at the start and at every epoch's end.

    Raises:
        NonFiniteError: the training loss became infinite or NaN.
        UserError: `first` lies beyond the end, or the recipe asks for what network or examples do not have.
    """
    n = len(examples)
    last = _end(recipe.steps(n), first, last)
    _check(recipe, examples, model)
    examples, per_epoch = examples.to(device), ceil_div(n, recipe.batch)
    run = Run.begin(model, start, recipe, first, mask=mask, device=device, keep_epochs=keep_epochs)
    run.resume(progress)
    for rows in batches(examples, recipe, noise, run.step, last):
        epoch, position = divmod(run.step, per_epoch)
        run.set_rate(recipe.lr_at(run.step, n))
        run.update(step_loss(run.module, examples, rows, recipe, noise, run.step), recipe.clip)
        if position == per_epoch - 1 or run.step == last:
            run.end_epoch(epoch, whole=position == per_epoch - 1)
            progress.tick(run.step - first, last - first, f"loss {run.losses[-1]:.3f}")
        if run.step < last and progress.due():
            run.save(progress)
    shape, kind = input_of(examples)
    cost = training_cost(model, n, shape, recipe.batch, first, last, kind)
    return Trained(run.state(), cost, tuple(run.losses), run.checkpoints())


def step_loss(
    module: torch.nn.Module, examples: Examples, rows: Tensor, recipe: Recipe, noise: Streams, step: int
) -> Tensor:
    """The loss of one step on `rows` (B,), augmented and mixed, a scalar.

    The network computes in the recipe's precision, and the loss in that of the weights.
    """
    x, y = augment(examples.inputs(rows), recipe.augment, noise, step), examples.y[rows]
    cut = cutmix.draw(recipe.cutmix, recipe.cutmix_beta, x.shape, noise("cutmix", step=step)) if recipe.cutmix else None
    if cut is not None:
        x = cutmix.apply(x, cut)
    with torch.autocast(x.device.type, torch.bfloat16, enabled=recipe.precision == "bfloat16"):
        logits = module(x)
    logits = logits.to(next(module.parameters()).dtype)
    loss = objective.loss(logits, y, smoothing=recipe.label_smoothing)
    if cut is None:
        return loss
    paired_loss = objective.loss(logits, y[cut.pairs.to(y.device)], smoothing=recipe.label_smoothing)
    return cut.share * loss + (1 - cut.share) * paired_loss


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
            mend="a smaller prune.rewind.k",
        )
    return last


def _check(recipe: Recipe, examples: Examples, model: Model) -> None:
    """Refuse what a recipe can do with images alone, or with a network of one head alone.

    Raises:
        UserError: the recipe augments or mixes text, or smooths labels over the classes of several tasks' heads.
    """
    for_images = {"augment": recipe.augment != "none", "cutmix": recipe.cutmix > 0}
    for name in (n for n, asked in for_images.items() if asked and examples.text):
        raise UserError(f"{name} is for images, and these examples are text", mend=f"leave {name} out of the recipe")
    if model.heads and recipe.label_smoothing:
        raise UserError("label_smoothing would reach the classes of other tasks' heads", mend="leave it out of the recipe")
