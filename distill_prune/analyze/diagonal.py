"""The Hessian's diagonal over surviving weights, as a distribution.

Exact where few weights survive: H_ii = e_i' H e_i, one product a weight. Elsewhere, with a sketch Q of H's large curvature
(hessian.py) and P = 1 - Q Q', for signs g,

    H_ii = known_i + E[g_i (P H P g)_i],   variance of one probe: sum over j != i of (P H P)_ij^2,

whose spread over probes gives each entry a standard error. Without a sketch this is the estimator g * (H g), whose error
comes mostly from the few directions of large curvature. Where the mean error is not small compared with the quantiles, the
quantiles, and the entries below zero, are those of the noise.

References:
    | An estimator for the diagonal of a matrix (Bekas, Kokiopoulou and Saad, 2007)
    | Stochastic diagonal estimation: probabilistic bounds and an improved algorithm (Baston and Nakatsukasa, 2022),
      https://arxiv.org/abs/2201.10684
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from distill_prune.analyze.estimate import Estimate, combined, estimate
from distill_prune.analyze.inputs import Copies
from distill_prune.analyze.metric import SURVIVORS, Metric
from distill_prune.analyze.rows import recorded
from distill_prune.artifacts import Measurements
from distill_prune.errors import NonFiniteError
from distill_prune.rng import Streams
from distill_prune.settings import Entry as Base
from distill_prune.training.hessian import Products, Sketch
from distill_prune.tree import to

TAKES: Literal["copies"] = "copies"

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)

BLOCK = 16
"""The number of products that are computed together."""


class Histogram(TypedDict):
    """Counts between edges, of which there is one more."""

    edges: list[float]
    counts: list[int]


class CopyDiagonal(TypedDict):
    """One copy's numbers, as `measure` describes them."""

    copy: int
    exact: bool
    probes: int
    products: int
    survivors: int
    quantiles: dict[str, float]
    error: float
    noise: float
    negative: float
    surely_negative: float
    sum: Estimate
    histogram: Histogram
    train_loss: float


class Settings(Base):
    name: Literal["diagonal"] = "diagonal"
    rows: int = Field(1024, ge=1, description="train examples that the Hessian is of")
    copies: int = Field(1, ge=1, description="how many copies are measured, at most")
    exact_below: int = Field(3000, ge=0, description="exact where at most so many weights survive")
    probes: int = Field(100, ge=2, description="of the estimate")
    sketch: int = Field(50, ge=0, description="vectors of its sketch, each worth two products; 0: none")
    bins: int = Field(60, ge=1, description="of the histogram")


METRICS = (
    Metric(
        "diagonal_median",
        "Median of the Hessian diagonal",
        "nats",
        at=("median",),
        log=True,
        group="spectrum",
        column=None,
        note=SURVIVORS,
    ),
    Metric(
        "diagonal_negative",
        "Hessian diagonal below zero",
        "% of entries",
        100,
        at=("negative",),
        group="spectrum",
        column=None,
        beside=None,
    ),
)


def measure(settings: Settings, copies: Copies) -> Measurements:
    """Diagonals of the first `settings.copies` copies, on the device that the examples live on.

    Numbers: `copies` [{copy, exact, probes (0 where exact), products, survivors, quantiles {"0.05": ...}, error (mean
    standard error of an entry, 0 where exact), noise (share of the entries' variance that is error), negative (share of
    entries below zero), surely_negative (by more than two of their errors), sum (the trace), histogram {edges, counts},
    train_loss}], `median`, `negative`, `sum` (estimates over copies; of the last, the error is that of the probes),
    `rows`. Bins of the histogram are even on the scale asinh(x / median |x|).

    Raises:
        UserError: there are no examples or no copies.
        NonFiniteError: the loss or a product is not finite.
    """
    model, train, streams = copies.model, copies.train, copies.streams
    examples, rows = recorded("diagonal", copies.states, train, settings.rows, streams)
    chosen = list(zip(copies.states, copies.masks, strict=True))[: settings.copies]
    measured: list[CopyDiagonal] = []
    for c, (copy, mask) in enumerate(chosen):

        def tick(done: int, total: int, c: int = c) -> None:
            copies.progress.tick(c * total + done, len(chosen) * total, f"copy {c}")

        products = Products(model, to(copy, train.x.device), mask.to(train.x.device), examples)
        if not np.isfinite(products.loss):
            raise NonFiniteError(f"the diagonal of copy {c} is not finite", got=f"training loss {products.loss:g}")
        measured.append(_one(settings, products, streams, c, tick))
    sums = [m["sum"] for m in measured]
    return Measurements(
        "diagonal",
        {
            "copies": measured,
            "median": estimate([m["quantiles"]["0.5"] for m in measured]),
            "negative": estimate([m["negative"] for m in measured]),
            # Exact sums have no error of their own; only their spread between copies is known.
            "sum": estimate([float(s["mean"] or 0) for s in sums]) if any(m["exact"] for m in measured) else combined(sums),
            "rows": rows.record(),
        },
    )


def _one(settings: Settings, products: Products, streams: Streams, copy: int, tick: Callable[[int, int], None]) -> CopyDiagonal:
    size = products.survivors
    exact = size <= settings.exact_below
    if exact:
        entries, errors = exactly(products, tick), torch.zeros(size, dtype=torch.float64)
        total, taken = estimate([float(entries.sum())]), size
    else:
        entries, errors, total, taken = estimated(settings, products, streams, copy, tick)
    values, variance = entries.numpy(), float(entries.var(correction=0))
    return {
        "copy": copy,
        "exact": exact,
        "probes": 0 if exact else settings.probes,
        "products": taken,
        "survivors": size,
        "quantiles": {f"{q:g}": float(np.quantile(values, q)) for q in QUANTILES},
        "error": float(errors.mean()),
        "noise": min(1.0, float(errors.square().mean()) / variance) if variance > 0 else 0.0,
        "negative": float((entries < 0).double().mean()),
        "surely_negative": float((entries < -2 * errors).double().mean()),
        "sum": total,
        "histogram": histogram(values, settings.bins),
        "train_loss": products.loss,
    }


def exactly(products: Products, tick: Callable[[int, int], None]) -> Tensor:
    """The diagonal (survivors,), float64, by one product an entry."""
    size = products.survivors
    entries = torch.empty(size, dtype=torch.float64)
    for begin in range(0, size, BLOCK):
        index = torch.arange(begin, min(size, begin + BLOCK))
        rows = torch.arange(len(index))
        units = torch.zeros(len(index), size, dtype=torch.float64)
        units[rows, index] = 1
        entries[index] = products.times(units)[rows, index]
        tick(begin + len(index), size)
    return entries


def estimated(
    settings: Settings, products: Products, streams: Streams, copy: int, tick: Callable[[int, int], None]
) -> tuple[Tensor, Tensor, Estimate, int]:
    """Estimates of the entries and their standard errors, (survivors,) each; that of their sum; the products taken."""

    def signs(what: str, indices: range) -> Tensor:
        return products.signs([streams("diagonal", what, copy=copy, index=i) for i in indices])

    sketch = Sketch(products, signs("sketch", range(settings.sketch)))
    mean, squares = torch.zeros_like(sketch.known), torch.zeros_like(sketch.known)
    sums: list[float] = []
    for begin in range(0, settings.probes, BLOCK):
        # About the mean so far: each block's deviations from it, weighed by its share of all (Chan et al.).
        block = sketch.terms(signs("probe", range(begin, min(settings.probes, begin + BLOCK))))
        shift, before, together = block.mean(0) - mean, len(sums), len(sums) + len(block)
        squares += (block - block.mean(0)).square().sum(0) + shift.square() * before * len(block) / together
        mean += shift * len(block) / together
        sums += (float(sketch.known.sum()) + block.sum(1)).tolist()
        tick(sketch.products + len(sums), sketch.products + settings.probes)
    errors = (squares / (len(sums) - 1) / len(sums)).sqrt()
    return sketch.known + mean, errors, estimate(sums), sketch.products + len(sums)


def histogram(values: npt.NDArray[np.float64], bins: int) -> Histogram:
    """Counts of `values` between `bins` + 1 edges that are even on the scale asinh(x / median |x|)."""
    low, high = float(values.min()), float(values.max())
    scale = float(np.median(np.abs(values))) or max(abs(low), abs(high)) or 1.0
    if low == high:
        low, high = low - scale, high + scale
    edges = scale * np.sinh(np.linspace(np.arcsinh(low / scale), np.arcsinh(high / scale), bins + 1))
    edges[0], edges[-1] = low, high  # rounding must not leave the ends out
    return {"edges": edges.tolist(), "counts": np.histogram(values, edges)[0].tolist()}
