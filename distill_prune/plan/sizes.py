"""How large a study of a person's own images is made: the first of a ladder of sizes whose work two cores do in minutes.

The work is counted from rows, pixels, channels and classes alone, in seconds of one core of 2024 at FLOPS, so that equal data
get an equal study on every machine. `plan` says what the study takes on the machine at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from distill_prune.data.preparation import Survey

SECONDS = 330.0
"""Of one core that a new study may take by this count: `plan` says at most about five minutes on two."""
FLOPS, PLACE, STEP = 60e9, 1e-9, 0.9e-3
"""Floating-point operations a second of one core in convolutions; seconds for each number that a block of the network passes
on, and for each step beside these."""
LANE_PIXELS, LANES, LANE_STEP = 256, 8, 0.35e-3
"""Networks on images of at most so many pixels share their steps, which takes so long a step of one."""
PRODUCT, INNER = 1.5, 3.0
"""A product with the Hessian, and an inner step of distillation, in passes of training."""
SEEDS, COPIES, ARMS, EXPERTS, EPOCHS, NETS, INNER_STEPS = 6, 2, 4, 3, 12, 3, 10
"""Of every study that is written; six initialisations are the fewest with which a difference can be claimed."""


@dataclass(frozen=True)
class Size:
    """One step of the ladder: the most rows of each part and pixels of a side that are used, the network's width, lengths."""

    rows: int
    test_rows: int
    side: int
    width: int
    levels: int
    rate: float
    compared: tuple[int, ...]
    steps: int
    iterations: int
    points: int
    train_rows: int
    curvature_rows: int
    probes: int
    evaluation: int


LADDER = (
    Size(10_000, 2_000, 64, 16, 6, 0.2, (3, 6), 400, 400, 15, 1_000, 256, 100, 500),
    Size(6_000, 1_000, 32, 16, 6, 0.2, (3, 6), 300, 300, 15, 1_000, 128, 64, 400),
    Size(4_000, 1_000, 32, 16, 3, 0.36, (3,), 250, 200, 11, 500, 64, 48, 300),
    Size(4_000, 1_000, 32, 12, 3, 0.36, (3,), 250, 200, 11, 500, 64, 48, 300),
    Size(3_000, 1_000, 32, 8, 3, 0.36, (3,), 200, 200, 11, 500, 64, 48, 300),
    Size(2_000, 500, 32, 8, 3, 0.36, (3,), 120, 120, 11, 500, 64, 32, 200),
    Size(2_000, 500, 16, 8, 3, 0.36, (3,), 120, 100, 11, 500, 64, 32, 200),
)
"""From the largest to the smallest."""


@dataclass(frozen=True)
class Fitted:
    """A size, and what else follows from the data."""

    size: Size
    depth: int
    batch: int
    ipc: int
    lanes: int


def fitted(size: Size, data: Survey) -> Fitted:
    """Depth from the pixels, the batch from the number of examples, images of a set from the smallest class."""
    pixels = data.shape[1] * data.shape[2]
    depth = max(1, min(3, min(data.shape[1:]).bit_length() - 2))
    batch = max(8, min(64, data.splits[0] // 20))
    ipc = max(1, min(5, min(data.counts) // 4, 100 // len(data.classes)))
    return Fitted(size, depth, batch, ipc, LANES if pixels <= LANE_PIXELS else 1)


def seconds(fit: Fitted, data: Survey) -> float:
    """What the study takes of one core, by count."""
    size, (channels, height, width) = fit.size, data.shape
    blocks: Sequence[tuple[int, float]] = [
        (channels if i == 0 else size.width, height * width / 4**i) for i in range(fit.depth)
    ]
    flops = sum(2 * 9 * inputs * size.width * pixels for inputs, pixels in blocks)
    passed = sum(size.width * pixels for _, pixels in blocks)
    image = 3 * (flops / FLOPS + passed * PLACE)  # forward and backward
    step, chains, pictures = LANE_STEP if fit.lanes > 1 else STEP, SEEDS * size.levels, fit.ipc * len(data.classes)
    units = SEEDS * (1 + ARMS * len(size.compared))
    on_real, on_set = step + fit.batch * image, step + min(64, pictures) * image
    trained = (chains + COPIES * units) * size.steps * on_real + (ARMS - 2) * chains * size.steps * on_set
    experts = EXPERTS * EPOCHS * data.splits[0] * (image + STEP / fit.batch)
    distilled = size.iterations * INNER_STEPS * (STEP + pictures * image) * INNER
    evaluated = 2 * NETS * size.evaluation * (step + min(256, pictures) * image)
    accuracy = units * COPIES * sum(data.splits) * image / 3
    lines = units * size.points * (min(size.train_rows, data.splits[0]) + data.splits[2]) * image / 3
    curvature = units * COPIES * size.probes * (STEP + min(size.curvature_rows, data.splits[0]) * image) * PRODUCT
    return trained + experts + distilled + evaluated + accuracy + lines + curvature
