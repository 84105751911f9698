"""First and second derivatives of the loss of one inner step, of a flat vector of parameters theta (P,).

    L = sum_b CE(f(theta, x_b), y_b) / count,   g = dL/dtheta;   along u: (d2L/dtheta2) u,  d<g, u>/dx,  d<g, u>/dy

A chain of known layers has them in closed form (models/chain.py). Any other network is differentiated twice by autograd.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from distill_prune.models import Model
from distill_prune.models.chain import Chain, Product, probabilities
from distill_prune.tree import unflatten

Forward = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, K) of a flat parameter vector (P,) and inputs (B, C, H, W)."""


@dataclass(frozen=True)
class Recorded:
    """A gradient g (P,), and the products along a direction (P,) at its place, with the tensors that they keep for that."""

    gradient: Tensor
    tensors: tuple[Tensor, ...]
    product: Callable[[Tensor], Product]


class Derivatives(Protocol):
    """Derivatives for inputs `x` (B, C, H, W), and `y`: classes (B,) or probabilities (B, K). The loss is the sum over these
    examples, divided by `count`: they may be a part of a batch of so many, where the network is `by_example`."""

    @property
    def by_example(self) -> bool:
        """Whether the loss of a batch is the sum of those of its parts: no layer has statistics of a batch."""

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor, count: int) -> Tensor:
        """g (P,)."""

    def record(self, theta: Tensor, x: Tensor, y: Tensor, count: int) -> Recorded:
        """g, with what products need."""


@dataclass(frozen=True)
class Closed:
    """Derivatives of a chain of layers."""

    chain: Chain

    @property
    def by_example(self) -> bool:
        return self.chain.by_example

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor, count: int) -> Tensor:
        return self.chain.gradient(theta, x, y, count)[0]

    def record(self, theta: Tensor, x: Tensor, y: Tensor, count: int) -> Recorded:
        g, record = self.chain.gradient(theta, x, y, count)
        kept = tuple(t for tensors in record.layers for t in tensors)
        return Recorded(g, kept, lambda direction: self.chain.product(direction, record, count))


@dataclass(frozen=True)
class Autograd:
    """Derivatives of any network."""

    forward: Forward
    by_example: bool = False

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor, count: int) -> Tensor:
        return self._gradient(theta.detach().requires_grad_(), x, y, count, graph=False)

    def _gradient(self, theta: Tensor, x: Tensor, y: Tensor, count: int, *, graph: bool) -> Tensor:
        outputs = self.forward(theta, x)
        softmax = outputs.softmax(1)
        of_outputs = (softmax - probabilities(y, softmax)) / count
        return torch.autograd.grad(outputs, theta, of_outputs, create_graph=graph)[0]

    def record(self, theta: Tensor, x: Tensor, y: Tensor, count: int) -> Recorded:
        leaves = [t.detach().requires_grad_() if t.is_floating_point() else t for t in (theta, x, y)]
        g = self._gradient(leaves[0], leaves[1], leaves[2], count, graph=True)

        def product(direction: Tensor) -> Product:
            parameters, inputs, *labels = torch.autograd.grad(g, [t for t in leaves if t.requires_grad], direction)
            return Product(parameters, inputs, labels[0] if labels else None)

        return Recorded(g.detach(), (), product)


def forward_of(model: Model, shapes: Mapping[str, torch.Size], device: str | torch.device) -> Forward:
    """Outputs in training mode of a flat vector of parameters with these names and shapes, as a function on `device`."""
    buffers = {n: t.to(device, copy=True) for n, t in model.module.named_buffers()}  # in training written, never read

    def forward(theta: Tensor, x: Tensor) -> Tensor:
        return model({**buffers, **unflatten(theta, shapes)}, x, train=True)

    return forward


def derivatives(model: Model, shapes: Mapping[str, torch.Size], forward: Forward) -> Derivatives:
    """Derivatives of a model whose parameters have these names and shapes in a vector; `forward` are its outputs."""
    names = [name for name, _ in model.module.named_parameters()]
    chain = Chain.of(model.module, model.shape) if names == list(shapes) else None
    if chain is not None:
        return Closed(chain)
    return Autograd(forward, not model.batch_norms)
