"""Linear mode connectivity: the error barrier between copies of one ticket, trained under different SGD noise.

On the line W(alpha) = (1 - alpha) W_1 + alpha W_2, alpha in linspace(0, 1, 30),

    barrier = sup_alpha E(W(alpha)) - (E(W_1) + E(W_2)) / 2
    excess  = sup_alpha [ E(W(alpha)) - ((1 - alpha) E(W_1) + alpha E(W_2)) ]

E is the test error, the train error on recorded rows, or the loss on either. The barrier (Frankle's instability) cannot
fall below half the endpoints' difference; the excess over the chord can. Batch-norm statistics are measured anew at every
alpha (see `line`).

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis, section 2 (Frankle et al., 2020),
      https://arxiv.org/abs/1912.05671
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal

from pydantic import Field

from distill_prune.analyze.copies import check_copies, check_counters
from distill_prune.analyze.inputs import Copies
from distill_prune.analyze.line import Gauge, Line, RowSettings, line_of, over_pairs
from distill_prune.analyze.metric import BARRIER, IS_STABLE, WHOLE_NETWORKS, Metric
from distill_prune.artifacts import Measurements
from distill_prune.progress import TicksOnly
from distill_prune.tree import to

TAKES: Literal["copies"] = "copies"
MIN_COPIES = 2


class Settings(RowSettings):
    name: Literal["connectivity"] = "connectivity"
    points: int = Field(30, ge=2, description="points on the line between two copies, both ends among them")
    allow_different_masks: bool = Field(False, description="measure copies whose masks differ, too; else these are refused")


class PairLine(Line):
    copies: list[int]


METRICS = (
    Metric(
        BARRIER,
        "Test error barrier",
        "points",
        100,
        at=("barrier", "test_error"),
        group="barrier",
        words="test barrier",
        tested=True,
        question=IS_STABLE,
        column="Test barrier (points)",
        note=WHOLE_NETWORKS,
    ),
    Metric("barrier_train", "Train error barrier", "points", 100, at=("barrier", "train_error"), group="barrier", column=None),
    Metric("barrier_loss", "Test loss barrier", "nats", at=("barrier", "test_loss"), group="barrier", column=None, beside=None),
    Metric(
        "excess_test",
        "Excess of test error over the chord",
        "points",
        100,
        at=("excess", "test_error"),
        group="barrier",
        column=None,
        beside=None,
    ),
)


def measure(settings: Settings, copies: Copies) -> Measurements:
    """Barriers and excesses of all pairs of copies and their means, on the device that the examples live on.

    Pairs share copies, so their mean comes with its spread (`sd`) and count but no standard error: the unit is the
    initialisation. Numbers: `barrier` and `excess` {curve: estimate}, `distance` (Euclidean, over all parameters),
    `curves` (means over pairs at `alphas`), `pairs`, and `rows`, the recorded rows. Curves are those of `line.CURVES`.

    Raises:
        UserError: fewer than two copies, different masks or architectures, counters that cannot be interpolated, or no
            examples.
        NonFiniteError: a loss on a line is not finite.
    """
    model, states, train = copies.model, copies.states, copies.train
    check_copies("a barrier", model, states, copies.masks, settings.allow_different_masks)
    check_counters(model, states)
    gauge = Gauge.over(settings, model, states[0], train, copies.test, copies.streams)
    alphas = line_of(settings.points)
    placed = [to(c, train.x.device) for c in states]
    chosen = list(combinations(range(len(states)), 2))
    pairs: list[PairLine] = []
    for done, (i, j) in enumerate(chosen):
        ticks = TicksOnly(copies.progress, done * len(alphas), len(chosen) * len(alphas))
        height = gauge.height(placed[i], placed[j], alphas, ticks, f"copies {i} and {j}")
        pairs.append({"copies": [i, j], **height})
    return Measurements(
        "connectivity",
        {"copies": len(states), "alphas": alphas, **over_pairs(pairs), "pairs": pairs, "rows": dict(gauge.rows)},
    )
