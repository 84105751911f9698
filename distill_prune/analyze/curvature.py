"""Hessian trace over surviving weights, by Hutchinson's estimator or by Hutch++.

H is the Hessian of the training loss over recorded examples (hessian.py). For Rademacher probes v on surviving weights,

    tr H = E[v' H v],   tr H_ll = E[v_l' (H v)_l] of layer l,   sum_i w_i^2 H_ii = E[sum_i w_i^2 v_i (H v)_i],

all from the same products. The last is invariant under rescaling of layers. Raw traces of networks with different
survivors or norms are not comparable, so trace per survivor, weight norm and loss are given too.

Hutch++ splits H by a sketch (hessian.py). It computes the three quantities exactly for the known part, and estimates them by
probes for the rest alone. The variance of a probe, Var(v' A v) = 2 (|A|_F^2 - sum A_ii^2), comes mostly from few large
eigenvalues, and these are in the known part.

Intervals. Student's interval fails here in two ways:

- With few large eigenvalues v' H v is skewed to the right. The interval then lies too low and misses traces above it.
- Probes that are added until the observed error is small stop too early where that error happens to be too small.

`interval: calibrated` corrects both. A pilot of `probes_min` probes decides how many fresh probes are taken, at least 32; the
pilot itself is not used in the estimate. Let A be the skewness of the mean, which is that of the probes over sqrt(n), and q
Student's quantile. The interval is Hall's:

    mean - se g(q) to mean - se g(-q),   g(y) = (3 / A) ((1 + A (y - A / 6))^(1/3) - 1).

The table gives the share of 95 % intervals that covered the trace in 10,000 repeats, for n probes and for a stop at a
relative error, on a hard case: a ConvNet on digits, one eigenvalue two fifths of the trace, a skewness of 2
(tests/test_trace_coverage.py has 2,000 repeats):

                             n = 16     32     64    200   at 0.05    0.1
    hutchinson  student        .916   .927   .934   .948      .939   .911
                calibrated     .935   .942   .944   .949      .949   .944
    hutch++     student        .942   .946   .948   .950      .942   .942
                calibrated     .939   .945   .948   .949      .944   .944

References:
    | A stochastic estimator of the trace of the influence matrix (Hutchinson, 1989)
    | Hutch++: Optimal Stochastic Trace Estimation (Meyer, Musco, Musco and Woodruff, 2021), https://arxiv.org/abs/2010.09649
    | On the removal of skewness by transformation (Hall, 1992)
    | A two-sample test for a linear hypothesis whose power is independent of the variance (Stein, 1945), on two stages
    | Relative flatness and generalization (Petzka et al., 2021), https://arxiv.org/abs/2001.00939
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypedDict, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from distill_prune.analyze.estimate import Estimate, estimate
from distill_prune.analyze.hessian import Products, Sketch, recorded
from distill_prune.analyze.inputs import Copies
from distill_prune.analyze.metric import IS_FLAT, SURVIVORS, Metric
from distill_prune.analyze.skewness import pooled, skewed
from distill_prune.artifacts import Examples, Mask, Measurements
from distill_prune.errors import NonFiniteError
from distill_prune.models import Model
from distill_prune.progress import SILENT
from distill_prune.rng import Streams
from distill_prune.settings import Entry as Base
from distill_prune.settings import Later
from distill_prune.tree import State, to

TAKES: Literal["copies"] = "copies"

FRESH = 32
"""The fewest probes of a calibrated interval, its pilot not counted: the skewness cannot be estimated from fewer."""


class LayerTrace(TypedDict):
    """One layer of one copy."""

    remaining: int
    trace: Estimate
    trace_per_weight: Estimate | None


class Beside(TypedDict, total=False):
    """Products with H in all, and those taken beside the probes of the estimate."""

    products: int
    sketch: int
    pilot: int


class CopyTrace(Beside):
    """One copy's estimates over probes."""

    trace: Estimate
    trace_per_weight: Estimate | None
    invariant: Estimate
    probes: int
    stopped: str
    survivors: int
    layers: dict[str, LayerTrace]
    weight_norm: float
    train_loss: float


class Settings(Base):
    name: Literal["curvature"] = "curvature"
    rows: int = Field(1024, ge=1, description="train examples that the Hessian is of")
    probes_min: int = Field(16, ge=16, description="the fewest random directions")
    probes_max: int = Field(200, ge=16, description="the most random directions")
    relative_error: float = Field(0.05, gt=0, description="stop where standard error / |trace| is at most this")
    check_every: int = Field(8, ge=1, description="probes that are drawn together")
    method: Literal["hutchinson", "hutch++"] = Later("hutchinson", description="hutch++: fewer products, by a sketch")
    sketch: int = Later(16, ge=1, description="vectors of the sketch of hutch++, each worth two products")
    interval: Literal["student", "calibrated"] = Later("student", description="how probes end, and intervals are made")

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if self.probes_min > self.probes_max:
            raise ValueError(f"probes_min {self.probes_min} is above probes_max {self.probes_max}")
        if self.interval == "calibrated" and self.probes_min + FRESH > self.probes_max:
            raise ValueError(
                f"a calibrated interval takes a pilot of probes_min {self.probes_min} and {FRESH} fresh probes: more than "
                f"probes_max {self.probes_max}"
            )
        if self.method != "hutch++" and self.sketch != type(self).model_fields["sketch"].default:
            raise ValueError(f"sketch {self.sketch} belongs to method hutch++, and the method is {self.method}")
        return self


METRICS = (
    Metric("trace", "Hessian trace, raw", "nats", log=True, group="trace", column="Trace", beside=None, note=SURVIVORS),
    Metric("trace_se", at=("trace",), part="se", group=None, column=None, beside=None),
    Metric(
        "trace_per_weight",
        "Hessian trace per surviving weight",
        "nats",
        log=True,
        group="trace",
        words="trace per weight",
        tested=True,
        question=IS_FLAT,
        column="Trace per weight",
    ),
    Metric(
        "trace_invariant",
        "Rescaling-invariant trace, Σ w² H",
        "nats",
        at=("invariant",),
        log=True,
        group="trace",
        words="rescaling-invariant trace",
        column=None,
        tested=True,
        question=IS_FLAT,
    ),
    Metric("weight_norm", "Norm of the surviving weights", "L2", log=True, group="trace", column="Weight norm", beside=None),
    Metric("train_loss", "Train loss", "nats", group=None, column="Train loss", beside=None),
)


def measure(settings: Settings, copies: Copies) -> Measurements:
    """The trace of each copy and their mean, on the device that the examples live on.

    Copies have probes of their own, so that their errors are independent; `se` of a mean over copies is the probes'
    error and `sd` the spread between copies.

    Numbers: `trace`, `trace_per_weight`, `invariant`, `weight_norm`, `train_loss` (estimates over copies), `layers`
    {name: {remaining, trace, trace_per_weight}}, `copies` (each with its estimates over probes, their count and which
    rule stopped them: "relative error" or "cap"), `rows` (recorded). With hutch++ or calibrated intervals copies also
    have `products`, the products with H that were taken, and what of them were a `pilot` and a `sketch`; calibrated
    estimates have `skewness`, that of the mean.

    Raises:
        UserError: there are no examples or no copies.
        NonFiniteError: the loss or a product is not finite.
    """
    model, train, streams = copies.model, copies.train, copies.streams
    examples, rows = recorded("curvature", copies.states, train, settings.rows, streams)
    device = train.x.device
    measured: list[CopyTrace] = []
    for c, (copy, mask) in enumerate(zip(copies.states, copies.masks, strict=True)):

        def tick(done: int, expected: int, c: int = c) -> None:
            copies.progress.tick(c * expected + done, len(copies.states) * expected, f"copy {c}")

        measured.append(_one(settings, model, to(copy, device), mask.to(device), examples, streams, c, tick))
    layers = {
        name: {
            "trace": _over([m["layers"][name]["trace"] for m in measured]),
            "trace_per_weight": _over([m["layers"][name]["trace_per_weight"] for m in measured]),
            "remaining": [m["layers"][name]["remaining"] for m in measured],
        }
        for name in model.prunable
    }
    return Measurements(
        "curvature",
        {
            "trace": _over([m["trace"] for m in measured]),
            "trace_per_weight": _over([m["trace_per_weight"] for m in measured]),
            "invariant": _over([m["invariant"] for m in measured]),
            "weight_norm": estimate([m["weight_norm"] for m in measured]),
            "train_loss": estimate([m["train_loss"] for m in measured]),
            "layers": layers,
            "copies": measured,
            "rows": rows.record(),
        },
    )


def _over(parts: Sequence[Estimate | None]) -> Estimate | None:
    known = [p for p in parts if p is not None]
    return pooled(known) if known else None


def _one(
    settings: Settings,
    model: Model,
    state: State,
    mask: Mask,
    examples: Examples,
    streams: Streams,
    copy: int,
    tick: Callable[[int, int], None],
) -> CopyTrace:
    """The trace of one state, its layers' traces, and what they are read with."""
    products = Products(model, state, mask, examples)
    sketch = None
    if settings.method == "hutch++":
        generators = [streams("curvature", "sketch", copy=copy, index=i) for i in range(settings.sketch)]
        sketch = Sketch(products, products.signs(generators))

    def samples(begin: int, end: int) -> list[Tensor]:
        """The estimates of probes begin..end-1, as `quadratics` gives them: (L + 1,) each."""
        rows = quadratics(products, sketch, [streams("curvature", "probe", copy=copy, index=i) for i in range(begin, end)])
        if not bool(torch.isfinite(rows).all()):
            raise NonFiniteError(f"the curvature of copy {copy} is not finite", got=f"training loss {products.loss:g}")
        return list(rows.unbind())

    calibrated = settings.interval == "calibrated"
    over_probes = skewed if calibrated else estimate
    probes, stopped = (_two_stages if calibrated else _one_stage)(settings, samples, tick)
    trace, layers = over_probes(_traces(probes)), dict[str, LayerTrace]()
    *by_layer, invariants = torch.stack(probes).T
    for column, name in zip(by_layer, model.prunable, strict=True):
        layer, remaining = over_probes(column.tolist()), int(mask.kept[name].sum())
        layers[name] = {"remaining": remaining, "trace": layer, "trace_per_weight": _divided(layer, remaining)}
    sketched, piloted = 0 if sketch is None else sketch.products, settings.probes_min if calibrated else 0
    beside: Beside = {"products": len(probes) + sketched + piloted} if sketch or calibrated else {}
    if sketch is not None:
        beside["sketch"] = sketched
    if calibrated:
        beside["pilot"] = piloted
    return {
        "trace": trace,
        "trace_per_weight": _divided(trace, mask.remaining),
        "invariant": over_probes(invariants.tolist()),
        "probes": len(probes),
        **beside,
        "stopped": stopped,
        "survivors": mask.remaining,
        "layers": layers,
        "weight_norm": products.weight_norm(),
        "train_loss": products.loss,
    }


def quadratics(products: Products, sketch: Sketch | None, generators: Sequence[torch.Generator]) -> Tensor:
    """Estimates by the probe of each of K generators, (K, L + 1) float64: the trace of every layer, then the invariant.

    With a sketch, its known part of H enters as it is, and probes estimate the rest.
    """
    if sketch is None:
        return products.quadratics(products.probes(generators))
    entries = sketch.known + sketch.terms(products.signs(generators))
    return torch.cat([products.by_layer(entries), (entries @ products.weights().square())[:, None]], 1)


def _one_stage(
    settings: Settings, samples: Callable[[int, int], list[Tensor]], tick: Callable[[int, int], None] = SILENT.tick
) -> tuple[list[Tensor], str]:
    """Probes until the observed error is small or the cap is reached, and which of the two. `tick` hears how many there are,
    and how many are expected by that error."""
    probes: list[Tensor] = []
    block = settings.probes_min
    while block:
        probes += samples(len(probes), len(probes) + block)
        trace = estimate(_traces(probes))
        tick(len(probes), max(len(probes), min(_asked(trace, settings.relative_error), settings.probes_max)))
        if _enough(trace, settings.relative_error):
            return probes, "relative error"
        block = min(settings.check_every, settings.probes_max - len(probes))
    return probes, "cap"


def _two_stages(
    settings: Settings, samples: Callable[[int, int], list[Tensor]], tick: Callable[[int, int], None] = SILENT.tick
) -> tuple[list[Tensor], str]:
    """Fresh probes, as many as a pilot asks for or the cap allows, and which of the two. The pilot is not among them."""
    begin = settings.probes_min
    pilot = estimate(_traces(samples(0, begin)))
    asked, most = max(FRESH, _asked(pilot, settings.relative_error)), settings.probes_max - begin
    end = begin + min(asked, most)
    tick(begin, end)
    probes: list[Tensor] = []
    for first in range(begin, end, settings.check_every):
        probes += samples(first, min(end, first + settings.check_every))
        tick(begin + len(probes), end)
    return probes, "cap" if asked > most else "relative error"


def _asked(trace: Estimate, relative_error: float) -> int:
    """How many probes have so small an error, by the spread of those that there are."""
    sd, aim = float(trace["sd"] or 0), relative_error * abs(float(trace["mean"] or 0))
    ratio = sd / aim if aim else math.inf if sd else 0.0
    return math.ceil(min(ratio**2, 2.0**53))


def _traces(samples: Sequence[Tensor]) -> list[float]:
    return [float(s[:-1].sum()) for s in samples]


def _enough(trace: Estimate, relative_error: float) -> bool:
    return trace["se"] is not None and trace["se"] <= relative_error * abs(trace["mean"])


def _divided(whole: Estimate, count: int) -> Estimate | None:
    """The estimate for one of `count` equal shares; None where there are none."""
    if count == 0:
        return None
    parts = cast(dict[str, float | None], whole)
    return cast(Estimate, {k: v if k in ("n", "skewness") or v is None else v / count for k, v in parts.items()})
