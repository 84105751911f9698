"""Products of the Hessian of the training loss with vectors on the surviving weights.

H is the Hessian of the mean cross-entropy over a fixed set of unaugmented examples, in evaluation
mode and without the weight-decay term, restricted to surviving prunable weights. A product H v takes up what one gradient a
chunk of examples leaves (derivatives.py), and is computed alone: it does not depend on what other vectors are asked for.

A sketch Q (orthonormal columns in the range of H S, S random signs) splits H. With P = 1 - Q Q',

    H = (Q Q' H + H Q Q' - Q Q' H Q Q') + P H P.

The first part is known from H Q. The second is free of the directions of large curvature; probes estimate it, since
E[g' D P H P g] = tr D P H P for signs g and any diagonal D. At D = 1 this is Hutch++.

References:
    | Fast exact multiplication by the Hessian (Pearlmutter, 1994)
    | Hutch++: Optimal Stochastic Trace Estimation (Meyer, Musco, Musco and Woodruff, 2021), https://arxiv.org/abs/2010.09649
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from distill_prune.artifacts import Examples, Mask
from distill_prune.errors import NonFiniteError
from distill_prune.models import Model
from distill_prune.training.derivatives import Product, derivatives
from distill_prune.tree import State, flatten

GRAPH_BYTES = 512 * 2**20
"""The most bytes that a chunk's product keeps. Fixed, not read from the machine: chunks decide the order of summation."""


class Products:
    """Products of H with vectors at one state, chunk by chunk of examples.

    What a chunk's gradient leaves serves every vector; it is kept for all of them where one chunk holds every example. Vectors
    are on the survivors, in the network's order: (survivors,), float64 on the CPU. `layers` are the slices of a vector that
    belong to each layer. Sums are float64 on the device of the examples, and are read once a call.
    """

    def __init__(self, model: Model, state: State, mask: Mask, examples: Examples) -> None:
        self._rows, device = len(examples), examples.x.device
        # In the network's order: a mask read from a file may list its tensors in another, and probes are drawn flat.
        self._weights = flatten(state, model.prunable).detach()
        self._kept = flatten(mask.kept, model.prunable).to(device)
        on_host = self._kept.cpu()
        self._index = on_host.nonzero()[:, 0]
        self._at = self._index.to(device)
        self._sizes = [state[n].numel() for n in model.prunable]
        self.survivors, self.layers, end = len(self._index), dict[str, slice](), 0
        for name, kept in zip(model.prunable, torch.split(on_host, self._sizes), strict=True):
            self.layers[name] = slice(end, end := end + int(kept.sum()))
        self._derivatives = derivatives(model, state, examples)
        self.chunk = min(self._rows, max(1, GRAPH_BYTES // max(1, self._bytes_per_example())))
        self._chunks = [slice(begin, begin + self.chunk) for begin in range(0, self._rows, self.chunk)]
        self._only = self._derivatives.product(self._chunks[0]) if len(self._chunks) == 1 else None
        self.loss = float(torch.stack([self._derivatives.loss(rows) for rows in self._chunks]).sum())

    def probes(self, generators: Sequence[torch.Generator]) -> Tensor:
        """The Rademacher vector of each of K generators, over all prunable weights and zero where pruned; (K, P), int8."""
        return self._draws(generators).to(self._kept.device) * self._kept

    def quadratics(self, probes: Tensor) -> Tensor:
        """Per probe v of (K, P): v_l' (H v)_l of every layer l, then sum_i w_i^2 v_i (H v)_i; (K, L + 1), float64."""
        total = torch.zeros(len(probes), len(self.layers) + 1, dtype=torch.float64, device=probes.device)
        squares = self._weights.square()
        for product in self._products():
            for row, signs in enumerate(probes):
                vector = signs.to(squares.dtype)
                terms = vector * product(vector)
                parts = *terms.split(self._sizes), squares * terms
                total[row] += torch.stack([part.sum(dtype=torch.float64) for part in parts])
        return total.cpu()

    def times(self, vectors: Tensor) -> Tensor:
        """H v of every row v of `vectors` (K, survivors), on the survivors; (K, survivors), float64.

        The products are computed in the state's precision.

        Raises:
            NonFiniteError: a product is not finite.
        """
        placed = vectors.to(self._weights)
        total = torch.zeros(vectors.shape, dtype=torch.float64, device=placed.device)
        for product in self._products():
            for row, vector in enumerate(placed):
                total[row] += product(self._lifted(vector))[self._at]
        if not bool(torch.isfinite(total).all()):
            raise NonFiniteError("a product with the Hessian is not finite", got=f"training loss {self.loss:g}")
        return total.cpu()

    def signs(self, generators: Sequence[torch.Generator]) -> Tensor:
        """The probe of each of K generators, on the survivors; (K, survivors), float64."""
        return self._draws(generators)[:, self._index].double()

    def weights(self) -> Tensor:
        """The surviving weights; (survivors,), float64."""
        return self._weights[self._at].cpu().double()

    def weight_norm(self) -> float:
        """Euclidean norm of the surviving weights."""
        return float(self._weights[self._at].square().sum(dtype=torch.float64).sqrt())

    def by_layer(self, entries: Tensor) -> Tensor:
        """Sums over each layer of `entries` (..., survivors); (..., L)."""
        return torch.stack([entries[..., where].sum(-1) for where in self.layers.values()], -1)

    def _draws(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Signs, drawn flat over all prunable weights on the CPU; (K, P), int8."""
        signs = torch.empty(len(generators), len(self._kept), dtype=torch.int8)
        for row, generator in zip(signs, generators, strict=True):
            row.copy_(torch.randint(0, 2, row.shape, generator=generator))
        return signs.mul_(2).sub_(1)

    def _lifted(self, vector: Tensor) -> Tensor:
        """A vector on the survivors as one over all prunable weights (P,), zero where pruned."""
        return torch.zeros_like(self._weights).index_copy_(0, self._at, vector)

    def _products(self) -> Iterator[Product]:
        """The product of each chunk, one in memory at a time."""
        for rows in self._chunks:
            yield self._derivatives.product(rows) if self._only is None else self._only

    def _bytes_per_example(self) -> int:
        """What one more example adds to what a product keeps."""
        return self._derivatives.size(2) - self._derivatives.size(1) if self._rows > 1 else 0


class Sketch:
    """A split of H: `known` (survivors,) is the diagonal of its known part; `terms` are unbiased for that of the rest.

    `signs` (K, survivors) are the probes that the range is drawn with; it costs twice as many products.
    """

    def __init__(self, products: Products, signs: Tensor) -> None:
        self._products = products
        # Directions that H maps to nothing but rounding are no directions: a sketch is at most as wide as the rank.
        basis, sizes, _ = torch.linalg.svd(products.times(signs).T, full_matrices=False)
        self.basis = basis[:, sizes > 1e-12 * sizes[:1].sum()]
        image = products.times(self.basis.T).T
        core = self.basis.T @ image
        self.known = (self.basis * (2 * image - self.basis @ core)).sum(1)
        self.products = len(signs) + self.basis.shape[1]

    def terms(self, probes: Tensor) -> Tensor:
        """g * (P H P g) of every row g of `probes` (K, survivors); the mean over signs g is the diagonal of P H P."""
        return probes * self._outside(self._products.times(self._outside(probes)))

    def _outside(self, rows: Tensor) -> Tensor:
        inside: Tensor = rows @ self.basis @ self.basis.T
        return rows - inside
