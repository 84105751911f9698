"""The loss landscape on two planes: the one through three copies of a ticket, and one of random directions around copy 0.

Through the copies, with e_1, e_2 orthonormal, e_1 from W_0 towards W_1 and W_2 above that line,

    W(x, y) = W_0 + x e_1 + y e_2 = (1 - a - b) W_0 + a W_1 + b W_2,   b = y / y_2,   a = (x - b x_2) / x_1,

where copy 0 is at (0, 0), copy 1 at (x_1, 0), copy 2 at (x_2, y_2), in Euclidean distance over all parameters. The second
form is computed: at the copies' coordinates it gives exactly their weights, and pruned weights stay zero.

Around copy 0, W(x, y) = W_0 + x D_1 + y D_2 with normal draws D on surviving weights, filter by filter as long as the
weights: D_f <- D_f |W_f| / |D_f|. So (x, y) does not change its meaning when a layer is rescaled. A filter is the weights of
one output channel or neuron. Biases, norms and weights that are never pruned are not moved.

References:
    | Visualizing the Loss Landscape of Neural Nets, sections 4-5 (Li et al., 2018), https://arxiv.org/abs/1712.09913
    | Loss Surfaces, Mode Connectivity, and Fast Ensembling of DNNs, appendix (Garipov et al., 2018), on the plane through
      three networks, https://arxiv.org/abs/1802.10026
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.analyze.copies import check_copies, check_counters
from distill_prune.analyze.inputs import Copies
from distill_prune.analyze.line import Gauge, RowSettings, distance
from distill_prune.artifacts import Mask, Measurements
from distill_prune.models import Model
from distill_prune.progress import Progress, TicksOnly
from distill_prune.rng import Streams
from distill_prune.tree import State, flatten, select, shapes, to, unflatten

TAKES: Literal["copies"] = "copies"
MIN_COPIES = 2
DISTILLED = True

FLAT = 1e-6
"""Copy 2 counts as on the line through the others if its height above it is at most this share of the way along it."""


class Settings(RowSettings):
    name: Literal["landscape"] = "landscape"
    points: int = Field(21, ge=2, description="a side of each grid")
    span: float = Field(1.0, gt=0, description="random directions run from -span to span, in lengths of filters")
    margin: float = Field(0.25, ge=0, description="room around the three copies, as a share of their extent")
    train_rows: int = Field(1000, ge=1, description="train examples that each point is measured on")
    test_rows: int = Field(1000, ge=1, description="test examples that each point is measured on")
    allow_different_masks: bool = Field(False, description="measure copies whose masks differ, too; else these are refused")


Mark = tuple[float, float, str]
"""Coordinates of a point that is marked, and its name."""


@dataclass(frozen=True)
class Plane:
    """A plane of states: `point(x, y)` is the state there, `x` and `y` are the grid's coordinates in `unit`, `about` says what
    plane it is."""

    point: Callable[[float, float], State]
    x: list[float]
    y: list[float]
    marks: list[Mark]
    unit: str
    about: str

    @property
    def size(self) -> int:
        """The number of states that are measured: those of the grid, and the marked ones."""
        return len(self.x) * len(self.y) + len(self.marks)


class MeasuredPlane(TypedDict):
    """A plane as numbers: `surfaces` have rows of y and columns of x, `at_marks` a value for each mark."""

    x: list[float]
    y: list[float]
    unit: str
    marks: list[list[float | str]]
    surfaces: dict[str, list[list[float | None]]]
    at_marks: dict[str, list[float | None]]
    about: str


def measure(settings: Settings, copies: Copies) -> Measurements:
    """Loss and error on both planes, on recorded rows of train and test and on the distilled images, where there are any.

    Numbers: `planes` {copies, directions}, each {x, y, unit, marks [[x, y, name]], surfaces {name: rows of y, columns of x},
    at_marks {name: a value a mark}, about}; that of the copies is None where no plane goes through them. `about` {copies,
    directions} says what each is, or why it is not; `rows`. Surfaces are `train_loss`, `train_error`, `test_...` and
    `distilled_...`; a value that is not finite is None. Batch-norm statistics are measured anew at every point.

    Raises:
        UserError: fewer than two copies, different masks or architectures, counters that cannot be interpolated, or no
            examples.
    """
    model, states, train, streams = copies.model, copies.states, copies.train, copies.streams
    check_copies("a landscape", model, states, copies.masks, settings.allow_different_masks)
    check_counters(model, states)
    parts = (train, copies.test, streams)
    gauge = Gauge.over(settings, model, states[0], *parts, test_rows=settings.test_rows, distilled=copies.distilled)
    placed = [to(c, train.x.device) for c in states[:3]]
    planes: dict[str, Plane | str] = {
        "copies": through(placed, model.parameters, settings.points, settings.margin),
        "directions": around(model, placed[0], copies.masks[0], streams, settings.points, settings.span),
    }
    total = sum(p.size for p in planes.values() if isinstance(p, Plane))
    measured: dict[str, MeasuredPlane | None] = {}
    begun = 0
    for name, plane in planes.items():
        measured[name] = None
        if isinstance(plane, Plane):
            measured[name] = _record(gauge, plane, TicksOnly(copies.progress, begun, total), f"plane of {name}")
            begun += plane.size
    about = {name: plane.about if isinstance(plane, Plane) else plane for name, plane in planes.items()}
    return Measurements("landscape", {"planes": measured, "about": about, "rows": dict(gauge.rows)})


def through(copies: Sequence[State], names: Sequence[str], points: int, margin: float) -> Plane | str:
    """The plane through the first three copies, or why there is none; distances are over the tensors of `names`."""
    if len(copies) < 3:
        return f"no plane through the copies: it takes three, and there are {len(copies)}"
    zero, one, two = copies[:3]
    width = distance(zero, one, names)
    if not width:
        return "no plane through the copies: copies 0 and 1 are the same network"
    along = sum(float(((two[n].double() - zero[n].double()) * (one[n].double() - zero[n].double())).sum()) for n in names)
    foot = along / width
    height = math.sqrt(sum(_square(two[n], zero[n], one[n], foot / width) for n in names))
    if height <= FLAT * max(width, abs(foot)):
        return "no plane through the copies: the three lie on one line"

    def point(x: float, y: float) -> State:
        b = y / height
        a = (x - b * foot) / width
        return {n: (1 - a - b) * t + a * one[n] + b * two[n] if t.is_floating_point() else t for n, t in zero.items()}

    marks = [(0.0, 0.0, "copy 0"), (width, 0.0, "copy 1"), (foot, height, "copy 2")]
    return Plane(
        point,
        _grid([0.0, width, foot], points, margin),
        _grid([0.0, height], points, margin),
        marks,
        "Euclidean distance over all parameters",
        "the plane through copies 0, 1 and 2, drawn to scale: all parameters move",
    )


def _square(two: Tensor, zero: Tensor, one: Tensor, share: float) -> float:
    """Squared length of (two - zero) - `share` (one - zero)."""
    base = zero.double()
    return float(((two.double() - base) - share * (one.double() - base)).square().sum())


def _grid(marked: Sequence[float], points: int, margin: float) -> list[float]:
    low, high = min(marked), max(marked)
    room = margin * (high - low)
    return _spaced(low - room, high + room, points)


def _spaced(low: float, high: float, points: int) -> list[float]:
    """`points` values from `low` to `high` in equal steps; from -span to span, the middle one is exactly zero."""
    return [low + (high - low) * (k / (points - 1)) for k in range(points)]


def around(model: Model, state: State, mask: Mask, streams: Streams, points: int, span: float) -> Plane:
    """The plane of two random directions around `state`."""
    one, two = (direction(model, state, mask, streams("landscape", "direction", index=i)) for i in range(2))

    def point(x: float, y: float) -> State:
        return {n: t + x * one[n] + y * two[n] if n in one else t for n, t in state.items()}

    grid = _spaced(-span, span, points)
    return Plane(
        point,
        grid,
        list(grid),
        [(0.0, 0.0, "copy 0")],
        "lengths of each filter",
        "two random directions around copy 0, each filter as long as its weights: only surviving prunable weights move",
    )


def direction(model: Model, state: State, mask: Mask, generator: torch.Generator) -> State:
    """A normal draw on surviving prunable weights, each filter as long as the state's; drawn flat, on the CPU."""
    weights = select(state, model.prunable)
    draws = unflatten(torch.randn(flatten(weights).numel(), generator=generator, dtype=torch.float64), shapes(weights))
    directions = {}
    for name, weight in weights.items():
        kept = mask.kept[name].cpu()
        w, d = (t.flatten(1) for t in (weight.cpu().double() * kept, draws[name] * kept))
        lengths, ours = w.norm(dim=1, keepdim=True), d.norm(dim=1, keepdim=True)
        # A filter without survivors has no direction.
        directions[name] = torch.where(ours > 0, d * lengths / ours, 0.0).view(weight.shape).to(weight)
    return directions


def _record(gauge: Gauge, plane: Plane, progress: Progress, note: str) -> MeasuredPlane:
    """The plane as numbers, its surfaces measured; one state is in memory at a time."""
    done = 0
    surfaces: dict[str, list[list[float | None]]] = {}
    at_marks: dict[str, list[float | None]] = {}

    def scores(x: float, y: float) -> Mapping[str, float | None]:
        nonlocal done
        values = gauge.scores(plane.point(x, y))
        done += 1
        progress.tick(done, plane.size, note)
        return {name: value if math.isfinite(value) else None for name, value in values.items()}

    for y in plane.y:
        row = [scores(x, y) for x in plane.x]
        for name in row[0]:
            surfaces.setdefault(name, []).append([s[name] for s in row])
    for x, y, _ in plane.marks:
        for name, value in scores(x, y).items():
            at_marks.setdefault(name, []).append(value)
    return {
        "x": plane.x,
        "y": plane.y,
        "unit": plane.unit,
        "marks": [list(mark) for mark in plane.marks],
        "surfaces": surfaces,
        "at_marks": at_marks,
        "about": plane.about,
    }
