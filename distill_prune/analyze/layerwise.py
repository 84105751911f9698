"""Layer-wise linear mode connectivity: the barrier of one layer at a time, between copies of one ticket.

With W_1, W_2 two copies and L the tensors of one layer,

    W(alpha) = ((1 - alpha) W_1^L + alpha W_2^L, all other tensors of W_1),   alpha in linspace(0, 1, 11),

and the same from W_2 towards W_1^L; barrier and excess of each line are those of `connectivity`, relative to that line's
own ends, and the two are averaged. A barrier of the whole that no layer has comes from layers that do not fit together.

References:
    | Layer-wise Linear Mode Connectivity (Adilova et al., 2024), https://arxiv.org/abs/2307.06966
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis, section 2 (Frankle et al., 2020),
      https://arxiv.org/abs/1912.05671
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, Literal

from pydantic import Field

from distill_prune.analyze.copies import check_copies, check_counters
from distill_prune.analyze.estimate import dependent
from distill_prune.analyze.inputs import Copies
from distill_prune.analyze.line import CURVES, Gauge, RowSettings, distance, heights, line_of
from distill_prune.artifacts import Measurements
from distill_prune.models import Model
from distill_prune.progress import TicksOnly
from distill_prune.tree import to

TAKES: Literal["copies"] = "copies"
MIN_COPIES = 2


class Settings(RowSettings):
    name: Literal["layerwise"] = "layerwise"
    points: int = Field(11, ge=2, description="points on each line, both ends among them")
    train_rows: int = Field(2000, ge=1, description="train examples that each point is measured on")
    test_rows: int = Field(2000, ge=1, description="test examples that each point is measured on")
    allow_different_masks: bool = Field(False, description="measure copies whose masks differ, too; else these are refused")


def measure(settings: Settings, copies: Copies) -> Measurements:
    """Barriers, excesses and distances of all layers, each the mean over all pairs of copies, which share copies.

    A layer is a module that owns parameters, with all of its tensors; it goes by its name in the state. Batch-norm statistics
    of the whole network are measured anew at every state. Numbers: `alphas`, `layers` {name: {barrier, excess {curve:
    estimate}, distance}}, `pairs` [{copies, layers {name: {distance, ends [{at, curves, barrier, excess}]}}}], `rows`.

    Raises:
        UserError: fewer than two copies, different masks or architectures, counters that cannot be interpolated, or no
            examples.
        NonFiniteError: a loss on a line is not finite.
    """
    model, states, train = copies.model, copies.states, copies.train
    check_copies("a layer's barrier", model, states, copies.masks, settings.allow_different_masks)
    check_counters(model, states)
    gauge = Gauge.over(settings, model, states[0], train, copies.test, copies.streams, test_rows=settings.test_rows)
    alphas, layers = line_of(settings.points), layers_of(model)
    placed = [to(c, train.x.device) for c in states]
    chosen = list(combinations(range(len(states)), 2))
    steps, done = 2 * len(alphas), 0
    pairs: list[dict[str, Any]] = []
    for i, j in chosen:
        found: dict[str, Any] = {}
        for layer, tensors in layers.items():
            owned = [n for n in tensors if n in model.parameters]
            ends = []
            for k, (at, other) in enumerate(((i, j), (j, i))):
                ticks = TicksOnly(copies.progress, done * steps + k * len(alphas), len(chosen) * len(layers) * steps)
                note = f"layer {layer} of copies {at} and {other}"
                curves = gauge.line(placed[at], placed[other], alphas, ticks, note, names=tensors)
                ends.append({"at": at, "curves": curves, **heights(curves, alphas)})
            found[layer] = {"distance": distance(placed[i], placed[j], owned), "ends": ends}
            done += 1
        pairs.append({"copies": [i, j], "layers": found})
    over = {layer: _over([p["layers"][layer] for p in pairs]) for layer in layers}
    return Measurements("layerwise", {"alphas": alphas, "layers": over, "pairs": pairs, "rows": dict(gauge.rows)})


def layers_of(model: Model) -> dict[str, list[str]]:
    """The tensors of every module that owns parameters, by the module's name; parameters of the network itself, which have
    no module's name, are layers by their own."""
    layers: dict[str, list[str]] = {}
    for name in model.parameters:
        layers.setdefault(name.rpartition(".")[0] or name, []).append(name)
    for name, _ in model.module.named_buffers():
        if (owner := name.rpartition(".")[0]) in layers and name in model.module.state_dict():
            layers[owner].append(name)
    return layers


def _over(pairs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One layer's estimates over pairs, each the mean of its two lines."""

    def mean(key: str, curve: str) -> list[float]:
        return [sum(end[key][curve] for end in p["ends"]) / len(p["ends"]) for p in pairs]

    heights_of = {key: {c: dependent(mean(key, c)) for c in CURVES} for key in ("barrier", "excess")}
    return {**heights_of, "distance": dependent([p["distance"] for p in pairs])}
