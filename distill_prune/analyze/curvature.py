"""Hessian trace over surviving weights, by Hutchinson's estimator, by Hutch++ or by XTrace.

H is the Hessian of the training loss over recorded examples (hessian.py). For Rademacher probes v on surviving weights,

    tr H = E[v' H v],   tr H_ll = E[v_l' (H v)_l] of layer l,   sum_i w_i^2 H_ii = E[sum_i w_i^2 v_i (H v)_i],

all from the same products. The last is invariant under rescaling of layers. Raw traces of networks with different
survivors or norms are not comparable, so trace per survivor, weight norm and loss are given too.

Hutch++ splits H by a sketch (hessian.py). It computes the three quantities exactly for the known part, and estimates them by
probes for the rest alone. The variance of a probe, Var(v' A v) = 2 (|A|_F^2 - sum A_ii^2), comes mostly from few large
eigenvalues, and these are in the known part. XTrace (xtrace.py) has no vectors for the sketch alone: each probe takes two
products, and the sketch that its rest is estimated beside is made of all the others.

When probes end, and how often intervals hold the trace: probing.py.

References:
    | A stochastic estimator of the trace of the influence matrix (Hutchinson, 1989)
    | Hutch++: Optimal Stochastic Trace Estimation (Meyer, Musco, Musco and Woodruff, 2021), https://arxiv.org/abs/2010.09649
    | Relative flatness and generalization (Petzka et al., 2021), https://arxiv.org/abs/2001.00939
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, TypedDict, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor

from distill_prune.analyze.estimate import Estimate, estimate
from distill_prune.analyze.inputs import Copies
from distill_prune.analyze.metric import IS_FLAT, SURVIVORS, Metric
from distill_prune.analyze.probing import FRESH, Stopping, one_stage, traces, two_stages
from distill_prune.analyze.rows import recorded
from distill_prune.analyze.skewness import pooled, skewed
from distill_prune.analyze.xtrace import XTrace
from distill_prune.artifacts import Examples, Mask, Measurements
from distill_prune.errors import Misfit, NonFiniteError
from distill_prune.models import Model
from distill_prune.rng import Streams
from distill_prune.settings import Later
from distill_prune.training.hessian import Products, Sketch
from distill_prune.tree import State, to

TAKES: Literal["copies"] = "copies"


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


class Settings(Stopping):
    name: Literal["curvature"] = "curvature"
    rows: int = Field(1024, ge=1, description="train examples that the Hessian is of")
    method: Literal["hutchinson", "hutch++", "xtrace"] = Later(
        "hutchinson",
        description="hutch++: fewer products, by a sketch; xtrace: fewer still, every random direction is worth two products",
    )
    sketch: int = Later(16, ge=1, description="vectors of the sketch of hutch++, each worth two products")
    interval: Literal["student", "calibrated"] = Later(
        "student",
        description="student: probes stop at relative_error; calibrated: a pilot fixes their number first",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if self.probes_min > self.probes_max:
            raise Misfit("it is above probes_max", ["probes_min"], got=self.probes_min, expected=f"at most {self.probes_max}")
        if self.interval == "calibrated" and self.probes_min + FRESH > self.probes_max:
            what = f"a calibrated interval takes a pilot of probes_min {self.probes_min} and {FRESH} fresh probes"
            raise Misfit(what, ["probes_max"], got=self.probes_max, expected=f"at least {self.probes_min + FRESH}")
        if self.interval == "calibrated" and self.method == "xtrace":
            raise Misfit(
                "a calibrated interval is of independent probes, and those of xtrace are not", ["interval"], fix="leave it out"
            )
        if self.method != "hutch++" and self.sketch != type(self).model_fields["sketch"].default:
            raise Misfit(f"it belongs to method hutch++, and the method is {self.method}", ["sketch"], fix="leave sketch out")
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
    rule stopped them: "relative error" or "cap"), `rows` (recorded). With hutch++, xtrace or calibrated intervals copies also
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

    xtrace = XTrace(products) if settings.method == "xtrace" else None
    taken: list[Tensor] = []

    def samples(begin: int, end: int) -> list[Tensor]:
        """The estimates of probes begin..end-1, as `quadratics` gives them: (L + 1,) each. XTrace's are of all so far."""
        generators = [streams("curvature", "probe", copy=copy, index=i) for i in range(begin, end)]
        if xtrace is None:
            rows = quadratics(products, sketch, generators)
        else:
            xtrace.add(products.signs(generators))
            rows = sums(products, xtrace.diagonals())
        if not bool(torch.isfinite(rows).all()):
            raise NonFiniteError(f"the curvature of copy {copy} is not finite", got=f"training loss {products.loss:g}")
        return list(rows.unbind())

    def estimates(begin: int, end: int) -> list[Tensor]:
        taken[:] = samples(begin, end) if xtrace is not None else [*taken, *samples(begin, end)]
        return taken

    calibrated = settings.interval == "calibrated"
    over_probes = skewed if calibrated else estimate
    probes, stopped = two_stages(settings, samples, tick) if calibrated else one_stage(settings, estimates, tick)
    trace, layers = over_probes(traces(probes)), dict[str, LayerTrace]()
    *by_layer, invariants = torch.stack(probes).T
    for column, name in zip(by_layer, model.prunable, strict=True):
        layer, remaining = over_probes(column.tolist()), int(mask.kept[name].sum())
        layers[name] = {"remaining": remaining, "trace": layer, "trace_per_weight": _divided(layer, remaining)}
    sketched, piloted = 0 if sketch is None else sketch.products, settings.probes_min if calibrated else 0
    beside: Beside = {"products": len(probes) + sketched + piloted} if sketch or calibrated else {}
    if xtrace is not None:
        beside["products"] = xtrace.taken
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
    return sums(products, entries)


def sums(products: Products, entries: Tensor) -> Tensor:
    """Of estimates of the diagonal (K, survivors): the sum over every layer, then sum_i w_i^2 H_ii; (K, L + 1)."""
    return torch.cat([products.by_layer(entries), (entries @ products.weights().square())[:, None]], 1)


def _divided(whole: Estimate, count: int) -> Estimate | None:
    """The estimate for one of `count` equal shares; None where there are none."""
    if count == 0:
        return None
    parts = cast(dict[str, float | None], whole)
    return cast(Estimate, {k: v if k in ("n", "skewness") or v is None else v / count for k, v in parts.items()})
