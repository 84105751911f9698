"""The error barrier of two networks: 30 points on the line between them, beside load_state_dict at every point."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from measure import Row, Scene, Side

from distill_prune.analyze import connectivity
from distill_prune.analyze.inputs import Copies
from distill_prune.artifacts import Mask
from distill_prune.models import MODELS, Model, build_model
from distill_prune.rng import Streams
from distill_prune.run.worker import conditions
from distill_prune.training import CountFlops
from distill_prune.tree import to
from ratios.copies import images
from ratios.optional import compiling


@torch.no_grad()
def plain(given: Copies, points: int) -> list[tuple[float, float]]:
    """What a user of PyTorch writes: one network, loaded anew for every point, and batches of 512."""
    a, b = given.states
    network, curves = given.model.instance(a, given.test.x.device).eval(), []
    for alpha in torch.linspace(0, 1, points).tolist():
        network.load_state_dict({name: torch.lerp(tensor, b[name], alpha) for name, tensor in a.items()})
        for part in (given.train, given.test):
            loss, wrong = 0.0, 0
            for x, y in zip(part.x.split(512), part.y.split(512), strict=True):
                logits = network(x)
                loss += F.cross_entropy(logits, y, reduction="sum").item()
                wrong += (logits.argmax(1) != y).sum().item()
            curves.append((loss / len(part), wrong / len(part)))
    return curves


def forward_flops(model: Model, shape: tuple[int, ...]) -> int:
    """Floating-point operations of the outputs of one example."""
    network = model.instance(model.module.state_dict()).to("meta")
    with CountFlops() as counter:
        network(torch.empty(1, *shape, device="meta"))
    return counter.total


def barrier(scene: Scene, shape: tuple[int, ...], depth: int, width: int, goals: tuple[float | None, float | None]) -> Row:
    points, count, width = scene.size((30, 1000, width), (3, 32, 4))
    model = build_model(MODELS["convnet"].Settings(depth=depth, width=width, norm="instance"), shape, 10)
    states = [to(model.fresh(seed), scene.device) for seed in range(2)]
    part = images(scene, count, shape)
    masks = [Mask.dense(states[0], model.prunable)] * 2
    parts = {"train": part, "validation": part.take(torch.arange(0)), "test": images(scene, count, shape)}
    given = Copies(model, states, masks, states[0], parts, Streams(0, ("bench",)))
    settings = connectivity.Settings(points=points, train_rows=count)

    def ours() -> None:
        with conditions(1):
            connectivity.measure(settings, given)

    compiled, absent = compiling(scene, ours)
    return Row(
        f"barrier, {points} points, 2 x {count:,} images {'x'.join(map(str, shape))}, ConvNet-{depth} w{width}",
        Side("load_state_dict per point", lambda: plain(given, points)),
        [Side("eager", ours, goals[0]), *(Side("compiled", run, goals[1]) for run in compiled)],
        flops=2 * points * count * forward_flops(model, shape),
        absent=absent,
    )


def barrier_cifar(scene: Scene) -> Row:
    return barrier(scene, (3, 32, 32), 3, 32, (None, 0.5))


def barrier_digits(scene: Scene) -> Row:
    return barrier(scene, (1, 8, 8), 2, 16, (0.75, None))
