"""How far apart the copies of one ticket are: in weights, and in the examples that they class differently.

disagreement = share of examples to which the two networks give different classes. Were the copies' answers independent
within each true class y, with P_i(c | y) the share of examples of y that copy i gives to c and N_y of N examples in y,

    expected = sum_y (N_y / N) (1 - sum_c P_1(c | y) P_2(c | y)).

relative distance = |W_1 - W_2| / ((|W_1 - W_k| + |W_2 - W_k|) / 2), Euclidean over all parameters, from the rewinding
weights W_k. The copies are as retrained, batch-norm statistics included.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis, appendix G (Frankle et al., 2020),
      https://arxiv.org/abs/1912.05671
    | Deep Ensembles: A Loss Landscape Perspective (Fort et al., 2019), on disagreement beside accuracy,
      https://arxiv.org/abs/1912.02757
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune import objective
from distill_prune.analyze.copies import check_copies, check_filled
from distill_prune.analyze.estimate import dependent, estimate
from distill_prune.analyze.inputs import Copies
from distill_prune.analyze.line import STREAM, distance
from distill_prune.analyze.metric import WHOLE_NETWORKS, Metric
from distill_prune.analyze.rows import draw_rows
from distill_prune.artifacts import Measurements
from distill_prune.settings import Entry as Base
from distill_prune.training import outputs
from distill_prune.tree import to

TAKES: Literal["copies"] = "copies"
MIN_COPIES = 2


class Settings(Base):
    name: Literal["disagreement"] = "disagreement"
    train_rows: int = Field(10_000, ge=1, description="train examples that outputs are compared on, at most")
    allow_different_masks: bool = Field(False, description="measure copies whose masks differ, too; else these are refused")


METRICS = (
    Metric(
        "disagreement",
        "Test examples that copies class differently",
        "%",
        100,
        at=("test",),
        group="apart",
        words="disagreement of copies",
        tested=True,
        column=None,
        note=WHOLE_NETWORKS,
    ),
    Metric(
        "relative_distance", "Distance of copies / distance travelled", "ratio", group="apart", column=None, note=WHOLE_NETWORKS
    ),
)


def measure(settings: Settings, copies: Copies) -> Measurements:
    """Disagreements and distances of all pairs of copies.

    Pairs share copies: their means have no standard error. Numbers: `copies` (their count), `test`, `train`,
    `expected_test`, `distance`, `relative_distance` (estimates over pairs; the last of no values where nothing was
    travelled), `travelled` (over copies), `pairs`, `rows`.

    Raises:
        UserError: fewer than two copies, different masks or architectures, or no examples.
    """
    model, states, train, test = copies.model, copies.states, copies.train, copies.test
    check_copies("a disagreement", model, states, copies.masks, settings.allow_different_masks)
    check_filled("disagreement", {"train": train, "test": test})
    device = train.x.device
    rows = draw_rows(len(train), settings.train_rows, copies.streams(STREAM, "rows"))
    parts = {"train": train.take(rows.index.to(device)), "test": test}
    placed, begin = [to(c, device) for c in states], to(copies.start, device)
    classed: list[dict[str, Tensor]] = []
    for i, copy in enumerate(placed):
        classed.append({part: outputs(model, copy, examples, arg_max=True) for part, examples in parts.items()})
        copies.progress.tick(i + 1, len(states), f"copy {i}")
    travelled = [distance(c, begin, model.parameters) for c in placed]
    pairs: list[dict[str, Any]] = []
    for i, j in combinations(range(len(states)), 2):
        apart, way = distance(placed[i], placed[j], model.parameters), (travelled[i] + travelled[j]) / 2
        pairs.append(
            {
                "copies": [i, j],
                **{part: disagreement(classed[i][part], classed[j][part]) for part in parts},
                "expected_test": expected(classed[i]["test"], classed[j]["test"], objective.truth(test.y), model.classes),
                "distance": apart,
                "travelled": [travelled[i], travelled[j]],
                "relative_distance": apart / way if way else None,
            }
        )
    return Measurements(
        "disagreement",
        {
            "copies": len(states),
            **{k: _over([p[k] for p in pairs]) for k in ("test", "train", "expected_test", "distance", "relative_distance")},
            "travelled": estimate(travelled),
            "pairs": pairs,
            "rows": {"train": rows.record(), "test": {"count": len(test)}},
        },
    )


def disagreement(a: Tensor, b: Tensor) -> float:
    """Share of the examples whose classes in `a` and `b`, both (N,), differ."""
    return int((a != b).sum()) / len(a)


def expected(a: Tensor, b: Tensor, truth: Tensor, classes: int) -> float:
    """The disagreement of answers `a` and `b` (N,) that were independent within each class of `truth` (N,)."""
    sizes = torch.bincount(truth, minlength=classes).double()
    # Of all pairs (y, c) few are there where classes are word pieces.
    (at, many), (other, as_many) = (torch.unique(truth * classes + answers, return_counts=True) for answers in (a, b))
    place = torch.searchsorted(other, at).clamp_max(len(other) - 1)
    both = torch.where(other[place] == at, many * as_many[place], 0)
    together, held = torch.zeros_like(sizes).index_add_(0, at // classes, both.double()), sizes > 0
    return 1 - float((together[held] / sizes[held]).sum()) / len(truth)


def _over(values: Sequence[float | None]) -> Mapping[str, object]:
    known = [v for v in values if v is not None]
    return dependent(known) if known else {"mean": None, "sd": None, "se": None, "low": None, "high": None, "n": 0}
