"""XTrace: every random direction both sketches H and probes what the sketch of the others leaves.

Of s sign vectors W = (w_1 .. w_s), Y = H W and an orthonormal basis Q of Y's columns, with H Q: about 2 s products. Let Q_i be
a basis of the columns of Y but the i-th, and P_i = 1 - Q_i Q_i'. Each vector's estimate of H is Hutch++'s with the others as
the sketch (hessian.py):

    diag_i = diag(Q_i Q_i' H + H Q_i Q_i' - Q_i Q_i' H Q_i Q_i') + w_i * (P_i H P_i w_i),   i = 1 .. s

It is unbiased, for w_i does not enter Q_i, and its sum is the paper's estimate of the trace. All s come from the same products:
Q_i Q_i' = Q Q' - u_i u_i', where u_i = Q x_i and x_i is the direction of column i of (M M')^-1 M, M = Q' Y. Where column i lies
in the span of the others (H has a rank below s), Q_i = Q and u_i = 0.

The mean over i is XTrace, and its standard error is estimated as that of s independent values, as in the paper. The estimates
are exchangeable, not independent, and the error comes out too small: how often Student's interval holds the trace is in
probing.py.
A survivor takes 32 bytes of memory for each of the s vectors.

References:
    | XTrace: Making the Most of Every Sample in Stochastic Trace Estimation (Epperly, Tropp and Webber, 2024),
      https://arxiv.org/abs/2301.07825
"""

from __future__ import annotations

import torch
from torch import Tensor

from distill_prune.errors import RunError
from distill_prune.training.hessian import Products

SMALL = 1e-12
"""Directions that are smaller than this, beside the largest, are rounding."""


class XTrace:
    """The products so far. Vectors are on the survivors, float64 on the CPU; `taken` counts products."""

    def __init__(self, products: Products) -> None:
        self._products = products
        none = torch.zeros(products.survivors, 0, dtype=torch.float64)
        self._signs, self._images, self._basis, self._of_basis = none, none, none, none
        self.taken = 0

    def add(self, signs: Tensor) -> None:
        """Take the vectors of `signs` (K, survivors) among the others."""
        images = self._products.times(signs).T
        self._signs, self._images = torch.cat([self._signs, signs.T], 1), torch.cat([self._images, images], 1)
        beside = images
        for _ in range(2):  # twice, or rounding would leave a part of the basis
            beside = beside - self._basis @ (self._basis.T @ beside)
        directions, sizes, _ = torch.linalg.svd(beside, full_matrices=False)
        fresh = directions[:, sizes > SMALL * self._images.norm(dim=0).max()]
        self._basis = torch.cat([self._basis, fresh], 1)
        self._of_basis = torch.cat([self._of_basis, self._products.times(fresh.T).T], 1)
        self.taken += len(signs) + fresh.shape[1]

    def diagonals(self) -> Tensor:
        """Every vector's estimate of H's diagonal; (s, survivors).

        Raises:
            RunError: there are fewer than two vectors.
        """
        count = self._signs.shape[1]
        if count < 2:
            raise RunError("xtrace has too few products", got=f"{count} random directions", expected="2 or more")
        basis, of_basis = self._basis, self._of_basis
        core = basis.T @ of_basis
        left_out = self._left_out()
        known = (basis * (2 * of_basis - basis @ core)).sum(1)
        return torch.stack([self._one(i, left_out[:, i], known, core) for i in range(count)])

    def _one(self, i: int, x: Tensor, known: Tensor, core: Tensor) -> Tensor:
        basis, of_basis, w = self._basis, self._of_basis, self._signs[:, i]
        u, image = basis @ x, of_basis @ x
        without = known - 2 * u * image + 2 * u * (basis @ (core @ x)) - (x @ core @ x) * u.square()
        inside = basis.T @ w
        inside -= x * (x @ inside)
        rest = self._images[:, i] - of_basis @ inside
        shadow = basis.T @ rest
        shadow -= x * (x @ shadow)
        diagonal: Tensor = without + w * (rest - basis @ shadow)
        return diagonal

    def _left_out(self) -> Tensor:
        """x_i, in whose direction alone column i adds to the others, or 0; (rank, s)."""
        inner = self._basis.T @ self._images
        directions = torch.linalg.pinv(inner).T
        # 1 where a column is in the span of no others; with as many directions as columns none is.
        share = (inner * directions).sum(0)
        alone = (share > 1 - 1e-6) | (inner.shape[0] == inner.shape[1])
        unit = directions / directions.norm(dim=0).clamp(min=torch.finfo(torch.float64).tiny)
        return torch.where(alone, unit, torch.zeros_like(unit))
