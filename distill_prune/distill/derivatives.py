"""First and second derivatives of the loss of one inner step, of a flat vector of parameters theta (P,).

    L = sum_b CE(f(theta, x_b), y_b) / count,   g = dL/dtheta;   along u: (d2L/dtheta2) u,  d<g, u>/dx,  d<g, u>/dy

A chain of known layers has them in closed form (models/chain.py), and is not compiled. Any other network is differentiated
twice by autograd. Where steps are compiled, its g and products are a graph each, traced with the double backward, and the
products begin anew at theta: nothing is kept for them.

References:
    | make_fx of PyTorch, https://docs.pytorch.org/docs/stable/fx.experimental.html
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from distill_prune import compiled
from distill_prune.models import Model
from distill_prune.models.chain import Chain, Product, probabilities

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
    """Derivatives of any network, compiled only where an `identity` says which it is."""

    forward: Forward
    by_example: bool = False
    identity: str = ""

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor, count: int) -> Tensor:
        def gradient(theta: Tensor, x: Tensor, y: Tensor) -> Tensor:
            return self._gradient(theta.detach().requires_grad_(), x, y, count, graph=False)

        if compiled.enabled() and self.identity:
            gradient = _traced(("gradient", self.identity, count), gradient, theta, x, y)
        return gradient(theta, x, y)

    def record(self, theta: Tensor, x: Tensor, y: Tensor, count: int) -> Recorded:
        if not (compiled.enabled() and self.identity):
            return self._graph(theta, x, y, count)

        def anew(theta: Tensor, x: Tensor, y: Tensor, direction: Tensor) -> Product:
            return self._graph(theta, x, y, count).product(direction)

        def product(direction: Tensor) -> Product:
            function = _traced(("product", self.identity, count), anew, theta, x, y, direction)
            return function(theta, x, y, direction)

        return Recorded(self.gradient(theta, x, y, count), (theta, x, y), product)

    def _gradient(self, theta: Tensor, x: Tensor, y: Tensor, count: int, *, graph: bool) -> Tensor:
        outputs = self.forward(theta, x)
        softmax = outputs.softmax(1)
        of_outputs = (softmax - probabilities(y, softmax)) / count
        return torch.autograd.grad(outputs, theta, of_outputs, create_graph=graph)[0]

    def _graph(self, theta: Tensor, x: Tensor, y: Tensor, count: int) -> Recorded:
        leaves = [t.detach().requires_grad_() if t.is_floating_point() else t for t in (theta, x, y)]
        g = self._gradient(leaves[0], leaves[1], leaves[2], count, graph=True)

        def product(direction: Tensor) -> Product:
            parameters, inputs, *labels = torch.autograd.grad(g, [t for t in leaves if t.requires_grad], direction)
            return Product(parameters, inputs, labels[0] if labels else None)

        return Recorded(g.detach(), (), product)


T = TypeVar("T")


def _kind(tensors: Sequence[Tensor]) -> tuple[object, ...]:
    return tuple(of for t in tensors for of in (t.shape, t.dtype, t.device))


def _traced(key: tuple[object, ...], function: Callable[..., T], *example: Tensor) -> Callable[..., T]:
    """`function` of tensors like `example`, traced with the calls of autograd in it and compiled, once for its key and these
    kinds."""

    def traced() -> Callable[..., T]:
        from torch._inductor.decomposition import select_decomp_table  # takes seconds
        from torch.fx.experimental.proxy_tensor import make_fx

        graph: Callable[..., T] = make_fx(function, select_decomp_table())(*example)
        return graph

    return compiled.once((*key, *_kind(example)), traced)


def derivatives(model: Model, shapes: Mapping[str, torch.Size], forward: Forward) -> Derivatives:
    """Derivatives of a model whose parameters have these names and shapes in a vector; `forward` are its outputs."""
    names = [name for name, _ in model.module.named_parameters()]
    chain = Chain.of(model.module, model.shape) if names == list(shapes) else None
    if chain is not None:
        return Closed(chain)
    return Autograd(forward, not model.batch_norms, model.identity)
