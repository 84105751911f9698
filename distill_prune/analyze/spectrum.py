"""Leading eigenvalues and eigenvectors of the Hessian, and its spectral density, over surviving weights.

The implicitly restarted Lanczos method gives the largest eigenvalues l, with the residuals |H u - l u| / |l|. For each
eigenvector u there are the layers' shares of its squared mass, and its participation ratio 1 / (P sum_i u_i^4): it is 1 where
all P survivors have equal mass, and 1 / P where one has all of it.

With the k leading eigenvalues l_i known, the rest of the spectrum is estimated by Lanczos quadrature (lanczos.py) from
directions v_j, uniform on the unit sphere orthogonal to the k eigenvectors, with nodes theta_jm and weights w_jm:

    density(x) = (1 / P) (sum_i N(x; l_i, sigma) + (P - k) mean_j sum_m w_jm N(x; theta_jm, sigma)),

N the normal density; sigma is a share of the range of all eigenvalues and nodes. The moments tr H / P and tr H^2 / P come
from the same sums without broadening. The spread over directions gives all of them standard errors.

Two numbers measure what is below zero:

- `negative`, the share of negative eigenvalues, is the mean of a step function. A quadrature determines it only up to the two
  nodes about the step (the inequalities of Chebyshev, Markov and Stieltjes): `negative_bounds`. They are wide where many
  eigenvalues are zero or nearly so.
- `negative_curvature`, sum max(-l, 0) / sum |l|, has no such step.

References:
    | ARPACK Users' Guide (Lehoucq, Sorensen and Yang, 1998)
    | An Investigation into Neural Net Optimization via Hessian Eigenvalue Density (Ghorbani et al., 2019),
      https://arxiv.org/abs/1901.10159
    | Approximating Spectral Densities of Large Matrices (Lin, Saad and Yang, 2016), https://arxiv.org/abs/1308.5467
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Literal, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from pydantic import Field
from torch import Tensor

from distill_prune.analyze.estimate import Estimate, combined, estimate
from distill_prune.analyze.inputs import Copies
from distill_prune.analyze.lanczos import basis_bytes, quadratures
from distill_prune.analyze.metric import SURVIVORS, Metric
from distill_prune.analyze.rows import recorded
from distill_prune.artifacts import Measurements
from distill_prune.errors import NonFiniteError, RunError, UserError
from distill_prune.rng import Streams
from distill_prune.settings import Entry as Base
from distill_prune.settings import Later
from distill_prune.training.hessian import Products
from distill_prune.tree import to

TAKES: Literal["copies"] = "copies"

RESTARTS = 300
"""The search for eigenvalues fails after so many restarts."""

ROUNDING = 1e-5
"""A node counts as negative where it is below zero by more than this share of the largest in magnitude: networks have
eigenvalues that are zero on paper, and products of single precision."""


class Settings(Base):
    name: Literal["spectrum"] = "spectrum"
    rows: int = Field(1024, ge=1, description="train examples that the Hessian is of")
    copies: int = Field(1, ge=1, description="how many copies are measured, at most")
    eigenvalues: int = Field(10, ge=1, description="the largest so many, fewer than survivors")
    tolerance: float = Field(1e-4, gt=0, lt=1, description="residual that an eigenvalue may have, as a share of it")
    starts: int = Field(6, ge=2, description="directions that the density is seen from")
    steps: int = Field(60, ge=2, description="steps of the recurrence from each, at most the dimension")
    broadening: float = Field(0.01, gt=0, le=0.5, description="sigma as a share of the range of eigenvalues")
    memory_gb: float = Later(4.0, gt=0, description="the most that one direction may hold: 8 bytes a survivor and step")


class EigenPair(TypedDict):
    """A leading eigenvalue, and what its eigenvector is like."""

    value: float
    residual: float
    participation: float
    layers: dict[str, float]


class Density(TypedDict):
    """The density and its standard errors on a grid."""

    grid: list[float]
    values: list[float]
    errors: list[float]
    sigma: float


class Moments(TypedDict):
    """Of the eigenvalues."""

    first: Estimate
    second: Estimate


class CopySpectrum(TypedDict):
    """One copy's numbers; estimates are over directions."""

    copy: int
    eigenvalues: list[EigenPair]
    density: Density
    moments: Moments
    negative: Estimate
    negative_bounds: list[float]
    negative_curvature: Estimate
    survivors: int
    train_loss: float
    products: int


METRICS = (
    Metric(
        "top_eigenvalue",
        "Largest Hessian eigenvalue",
        "nats",
        at=("top",),
        log=True,
        group="spectrum",
        words="largest eigenvalue",
        tested=True,
        column=None,
        note=SURVIVORS,
    ),
)


def measure(settings: Settings, copies: Copies) -> Measurements:
    """Spectra of the first `settings.copies` copies, on the device that the examples live on.

    Numbers: `copies` [{copy, eigenvalues [{value, residual, participation, layers {name: share}}], density {grid, values,
    errors, sigma}, moments {first, second}, negative (share of eigenvalues below zero) and negative_curvature (estimates
    over directions), negative_bounds [low, high] (what the nodes leave open of the share), survivors, train_loss,
    products}], `top` (the largest eigenvalue), `ratio` (of the largest to the fifth, where there is a positive one),
    `negative`, `negative_curvature` (estimates over copies), `rows`.

    Raises:
        UserError: there are no examples or no copies, not more survivors than eigenvalues are asked for, or more survivors
            than `memory_gb` allows for so many steps.
        NonFiniteError: the loss or a product is not finite.
        RunError: eigenvalues were not found within the tolerance.
    """
    model, train, streams = copies.model, copies.train, copies.streams
    examples, rows = recorded("spectrum", copies.states, train, settings.rows, streams)
    chosen = list(zip(copies.states, copies.masks, strict=True))[: settings.copies]
    # How many products eigenvalues take is not known beforehand; ten for each is usual.
    expected = 11 * settings.eigenvalues + settings.starts * settings.steps
    measured: list[CopySpectrum] = []
    for c, (copy, mask) in enumerate(chosen):

        def tick(done: int, c: int = c) -> None:
            copies.progress.tick(c * expected + min(done, expected), len(chosen) * expected, f"copy {c}")

        placed = to(copy, train.x.device)
        products = Products(model, placed, mask.to(train.x.device), examples)
        measured.append(_one(settings, products, streams, c, tick))
    values = [[e["value"] for e in m["eigenvalues"]] for m in measured]
    ratios = [v[0] / v[4] for v in values if len(v) > 4 and v[4] > 0]
    return Measurements(
        "spectrum",
        {
            "copies": measured,
            "top": estimate([v[0] for v in values]),
            "ratio": estimate(ratios) if ratios else None,
            "negative": combined([m["negative"] for m in measured]),
            "negative_curvature": combined([m["negative_curvature"] for m in measured]),
            "rows": rows.record(),
        },
    )


def _one(settings: Settings, products: Products, streams: Streams, copy: int, tick: Callable[[int], None]) -> CopySpectrum:
    size, count, done = products.survivors, settings.eigenvalues, 0
    if count >= size:
        raise UserError(
            f"the spectrum of copy {copy} has no {count} leading eigenvalues",
            got=f"{size} surviving weights",
            expected=f"more than compare.spectrum.eigenvalues, {count}",
            fix="fewer eigenvalues, or leave such sparse tickets out: only: {spectrum: {levels: [...]}}",
        )
    if (need := basis_bytes(size, settings.steps)) > settings.memory_gb * 1e9:
        most = int(settings.memory_gb * 1e9 / (8 * size))
        raise UserError(
            f"the spectrum of copy {copy} takes more memory than it may",
            got=f"{need / 1e9:.3g} GB for {size} surviving weights and {settings.steps} steps",
            expected=f"at most compare.spectrum.memory_gb, {settings.memory_gb:g}",
            fix=f"compare.spectrum.steps of at most {most}, or a larger memory_gb" if most > 1 else "a larger memory_gb",
        )
    if not np.isfinite(products.loss):
        raise NonFiniteError(f"the spectrum of copy {copy} is not finite", got=f"training loss {products.loss:g}")

    def times(vectors: Tensor) -> Tensor:
        nonlocal done
        done += len(vectors)
        tick(done)
        return products.times(vectors)

    first = torch.randn(size, generator=streams("spectrum", "v0", copy=copy), dtype=torch.float64)
    values, vectors = leading(times, first, count, settings.tolerance, f"copy {copy}")
    image = times(vectors)
    residuals = (image - values[:, None] * vectors).norm(dim=1) / values.abs()
    normal = torch.stack(
        [
            torch.randn(size, generator=streams("spectrum", "start", copy=copy, index=i), dtype=torch.float64)
            for i in range(settings.starts)
        ]
    )
    starts = normal - (normal @ vectors.T) @ vectors
    seen = quadratures(times, starts, settings.steps, vectors)
    masses = products.by_layer(vectors.square())
    spectrum = Spectrum(values, [(nodes, weights * (size - count)) for nodes, weights in seen], size)
    return {
        "copy": copy,
        "eigenvalues": [
            {
                "value": float(values[i]),
                "residual": float(residuals[i]),
                "participation": 1 / (size * float(vectors[i].pow(4).sum())),
                "layers": dict(zip(products.layers, masses[i].tolist(), strict=True)),
            }
            for i in range(count)
        ],
        "density": spectrum.density(settings.broadening),
        "moments": {"first": spectrum.mean(lambda x: x), "second": spectrum.mean(torch.square)},
        "negative": spectrum.mean(lambda x: (x < -ROUNDING * spectrum.largest).double()),
        "negative_bounds": spectrum.below(-ROUNDING * spectrum.largest),
        "negative_curvature": spectrum.ratio(lambda x: (-x).clamp(min=0), torch.abs),
        "survivors": size,
        "train_loss": products.loss,
        "products": done,
    }


def leading(times: Callable[[Tensor], Tensor], first: Tensor, count: int, tolerance: float, what: str) -> tuple[Tensor, Tensor]:
    """The `count` largest eigenvalues, largest first, and their eigenvectors as rows, of the matrix that `times` multiplies
    rows (k, P) with; `first` (P,) is what the iteration begins with.

    Raises:
        RunError: they were not found.
    """
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    def one(vector: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return times(torch.from_numpy(np.array(vector, dtype=np.float64).reshape(1, -1)))[0].numpy()

    size = len(first)
    operator = LinearOperator((size, size), matvec=one, dtype=np.float64)
    try:
        values, vectors = eigsh(operator, count, which="LA", v0=first.numpy(), tol=tolerance, maxiter=RESTARTS)
    except ArpackNoConvergence as problem:
        raise RunError(
            f"leading eigenvalues of {what} were not found",
            got=f"{len(problem.eigenvalues)} of {count} within {RESTARTS} restarts",
            expected=f"residuals of at most {tolerance:g}",
            fix="fewer eigenvalues, or a larger compare.spectrum.tolerance",
        ) from problem
    order = np.argsort(values)[::-1].copy()
    return torch.from_numpy(values[order]), torch.from_numpy(vectors.T[order])


class Spectrum:
    """What is known of `size` eigenvalues: some exactly, the rest by quadrature from several directions.

    `values` are those that are known. `seen` has, for each direction, nodes, smallest first, and weights, (M,) each; the
    weights sum to the number of the other eigenvalues.
    """

    def __init__(self, values: Tensor, seen: Sequence[tuple[Tensor, Tensor]], size: int) -> None:
        self._values, self._seen, self._size = values, seen, size
        everything = torch.cat([values, *(nodes for nodes, _ in seen)])
        self._low, self._high = float(everything.min()), float(everything.max())
        self.largest = float(everything.abs().max())

    def mean(self, function: Callable[[Tensor], Tensor]) -> Estimate:
        """The mean of a function over all eigenvalues, over directions."""
        return estimate(self._means(lambda x: function(x)[None])[:, 0].tolist())

    def ratio(self, part: Callable[[Tensor], Tensor], whole: Callable[[Tensor], Tensor]) -> Estimate:
        """The sum of one function over that of another, over directions; 0 where there is nothing."""
        parts, wholes = self._means(lambda x: torch.stack([part(x), whole(x)])).T
        return estimate(torch.where(wholes > 0, parts / wholes, 0.0).tolist())

    def below(self, bound: float) -> list[float]:
        """Low and high bounds of the share of eigenvalues below `bound`, by the nodes next to it; means over directions."""
        known = int((self._values < bound).sum())
        ends = torch.zeros(2, dtype=torch.float64)
        for nodes, weights in self._seen:
            under = int((nodes < bound).sum())
            ends += torch.stack([weights[: max(0, under - 1)].sum(), weights[: under + 1].sum()])
        return ((known + ends / len(self._seen)) / self._size).tolist()

    def density(self, broadening: float) -> Density:
        """The density with its standard errors, broadened by a share of the range, on a grid of half its width."""
        sigma = broadening * (self._high - self._low) or broadening * self.largest or broadening
        points = round(2 * (self._high - self._low + 8 * sigma) / sigma) + 1
        grid = torch.linspace(self._low - 4 * sigma, self._high + 4 * sigma, points, dtype=torch.float64)

        def normal(x: Tensor) -> Tensor:
            heights: Tensor = torch.exp(-0.5 * ((grid[:, None] - x) / sigma).square()) / (sigma * math.sqrt(2 * math.pi))
            return heights

        means = self._means(normal)
        errors = means.std(0) / len(means) ** 0.5
        return {"grid": grid.tolist(), "values": means.mean(0).tolist(), "errors": errors.tolist(), "sigma": sigma}

    def _means(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Means over eigenvalues of functions (M,) -> (F, M), one row a direction; (directions, F)."""
        known = function(self._values).sum(1)
        return torch.stack([(known + function(nodes) @ weights) / self._size for nodes, weights in self._seen])
