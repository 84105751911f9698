"""Gauss quadrature of a symmetric matrix's spectrum by the Lanczos recurrence, fully reorthogonalised.

From a unit vector v, m steps give an orthonormal basis of span{v, A v, ..., A^(m-1) v} in which A is a tridiagonal T. With
T = Y diag(theta) Y',

    v' f(A) v = sum_j w_j f(theta_j),   w_j = Y_1j^2,

exactly for polynomials f of degree at most 2 m - 1. Let v be uniform on the unit sphere of a space of dimension P. Then the
mean of P v' f(A) v is tr f(A).

The basis is kept whole, (m, P) in float64: without reorthogonalisation against all of it, converged eigenvalues come twice.

References:
    | Calculation of Gauss quadrature rules (Golub and Welsch, 1969)
    | Fast Estimation of tr(f(A)) via Stochastic Lanczos Quadrature (Ubaru, Chen and Saad, 2017)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

GROUP_BYTES = 1024 * 2**20
"""Starts advance together as long as their bases are no larger than this; a single basis may be larger (`basis_bytes`)."""

BREAKDOWN = 1e-12
"""A new direction shorter than this share of the largest entry of T is rounding: the space is exhausted."""


def basis_bytes(size: int, steps: int) -> int:
    """Bytes of the basis that `steps` steps in a space of dimension `size` fill."""
    return 8 * size * min(steps, size)


@dataclass
class _Recurrence:
    """One start's basis (M, P), of which rows are filled one by one, and the entries of its T."""

    rows: Tensor
    diagonal: list[float] = field(default_factory=list)
    beside: list[float] = field(default_factory=list)
    ended: bool = False

    @classmethod
    def begin(cls, start: Tensor, steps: int) -> _Recurrence:
        rows = torch.empty(steps, len(start), dtype=start.dtype)
        rows[0] = start / start.norm()
        return cls(rows)

    @property
    def basis(self) -> Tensor:
        """The rows that are filled, (m, P)."""
        return self.rows[: len(self.beside) + 1]


def quadratures(times: Callable[[Tensor], Tensor], starts: Tensor, steps: int, outside: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Nodes and weights, (M,) each with M <= `steps`, of the spectrum of A as seen from each of `starts` (K, P).

    `times` takes rows (k, P) to A's products with them. Starts advance together, in groups of at most GROUP_BYTES, so that
    one call serves a whole group. `outside` (J, P) are orthonormal vectors whose span is left out: A is then restricted to
    the orthogonal complement, which must contain the starts. All are float64.
    """
    size = starts.shape[1]
    steps = min(steps, size - len(outside))
    group = max(1, GROUP_BYTES // basis_bytes(size, steps))
    seen: list[tuple[Tensor, Tensor]] = []
    for some in torch.split(starts, group):
        recurrences = [_Recurrence.begin(start, steps) for start in some]
        while active := [r for r in recurrences if not r.ended]:
            for r, product in zip(active, times(torch.stack([r.basis[-1] for r in active])), strict=True):
                _advance(r, product, outside)
        seen += [_nodes(r) for r in recurrences]
    return seen


def _advance(r: _Recurrence, product: Tensor, outside: Tensor) -> None:
    """One step: the next diagonal entry, and the next direction, if there is to be one."""
    r.diagonal.append(float(r.basis[-1] @ product))
    # Twice is enough: once leaves the rounding of a large component, which grows from step to step.
    for _ in range(2):
        for known in (r.basis, outside):
            product = product - (known @ product) @ known
    length = float(product.norm())
    exhausted = length <= BREAKDOWN * max(map(abs, (*r.diagonal, *r.beside)))
    if exhausted or len(r.diagonal) == len(r.rows):
        r.ended = True
        return
    r.beside.append(length)
    r.basis[-1] = product / length


def _nodes(r: _Recurrence) -> tuple[Tensor, Tensor]:
    from scipy.linalg import eigh_tridiagonal

    values, vectors = eigh_tridiagonal(r.diagonal, r.beside)
    return torch.from_numpy(values), torch.from_numpy(vectors[0] ** 2)
