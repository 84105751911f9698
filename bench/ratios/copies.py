"""Many small trainings: copies of tickets and levels on a small set, in lanes, beside a plain loop that trains one by one."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from measure import Row, Scene, Side

from distill_prune.artifacts import Mask
from distill_prune.models import Model
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams
from distill_prune.training import Training, flops_of_step, train_group
from distill_prune.tree import State
from ratios.made_up import images, network, of_torch
from ratios.optional import ways

COUNT, GOAL = 24, 0.30


def half(model: Model, state: State) -> Mask:
    """The larger half of every layer's weights."""
    return Mask({n: state[n].abs() > state[n].abs().median() for n in model.prunable})


def in_lanes(scene: Scene, trainings: list[Training], lanes: int) -> Callable[[], object]:
    def run() -> None:
        for begin in range(0, len(trainings), lanes):
            train_group(trainings[begin : begin + lanes], lanes, scene.device)

    return run


def sides(scene: Scene, group: list[Training], goal: float | None) -> tuple[list[Side], dict[str, str]]:
    """In lanes, with plain steps and with compiled ones; and why not, where there is none of these."""
    laned, absent = list[Side](), dict[str, str]()
    for lanes in scene.size((8, 16), (4,)):
        eager, compiled, absent = ways(scene, 1, in_lanes(scene, group, lanes))
        laned.append(Side(f"lanes: {lanes}", eager, goal))
        laned += [Side(f"lanes: {lanes}, compiled", run, goal) for run in compiled]
    return laned, absent


def plain(scene: Scene, training: Training, seeds: range) -> None:
    """What a user of PyTorch writes: shuffled batches of tensors, SGD with momentum on a cosine, masks after every step."""
    recipe, x, y = training.recipe, training.examples.x, training.examples.y
    assert training.mask is not None
    steps = recipe.steps(len(x))
    for seed in seeds:
        draws = torch.Generator().manual_seed(seed)
        module = of_torch(training.model.instance(training.start, scene.device)).train()
        weights = dict(module.named_parameters())
        kept = [(weights[n], k.to(weights[n])) for n, k in training.mask.kept.items()]
        optimizer = torch.optim.SGD(module.parameters(), recipe.lr, recipe.momentum, fused=True)
        rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
        batches: list[torch.Tensor] = []
        for _ in range(steps):
            if not batches:
                batches = list(torch.randperm(len(x), generator=draws).to(x.device).split(recipe.batch))
            rows = batches.pop()
            loss = F.cross_entropy(module(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            rate.step()
            with torch.no_grad():
                for weight, zeros_and_ones in kept:
                    weight.mul_(zeros_and_ones)


def trainings(scene: Scene, count: int, steps: int, **fields: object) -> list[Training]:
    """Trainings of ConvNet-2 of width 16 on 8x8 images, each with half of its weights."""
    model = network(2, scene.size(16, 4), (1, 8, 8))
    recipe = Recipe.model_validate({"length": f"{steps}it", "momentum": 0.9, **fields})
    examples = images(count, model.shape, scene.device)
    starts = [model.fresh(seed) for seed in range(scene.size(COUNT, 4))]
    return [Training(model, s, examples, recipe, Streams(i), half(model, s)) for i, s in enumerate(starts)]


def copies(scene: Scene) -> Row:
    """Retraining as digits.yaml has it."""
    group = trainings(scene, 1293, scene.size(200, 2), batch=16, lr=0.4, schedule="cosine")
    one, steps = group[0], scene.size(200, 2)
    laned, absent = sides(scene, group, GOAL)
    return Row(
        f"{len(group)} copies, digits, ConvNet-2 w16, batch 16, {steps} steps",
        Side("plain loop", lambda: plain(scene, one, range(len(group)))),
        [
            Side("one by one", ways(scene, 1, in_lanes(scene, group, 1)).eager),
            *laned,
        ],
        flops=len(group) * steps * flops_of_step(one.model, 16, one.examples.shape),
        absent=absent,
    )


def levels(scene: Scene) -> Row:
    """Pruning on a small set as digits.yaml has it: every step augments by one of five families."""
    augment = "color_crop_cutout_scale_rotate"
    group = trainings(scene, 50, scene.size(100, 2), batch=50, lr=0.1, augment=augment, weight_decay=5e-4)
    steps = scene.size(100, 2)
    laned, absent = sides(scene, group, None)
    return Row(
        f"{len(group)} levels on 50 images, digits, ConvNet-2 w16, augmented, {steps} steps",
        Side("one by one", ways(scene, 1, in_lanes(scene, group, 1)).eager),
        laned,
        flops=len(group) * steps * flops_of_step(group[0].model, 50, group[0].examples.shape),
        absent=absent,
    )
