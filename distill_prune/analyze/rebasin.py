"""Barriers modulo permutation: the error barrier between copies of one ticket, before and after their units are aligned.

For a pair of copies with weights W_1, W_2, weight matching (models/permutations.py) gives the order pi of W_2's units that is
nearest to W_1: pi(W_2) is the same function. On both lines

    before: (1 - alpha) W_1 + alpha W_2          after: (1 - alpha) W_1 + alpha pi(W_2),   alpha in linspace(0, 1, 30),

barrier and excess are those of `connectivity`, with batch-norm statistics measured anew at every alpha. A barrier that goes
away came from the order of units alone. One that stays may still come from it: weight matching finds a local optimum.

Copies of one ticket have one mask, and pi moves that of the second copy. Networks on the line after alignment live on the
union of the mask and of the mask in the other order: they are denser than either end (`shared`). A sparse mask alone can keep
units at their places.

Copies begin at one W_k, and where training does not move weights far, their own order is the nearest already (`fixed` is 1).
Networks of two initialisations are what alignment was made for: `between` with `align: true` compares an arm on another draw
(the controls `permuted` and `reinitialised`) with the control.

References:
    | Git Re-Basin: Merging Models modulo Permutation Symmetries (Ainsworth, Hayase and Srinivasa, 2023),
      https://arxiv.org/abs/2209.04836
    | The Role of Permutation Invariance in Linear Mode Connectivity of Neural Networks (Entezari et al., 2022),
      https://arxiv.org/abs/2110.06296
    | REPAIR: renormalizing permuted activations for interpolation repair (Jordan et al., 2023), on why batch-norm
      statistics are measured anew, https://arxiv.org/abs/2211.08403
"""

from __future__ import annotations

from itertools import combinations
from typing import Literal, TypedDict

from pydantic import Field

from distill_prune.analyze.alignment import AlignedLine, align, over_aligned
from distill_prune.analyze.between import shared
from distill_prune.analyze.copies import check_copies, check_counters
from distill_prune.analyze.estimate import dependent
from distill_prune.analyze.inputs import Copies
from distill_prune.analyze.line import Gauge, Line, RowSettings, line_of, over_pairs
from distill_prune.analyze.metric import WHOLE_NETWORKS, Metric
from distill_prune.artifacts import Mask, Measurements
from distill_prune.models.permutations import permuted, specification
from distill_prune.progress import TicksOnly
from distill_prune.tree import to

TAKES: Literal["copies"] = "copies"
MIN_COPIES = 2


class Settings(RowSettings):
    name: Literal["rebasin"] = "rebasin"
    points: int = Field(30, ge=2, description="points on each line between two copies, both ends among them")
    allow_different_masks: bool = Field(False, description="measure copies whose masks differ, too; else these are refused")

    @property
    def permutes(self) -> bool:
        return True


class PairLines(TypedDict):
    copies: list[int]
    shared: float
    before: Line
    after: AlignedLine


METRICS = (
    Metric(
        "barrier_aligned",
        "Test error barrier after alignment",
        "points",
        100,
        at=("after", "barrier", "test_error"),
        group="barrier",
        words="test barrier after alignment",
        column=None,
        some_tasks=True,
        note=WHOLE_NETWORKS,
    ),
    Metric(
        "barrier_aligned_train",
        "Train error barrier after alignment",
        "points",
        100,
        at=("after", "barrier", "train_error"),
        group="barrier",
        column=None,
        some_tasks=True,
    ),
    Metric(
        "distance_removed",
        "Distance of copies that alignment removes",
        "%",
        100,
        at=("after", "removed"),
        group="apart",
        column=None,
        some_tasks=True,
    ),
    Metric(
        "units_fixed",
        "Units that alignment leaves at their place",
        "%",
        100,
        at=("after", "fixed"),
        group="apart",
        column=None,
        some_tasks=True,
    ),
)


def measure(settings: Settings, copies: Copies) -> Measurements:
    """Barriers and excesses of all pairs of copies, as they are and with the second aligned to the first.

    Pairs share copies, so means have a spread and a count but no standard error. Numbers: `copies` (their count), `alphas`,
    `before` and `after` {`barrier`, `excess` {curve: estimate}, `distance`, `curves`}, in `after` also `removed` (share of the
    distance that alignment removes) and `fixed` (share of units that stay at their places), `shared` (weights that survive in
    the mask and in the permuted one, of those that survive in either), `pairs`, `rows`. Curves are those of `line.CURVES`.

    Raises:
        UserError: fewer than two copies, different masks or architectures, counters that cannot be interpolated, no examples,
            or a network whose interchangeable units are not known.
        NonFiniteError: a loss on a line, or a weight, is not finite.
        RunError: the aligned network is another function.
    """
    model, states, train = copies.model, copies.states, copies.train
    check_copies("an alignment", model, states, copies.masks, settings.allow_different_masks)
    check_counters(model, states)
    spec = specification(model, settings.name)
    gauge = Gauge.over(settings, model, states[0], train, copies.test, copies.streams)
    alphas, chosen = line_of(settings.points), list(combinations(range(len(states)), 2))
    placed = [to(c, train.x.device) for c in states]
    pairs: list[PairLines] = []
    for done, (i, j) in enumerate(chosen):
        before, after = (
            TicksOnly(copies.progress, (2 * done + half) * len(alphas), 2 * len(chosen) * len(alphas)) for half in (0, 1)
        )
        note = f"copies {i} and {j}"
        as_they_are = gauge.height(placed[i], placed[j], alphas, before, note)
        streams = copies.streams.under("rebasin", a=i, b=j)
        alignment = align(gauge, spec, placed[i], placed[j], alphas, as_they_are["distance"], streams, after, note)
        turned = Mask(permuted(spec, alignment.orders, copies.masks[j].kept))
        pairs.append(
            {
                "copies": [i, j],
                "shared": shared(copies.masks[i], turned),
                "before": as_they_are,
                "after": alignment.height,
            }
        )
    return Measurements(
        "rebasin",
        {
            "copies": len(states),
            "alphas": alphas,
            "before": over_pairs([p["before"] for p in pairs]),
            "after": over_aligned([p["after"] for p in pairs]),
            "shared": dependent([p["shared"] for p in pairs]),
            "pairs": pairs,
            "rows": dict(gauge.rows),
        },
    )
