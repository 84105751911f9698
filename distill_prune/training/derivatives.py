"""The loss over rows of a set, and its second derivative along vectors: the rows' share of H v.

A chain of known layers has H v in closed form (models/chain.py). Any other network is differentiated twice by autograd: H v is
the gradient of the gradient's product with v. In both, what one gradient leaves serves every vector.

References:
    | Fast exact multiplication by the Hessian (Pearlmutter, 1994)
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from distill_prune import compiled, objective
from distill_prune.artifacts import Examples
from distill_prune.models import Model
from distill_prune.models.chain import Chain, Record
from distill_prune.tree import State, flatten, select, shapes, unflatten

Product = Callable[[Tensor], Tensor]
"""Takes v to H v. Both are flat over the prunable weights, in the network's order: (P,)."""


class Derivatives(Protocol):
    def loss(self, rows: slice) -> Tensor:
        """The rows' share of the mean loss."""

    def product(self, rows: slice) -> Product:
        """The product with the rows' share of H, which keeps what their gradient leaves."""

    def size(self, rows: int) -> int:
        """Bytes that the product of so many rows keeps."""


class DoubleBackward:
    """By autograd, for every network: a gradient with its graph is kept."""

    def __init__(self, model: Model, state: State, examples: Examples) -> None:
        self._model, self._examples, self._terms = model, examples, objective.count(examples.y)
        weights = {n: t.detach().clone().requires_grad_() for n, t in select(state, model.prunable).items()}
        self._state, self._weights, self._shapes = {**state, **weights}, list(weights.values()), shapes(weights)

    def loss(self, rows: slice) -> Tensor:
        with torch.no_grad():
            return self._loss(rows)

    def product(self, rows: slice) -> Product:
        gradients = torch.autograd.grad(self._loss(rows), self._weights, create_graph=True, materialize_grads=True)

        def product(vector: Tensor) -> Tensor:
            # A weight that the loss does not see has a gradient of zeros, without a graph.
            parts = zip(gradients, unflatten(vector, self._shapes).values(), strict=True)
            graded, along = zip(*[(g, v) for g, v in parts if g.requires_grad], strict=True)
            products = torch.autograd.grad(graded, self._weights, along, retain_graph=True, materialize_grads=True)
            return torch.cat([p.reshape(-1) for p in products])

        return product

    def size(self, rows: int) -> int:
        """Tensors saved by two operations count twice, on the safe side."""
        sizes: list[int] = []

        def pack(t: Tensor) -> Tensor:
            sizes.append(t.numel() * t.element_size())
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            self.product(slice(0, rows))
        return sum(sizes)

    def _loss(self, rows: slice) -> Tensor:
        logits = self._model(self._state, self._examples.inputs(rows))
        return objective.loss(logits, self._examples.y[rows], reduction="sum") / self._terms


class ClosedForm:
    """In closed form, for a chain: each layer's record is kept. Products are compiled where steps are, but for rows that are
    fewer than was asked for: those of a last, shorter chunk."""

    def __init__(self, chain: Chain, model: Model, state: State, examples: Examples) -> None:
        self._chain, self._model, self._state, self._examples = chain, model, state, examples
        names = [name for name, _ in model.module.named_parameters()]
        self._theta = flatten(state, names).detach()
        places = unflatten(torch.arange(len(self._theta)), shapes(select(state, names)))
        self._at = flatten(places, model.prunable).to(self._theta.device)

    def loss(self, rows: slice) -> Tensor:
        with torch.no_grad():
            logits = self._model(self._state, self._examples.inputs(rows))
            return objective.loss(logits, self._examples.y[rows], reduction="sum") / len(self._examples)

    @torch.no_grad()
    def product(self, rows: slice) -> Product:
        chain, count, theta, record = self._chain, len(self._examples), self._theta, self._record(rows)

        def curvature(direction: Tensor, record: Record) -> Tensor:
            return chain.curvature(direction, record, count)

        x = self._examples.x[rows]
        compiles = compiled.enabled() and len(x) == rows.stop - rows.start
        key = "curvature", self._model.identity, x.shape, theta.dtype, theta.device, count

        @torch.no_grad()
        def product(vector: Tensor) -> Tensor:
            direction = torch.zeros_like(theta).index_copy_(0, self._at, vector)
            return (compiled.call(key, curvature, direction, record) if compiles else curvature(direction, record))[self._at]

        return product

    def size(self, rows: int) -> int:
        with torch.no_grad():
            return sum(t.numel() * t.element_size() for layer in self._record(slice(0, rows)).layers for t in layer)

    def _record(self, rows: slice) -> Record:
        x, y = self._examples.inputs(rows), self._examples.y[rows]
        return self._chain.gradient(self._theta, x, y, len(self._examples))[1]


@lru_cache(maxsize=4)
def _chain(model: Model) -> Chain | None:
    """The chain of a network whose loss is the sum of its examples': in evaluation mode, batch norm has other passes."""
    chain = Chain.of(model.module, model.shape)
    return chain if chain is not None and chain.by_example else None


def derivatives(model: Model, state: State, examples: Examples) -> Derivatives:
    """In closed form where the network is a chain and the labels are classes or probabilities, else by autograd."""
    y = examples.y
    chain = None if objective.is_regression(y) or objective.is_asked(y) else _chain(model)
    return DoubleBackward(model, state, examples) if chain is None else ClosedForm(chain, model, state, examples)
