"""What the tests of distillation methods share: small sources, settings of seconds, and a run of a method."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from reference import convnet, examples_of

from distill_prune.artifacts import Transform
from distill_prune.distill import Source, distribution, gradient
from distill_prune.distill.siamese import Siamese
from distill_prune.models import Model
from distill_prune.progress import SILENT
from distill_prune.rng import Streams

STREAMS = Streams(0, ("distill",))
CLASSES = ("a", "b", "c")
PLAIN = Transform("normalize", {"mean": torch.zeros(1), "std": torch.ones(1)})
DSA = "color_crop_cutout_flip_scale_rotate"
TINY = {
    distribution: distribution.Settings(ipc=2, iterations=24, batch_real=5, augment=DSA),
    gradient: gradient.Settings(ipc=2, iterations=24, inner_loop=2, net_steps=2, net_batch=4, batch_real=5, augment=DSA),
}
METHODS = pytest.mark.parametrize("method", [distribution, gradient])


def double(model: Model) -> Model:
    return Model(lambda: model.build().double(), model.shape, model.classes, model.identity)


def source_of(model: Model, n: int = 24, dtype: torch.dtype = torch.float32) -> Source:
    return Source(examples_of(model, n, dtype=dtype), CLASSES, PLAIN, model)


def made_source() -> Source:
    return source_of(convnet())


def run(method, source, progress=SILENT, **changes):
    return method.distill(TINY[method].model_copy(update=changes), source, STREAMS, "cpu", progress)


def pairs_of(source: Source, augment: str = "none", factor: int = 1, batch: int = 5) -> Siamese:
    return Siamese.of(source, "cpu", batch, augment, factor, STREAMS)


def point_on_line(rows: list[list[float]], sizes: list[int], time: float) -> list[float]:
    """theta(t) of convex experts, number by number: every tensor is as far on its line as it is on its way through `rows`."""
    point, begin = [], 0
    for size in sizes:
        tensor = [row[begin : begin + size] for row in rows]
        way = [0.0]
        for earlier, later in pairwise(tensor):
            way.append(way[-1] + math.dist(earlier, later))
        before = min(int(time), len(rows) - 2)
        passed = way[before] + (time - before) * (way[before + 1] - way[before])
        share = passed / way[-1] if way[-1] else time / (len(rows) - 1)
        point += [(1 - share) * first + share * last for first, last in zip(tensor[0], tensor[-1], strict=True)]
        begin += size
    return point
