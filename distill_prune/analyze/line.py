"""What lines and planes through networks share: the measurement of their states, and the height of a line.

E(W) is the error or the mean cross-entropy of a state on recorded examples. A mixture of batch-norm statistics is that of no
network. So they are measured anew at every state, the ends of a line included: they are averages over one recorded set of
unaugmented batches, each counted once.

References:
    | REPAIR: renormalizing permuted activations for interpolation repair (Jordan et al., 2023), on why batch-norm
      statistics are measured anew on the line, https://arxiv.org/abs/2211.08403
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.analyze.copies import batch_norms, check_filled
from distill_prune.analyze.estimate import Estimate, dependent
from distill_prune.analyze.rows import RecordedRows, draw_rows
from distill_prune.artifacts import Examples
from distill_prune.errors import NonFiniteError, UserError
from distill_prune.models import Model
from distill_prune.progress import Progress
from distill_prune.rng import Streams
from distill_prune.settings import Entry
from distill_prune.training import evaluate
from distill_prune.tree import State, lerp, select, to

CURVES = ("test_error", "train_error", "test_loss", "train_loss")
STREAM = "connectivity"
"""The name of all streams that draw rows here, so that analyses of one initialisation see the same examples."""


class Heights(TypedDict):
    """`barrier` and `excess` of a line, by curve."""

    barrier: dict[str, float]
    excess: dict[str, float]


class Line(Heights):
    """The line between two networks: their Euclidean `distance` over all parameters, its curves, and their heights."""

    distance: float
    curves: dict[str, list[float]]


class LineMeans(TypedDict):
    """Estimates over lines that share ends, and the curves averaged by point."""

    barrier: dict[str, Estimate]
    excess: dict[str, Estimate]
    distance: Estimate
    curves: dict[str, list[float]]


class RowSettings(Entry):
    """Which train examples a state is measured on, and its batch-norm statistics with."""

    train_rows: int = Field(10_000, ge=1, description="train examples that the train error and loss are measured on, at most")
    norm_rows: int = Field(2048, ge=2, description="train examples that batch-norm statistics are measured on anew")
    norm_batch: int = Field(256, ge=2, description="batch size of the pass that renews batch-norm statistics")

    @property
    def permutes(self) -> bool:
        """Whether units of the network are permuted, so that it must be known which are interchangeable."""
        return False


@dataclass(frozen=True)
class Gauge:
    """Measures states: parts of the data by name, how batch-norm statistics are renewed, and the record of the rows."""

    model: Model
    parts: Mapping[str, Examples]
    renew: Callable[[State], State]
    rows: Mapping[str, Mapping[str, int | str]]

    @classmethod
    def over(
        cls,
        settings: RowSettings,
        model: Model,
        like: State,
        train: Examples,
        test: Examples,
        streams: Streams,
        *,
        test_rows: int | None = None,
        distilled: Examples | None = None,
    ) -> Gauge:
        """A gauge on recorded rows of `train`, on `test` (all, or recorded rows) and on the distilled images, where there
        are any; on the device that `train` lives on. `like` is a state with the names and kinds of those to come.

        Raises:
            UserError: a part has no examples, or too few for batch-norm statistics.
        """
        asked = {"train": train, "test": test} | ({} if distilled is None else {"distilled": distilled})
        check_filled(settings.name, asked)
        device = train.x.device
        rows = draw_rows(len(train), settings.train_rows, streams(STREAM, "rows"))
        parts = {"train": train.take(rows.index.to(device)).ready()}
        record: dict[str, dict[str, int | str]] = {"train": rows.record(), "test": {"count": len(test)}}
        if test_rows is None:
            parts["test"] = test.ready()
        else:
            some = draw_rows(len(test), test_rows, streams(STREAM, "test"))
            parts["test"] = test.take(some.index.to(test.x.device)).ready()
            record["test"] = some.record()
        if distilled is not None:
            parts["distilled"] = distilled.to(device).ready()
            record["distilled"] = {"count": len(distilled)}
        if not model.batch_norms:
            return cls(model, parts, dict, record)
        if len(train) < 2:
            raise UserError(
                f"{settings.name}: batch-norm statistics of a single example",
                got=f"{len(train)} train examples",
                expected="at least 2",
                fix="more training data, or a network without batch norm",
            )
        norm = draw_rows(len(train), settings.norm_rows, streams(STREAM, "norm"))
        # Equal batches only: a short one would weigh as much as a full one.
        batch = min(settings.norm_batch, len(norm.index))
        norm = RecordedRows(norm.index[: len(norm.index) // batch * batch])
        inputs = train.take(norm.index.to(device)).ready().x
        record["norm"] = norm.record() | {"batch": batch}
        return cls(model, parts, renewer(model, to(like, device), torch.split(inputs, batch)), record)

    def scores(self, state: State) -> dict[str, float]:
        """Error and mean cross-entropy on every part, by `part_error` and `part_loss`, with statistics renewed."""
        scores, state = {}, self.renew(state)
        for part, examples in self.parts.items():
            score = evaluate(self.model, state, examples)
            scores[f"{part}_error"], scores[f"{part}_loss"] = score.error, score.loss
        return scores

    def line(
        self,
        a: State,
        b: State,
        alphas: Sequence[float],
        progress: Progress,
        note: str,
        names: Sequence[str] | None = None,
    ) -> dict[str, list[float]]:
        """The curves of (1 - alpha) a + alpha b; where `names` are given, only these tensors leave `a`.

        Identical ends are one network, not one for every way that (1 - alpha) w + alpha w rounds.

        Raises:
            NonFiniteError: a loss is infinite or NaN.
        """
        ends = (a, b) if names is None else (select(a, names), select(b, names))
        still = self.scores(a) if identical(*ends) else None
        curves: dict[str, list[float]] = {f"{part}_{kind}": [] for part in self.parts for kind in ("error", "loss")}
        for k, alpha in enumerate(alphas):
            for name, value in (still or self.scores({**a, **lerp(*ends, alpha)})).items():
                if not math.isfinite(value):
                    raise NonFiniteError(f"the {name.replace('_', ' ')} of {note} is not finite at alpha {alpha:g}", got=value)
                curves[name].append(value)
            progress.tick(k + 1, len(alphas), note)
        return curves

    def height(self, a: State, b: State, alphas: Sequence[float], progress: Progress, note: str) -> Line:
        """The line from a to b.

        Raises:
            NonFiniteError: a loss is infinite or NaN.
        """
        curves = self.line(a, b, alphas, progress, note)
        return {"distance": distance(a, b, self.model.parameters), "curves": curves, **heights(curves, alphas)}


def line_of(points: int) -> list[float]:
    """`points` values from 0 to 1 in equal steps, both included."""
    return [float(alpha) for alpha in torch.linspace(0, 1, points, dtype=torch.float64)]


def barrier(curve: Sequence[float]) -> float:
    """The largest value on the line minus the mean of its ends."""
    return max(curve) - (curve[0] + curve[-1]) / 2


def excess(curve: Sequence[float], alphas: Sequence[float]) -> float:
    """The largest height of the line's values over the chord between its ends; zero or more."""
    if min(curve) == max(curve):
        return 0.0  # the chord below would round
    return max(0.0, *(v - ((1 - a) * curve[0] + a * curve[-1]) for v, a in zip(curve, alphas, strict=True)))


def heights(curves: Mapping[str, Sequence[float]], alphas: Sequence[float]) -> Heights:
    """`barrier` and `excess` of every curve."""
    return {
        "barrier": {name: barrier(c) for name, c in curves.items()},
        "excess": {name: excess(c, alphas) for name, c in curves.items()},
    }


def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Sequence[str]) -> float:
    """Euclidean distance over the tensors of `names`."""
    return float(torch.stack([(a[n].double() - b[n].double()).square().sum() for n in names]).sum().sqrt())


def identical(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    """Whether all that can be interpolated is equal."""
    return all(torch.equal(t, b[n]) for n, t in a.items() if t.is_floating_point())


def over_pairs(pairs: Sequence[Line]) -> LineMeans:
    """Estimates of `barrier`, `excess` and `distance` over pairs that share copies, and the curves averaged by point."""
    columns = {name: zip(*(p["curves"][name] for p in pairs), strict=True) for name in CURVES}
    return {
        "barrier": {name: dependent([p["barrier"][name] for p in pairs]) for name in CURVES},
        "excess": {name: dependent([p["excess"][name] for p in pairs]) for name in CURVES},
        "distance": dependent([p["distance"] for p in pairs]),
        "curves": {name: [sum(point) / len(point) for point in points] for name, points in columns.items()},
    }


def renewer(model: Model, like: State, batches: Sequence[Tensor]) -> Callable[[State], State]:
    """A function that measures a state's batch-norm statistics anew: the average over `batches`, each counted once.

    What it returns holds until it is called again: one state is in memory at a time.
    """
    module = model.instance(like, batches[0].device).eval()
    norms = batch_norms(module).values()
    for norm in norms:
        norm.momentum = None  # torch's cumulative average
        norm.train()

    @torch.no_grad()
    def renew(state: State) -> State:
        module.load_state_dict(state)
        for norm in norms:
            norm.reset_running_stats()
        for x in batches:
            module(x)
        return module.state_dict()

    return renew
