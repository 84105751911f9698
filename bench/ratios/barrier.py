"""The error barrier of two networks: 30 points on the line between them, beside load_state_dict at every point."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from measure import Row, Scene, Side

from distill_prune.analyze import connectivity
from distill_prune.analyze.inputs import Copies
from distill_prune.artifacts import Mask
from distill_prune.models import Model
from distill_prune.rng import Streams
from distill_prune.training import CountFlops
from distill_prune.tree import to
from ratios.made_up import images, network, of_torch
from ratios.optional import ways


@torch.no_grad()
def plain(given: Copies, points: int) -> list[tuple[float, float]]:
    """What a user of PyTorch writes: one network, loaded anew for every point, and batches of 512."""
    a, b = given.states
    module, curves = of_torch(given.model.instance(a, given.test.x.device)).eval(), []
    for alpha in torch.linspace(0, 1, points).tolist():
        module.load_state_dict({name: torch.lerp(tensor, b[name], alpha) for name, tensor in a.items()})
        for part in (given.train, given.test):
            loss, wrong = 0.0, 0
            for x, y in zip(part.x.split(512), part.y.split(512), strict=True):
                logits = module(x)
                loss += F.cross_entropy(logits, y, reduction="sum").item()
                wrong += (logits.argmax(1) != y).sum().item()
            curves.append((loss / len(part), wrong / len(part)))
    return curves


def forward_flops(model: Model, shape: tuple[int, ...]) -> int:
    """Floating-point operations of the outputs of one example."""
    module = model.instance(model.module.state_dict()).to("meta")
    with CountFlops() as counter:
        module(torch.empty(1, *shape, device="meta"))
    return int(counter.total)


def problem(scene: Scene, shape: tuple[int, ...], depth: int, width: int) -> tuple[connectivity.Settings, Copies]:
    """Two networks, and as many train as test images."""
    points, count = scene.size((30, 1000), (3, 32))
    model, part = network(depth, width, shape), images(count, shape, scene.device)
    states = [to(model.fresh(seed), scene.device) for seed in range(2)]
    masks = [Mask.dense(states[0], model.prunable)] * 2
    parts = {"train": part, "validation": part.take(torch.arange(0)), "test": part}
    given = Copies(model, states, masks, states[0], parts, Streams(0, ("bench",)))
    return connectivity.Settings(points=points, train_rows=count), given


def barrier(scene: Scene, shape: tuple[int, ...], depth: int, width: int, goals: tuple[float | None, float | None]) -> Row:
    settings, given = problem(scene, shape, depth, width)
    points, count = settings.points, len(given.test)
    eager, compiled, absent = ways(scene, 1, lambda: connectivity.measure(settings, given))
    return Row(
        f"barrier, {points} points, 2 x {count:,} images {'x'.join(map(str, shape))}, ConvNet-{depth} w{width}",
        Side("load_state_dict per point", lambda: plain(given, points)),
        [Side("eager", eager, goals[0]), *(Side("compiled", run, goals[1]) for run in compiled)],
        flops=2 * points * count * forward_flops(given.model, shape),
        absent=absent,
    )


def barrier_cifar(scene: Scene) -> Row:
    return barrier(scene, (3, 32, 32), 3, scene.size(32, 4), (None, 0.5))


def barrier_digits(scene: Scene) -> Row:
    return barrier(scene, (1, 8, 8), 2, scene.size(16, 4), (0.75, None))
