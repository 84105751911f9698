"""The gradient of a loss over rows of a set, and its derivative along a vector: the rows' share of H v."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from distill_prune import objective
from distill_prune.artifacts import Examples
from distill_prune.models import Model
from distill_prune.tree import State, select, shapes, unflatten


class Derivatives(Protocol):
    """Vectors are flat over the prunable weights, in the network's order: (P,)."""

    def gradient(self, rows: slice) -> tuple[Tensor, Sequence[Tensor]]:
        """The rows' share of the mean loss, and what products with their share of H need."""

    def product(self, record: Sequence[Tensor], vector: Tensor) -> Tensor:
        """The rows' share of H v (P,); the record is that of their gradient."""

    def size(self, rows: int) -> int:
        """Bytes of the record of so many rows."""


class DoubleBackward:
    """By autograd, for every network: H v is the gradient of the gradient's product with v. A gradient with its graph is the
    record, and serves every vector."""

    def __init__(self, model: Model, state: State, examples: Examples) -> None:
        self._model, self._examples, self._terms = model, examples, objective.count(examples.y)
        weights = {n: t.detach().clone().requires_grad_() for n, t in select(state, model.prunable).items()}
        self._state, self._weights, self._shapes = {**state, **weights}, list(weights.values()), shapes(weights)

    def gradient(self, rows: slice) -> tuple[Tensor, Sequence[Tensor]]:
        logits = self._model(self._state, self._examples.inputs(rows))
        loss = objective.loss(logits, self._examples.y[rows], reduction="sum") / self._terms
        return loss.detach(), torch.autograd.grad(loss, self._weights, create_graph=True, materialize_grads=True)

    def product(self, record: Sequence[Tensor], vector: Tensor) -> Tensor:
        # A weight that the loss does not see has a gradient of zeros, without a graph.
        parts = zip(record, unflatten(vector, self._shapes).values(), strict=True)
        graded, along = zip(*[(g, v) for g, v in parts if g.requires_grad], strict=True)
        products = torch.autograd.grad(graded, self._weights, along, retain_graph=True, materialize_grads=True)
        return torch.cat([p.reshape(-1) for p in products])

    def size(self, rows: int) -> int:
        """Tensors saved by two operations count twice, on the safe side."""
        sizes: list[int] = []

        def pack(t: Tensor) -> Tensor:
            sizes.append(t.numel() * t.element_size())
            return t

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            self.gradient(slice(0, rows))
        return sum(sizes)
