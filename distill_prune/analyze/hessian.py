"""Products of the Hessian of the training loss with vectors on the surviving weights.

H is the Hessian of the mean cross-entropy over a fixed, recorded set of unaugmented training examples, in evaluation
mode and without the weight-decay term, restricted to surviving prunable weights. H v is the gradient of the gradient's
product with v: a gradient with a graph, taken once a chunk of examples, serves every vector.

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

from distill_prune import objective
from distill_prune.analyze.rows import RecordedRows, draw_rows
from distill_prune.artifacts import Examples, Mask
from distill_prune.errors import NonFiniteError, UserError
from distill_prune.models import Model
from distill_prune.rng import Streams
from distill_prune.tree import State, flatten, select, shapes, unflatten

GRAPH_BYTES = 512 * 2**20
"""The most bytes of one chunk's graph. Fixed, not read from the machine: the chunks decide the order of summation."""


def recorded(
    analysis: str, copies: Sequence[State], train: Examples, rows: int, streams: Streams
) -> tuple[Examples, RecordedRows]:
    """The examples of every analysis of the Hessian, the same wherever `rows` is the same, and their record.

    Raises:
        UserError: there are no examples or no copies.
    """
    if not len(train) or not copies:
        raise UserError(
            f"{analysis} needs training examples and a retrained copy",
            got=f"{len(train)} examples, {len(copies)} copies",
            expected="at least one of each",
        )
    chosen = draw_rows(len(train), rows, streams("curvature", "rows"))
    return train.take(chosen.index.to(train.x.device)).ready(), chosen


class Products:
    """Products of H with vectors at one state, by double backward, chunk by chunk of examples.

    One gradient with a graph serves many vectors; it is kept for all of them where one chunk holds every example. A vector
    is a state of the prunable weights, zero where pruned, or flat: its entries at the `survivors`, in the network's order,
    float64 on the CPU. `layers` are the slices of a flat vector that belong to each layer.
    """

    def __init__(self, model: Model, state: State, mask: Mask, examples: Examples) -> None:
        self._model, self._examples = model, examples
        # In the network's order: a mask read from a file may list its tensors in another, and probes are drawn flat.
        self._kept = {n: mask.kept[n].to(state[n].dtype) for n in model.prunable}
        self._weights = {n: state[n].detach().clone().requires_grad_() for n in model.prunable}
        self._state = {**state, **self._weights}
        self._shapes = shapes(select(state, model.prunable))
        self._index = flatten(mask.kept, model.prunable).nonzero()[:, 0].cpu()
        counts = {n: int(mask.kept[n].sum()) for n in model.prunable}
        self.survivors, self.layers, end = len(self._index), dict[str, slice](), 0
        for name, count in counts.items():
            self.layers[name], end = slice(end, end + count), end + count
        n, self._terms = len(examples), objective.count(examples.y)
        self.chunk = min(n, max(1, GRAPH_BYTES // max(1, self._bytes_per_example())))
        self._only = self._gradient(slice(0, n)) if self.chunk == n else None
        self.loss = sum(float(loss) for loss, _ in self._gradients())

    def probe(self, generator: torch.Generator) -> State:
        """A Rademacher vector on the survivors, zero elsewhere; drawn flat over all prunable weights, on the CPU."""
        signs = torch.randint(0, 2, (sum(s.numel() for s in self._shapes.values()),), generator=generator) * 2 - 1
        return {n: part.to(self._kept[n]) * self._kept[n] for n, part in unflatten(signs, self._shapes).items()}

    def quadratics(self, probes: Sequence[State]) -> Tensor:
        """Per probe v: v_l' (H v)_l of every layer l, then sum_i w_i^2 v_i (H v)_i; (probes, L + 1), float64."""
        total = torch.zeros(len(probes), len(self._weights) + 1, dtype=torch.float64)
        for _, gradient in self._gradients():
            for row, probe in enumerate(probes):
                terms = [v * hv for v, hv in zip(probe.values(), self._product(gradient, probe), strict=True)]
                layers = [t.sum(dtype=torch.float64) for t in terms]
                weighted = [
                    (w.detach().square() * t).sum(dtype=torch.float64)
                    for w, t in zip(self._weights.values(), terms, strict=True)
                ]
                total[row] += torch.stack([*layers, torch.stack(weighted).sum()]).cpu()
        return total

    def times(self, vectors: Tensor) -> Tensor:
        """H v of every row v of `vectors` (K, survivors), on the survivors; (K, survivors), float64.

        The products are computed in the state's precision.

        Raises:
            NonFiniteError: a product is not finite.
        """
        total = torch.zeros(len(vectors), self.survivors, dtype=torch.float64)
        for _, gradient in self._gradients():
            for row, vector in enumerate(vectors):
                product = self._product(gradient, self.lifted(vector))
                total[row] += torch.cat([part.reshape(-1) for part in product]).cpu()[self._index].double()
        if not bool(torch.isfinite(total).all()):
            raise NonFiniteError("a product with the Hessian is not finite", got=f"training loss {self.loss:g}")
        return total

    def flat(self, state: State) -> Tensor:
        """The surviving entries of the prunable weights of `state`; (survivors,), float64 on the CPU."""
        return flatten(state, self._shapes).detach().cpu()[self._index].double()

    def lifted(self, vector: Tensor) -> State:
        """The state of a flat vector (survivors,): zero where pruned."""
        whole = torch.zeros(sum(s.numel() for s in self._shapes.values()), dtype=vector.dtype)
        whole[self._index] = vector
        return {n: part.to(self._kept[n]) for n, part in unflatten(whole, self._shapes).items()}

    def signs(self, generators: Sequence[torch.Generator]) -> Tensor:
        """The probe of each generator, flat; (K, survivors)."""
        return torch.stack([self.flat(self.probe(g)) for g in generators])

    def weights(self) -> Tensor:
        """The surviving weights; (survivors,), float64."""
        return self.flat(self._weights)

    def weight_norm(self) -> float:
        """Euclidean norm of the surviving weights."""
        squares = [(w.detach() * self._kept[n]).square().sum(dtype=torch.float64) for n, w in self._weights.items()]
        return float(torch.stack(squares).sum().sqrt())

    def by_layer(self, entries: Tensor) -> Tensor:
        """Sums over each layer of `entries` (..., survivors); (..., L)."""
        return torch.stack([entries[..., where].sum(-1) for where in self.layers.values()], -1)

    def _product(self, gradient: tuple[Tensor, ...], vector: State) -> tuple[Tensor, ...]:
        # A weight that the loss does not see has a gradient of zeros, without a graph.
        seen = [(g, v) for g, v in zip(gradient, vector.values(), strict=True) if g.requires_grad]
        graded, along = zip(*seen, strict=True)
        return torch.autograd.grad(graded, list(self._weights.values()), along, retain_graph=True, materialize_grads=True)

    def _gradients(self) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        if self._only is not None:
            yield self._only
            return
        for begin in range(0, len(self._examples), self.chunk):
            yield self._gradient(slice(begin, begin + self.chunk))

    def _gradient(self, rows: slice) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The rows' share of the mean loss, and its gradient with a graph."""
        logits = self._model(self._state, self._examples.inputs(rows))
        loss = objective.loss(logits, self._examples.y[rows], reduction="sum") / self._terms
        return loss.detach(), torch.autograd.grad(loss, list(self._weights.values()), create_graph=True, materialize_grads=True)

    def _bytes_per_example(self) -> int:
        """What one more example adds to the graph; tensors saved by two operations count twice, on the safe side."""

        def saved(rows: int) -> int:
            sizes: list[int] = []

            def pack(t: Tensor) -> Tensor:
                sizes.append(t.numel() * t.element_size())
                return t

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
                self._gradient(slice(0, rows))
            return sum(sizes)

        return saved(2) - saved(1) if len(self._examples) > 1 else 0


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
