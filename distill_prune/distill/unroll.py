"""The exact gradient of trajectory matching in bounded memory, by the adjoint of the unrolled training.

    L = ||theta_N - theta*_{t+M}||^2 / ||theta*_t - theta*_{t+M}||^2,    theta_0 = theta*_t
    v_{i+1} = mu v_i + grad_theta CE(theta_i; A_i(X)[b_i], y[b_i]),      theta_{i+1} = theta_i - eta v_{i+1}

Unrolling N steps keeps N graphs. Here the steps run without a graph, keeping only the states (theta, v) at the bounds
of segments of s steps. Let F be s steps as a function of (theta, v, X, log eta), rebuilt with the same batches and
augmentation draws. From lambda = dL/dtheta_N backwards, segment by segment,

    (lambda, dX, dl) <- vjp of F at lambda,

and dX, dl are added to running sums. s = N is the full unroll, s = 1 the least memory; every s gives the same gradient
to rounding.

References:
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), equation 3
    | Gradient-based Hyperparameter Optimization through Reversible Learning (Maclaurin et al., 2015), for the adjoint
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_prune.data.augment import Draw, apply

Forward = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, K) of a flat parameter vector (P,) and inputs (B, C, H, W)."""


@dataclass(frozen=True)
class Batch:
    """One inner step's rows of the synthetic set (None: all, in order) and its augmentation draw (None: none)."""

    rows: Tensor | None
    draw: Draw | None


@dataclass(frozen=True)
class Matched:
    """The matching loss, and its gradient with respect to pixels (N, C, H, W) and the log of the inner learning rate."""

    loss: Tensor
    pixels: Tensor
    log_lr: Tensor


@dataclass(frozen=True)
class Inner:
    """The inner problem: a network, a synthetic set, and the batches and draws of N steps of SGD on it."""

    forward: Forward
    pixels: Tensor
    labels: Tensor
    log_lr: Tensor
    batches: Sequence[Batch]
    momentum: float = 0.0

    def step(
        self, theta: Tensor, velocity: Tensor, batch: Batch, pixels: Tensor, log_lr: Tensor, *, graph: bool
    ) -> tuple[Tensor, Tensor]:
        """One step from (theta, velocity), differentiable where `graph`; theta must require a gradient."""
        x = pixels if batch.rows is None else pixels[batch.rows]
        y = self.labels if batch.rows is None else self.labels[batch.rows]
        if batch.draw is not None:
            x = apply(x, batch.draw)
        loss = F.cross_entropy(self.forward(theta, x), y)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=graph)
        velocity = self.momentum * velocity + gradient if self.momentum else gradient
        return theta - log_lr.exp() * velocity, velocity

    def run(self, theta: Tensor, velocity: Tensor, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """The steps begin..end-1 without a graph."""
        pixels, log_lr = self.pixels.detach(), self.log_lr.detach()
        for batch in self.batches[begin:end]:
            theta, velocity = self.step(theta.detach().requires_grad_(), velocity, batch, pixels, log_lr, graph=False)
        return theta.detach(), velocity.detach()

    def trace(self, theta: Tensor, velocity: Tensor, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """The steps begin..end-1 as a differentiable function of theta, velocity, pixels and log_lr."""
        for batch in self.batches[begin:end]:
            theta, velocity = self.step(theta, velocity, batch, self.pixels, self.log_lr, graph=True)
        return theta, velocity


def matching_gradient(inner: Inner, start: Tensor, target: Tensor, *, segment: int) -> Matched:
    """The matching loss of N = len(inner.batches) steps from `start` (P,) towards `target` (P,), and its exact gradient.

    `segment` is s of the module's text, at least 1; the last segment may be shorter. Memory grows with s; s = 1 runs
    every step but the last twice.
    """
    inner = replace(inner, pixels=inner.pixels.detach().requires_grad_(), log_lr=inner.log_lr.detach().requires_grad_())
    steps = len(inner.batches)
    bounds = [*range(0, steps, segment), steps]
    states = [(start.detach(), torch.zeros_like(start))]
    for begin, end in itertools.pairwise(bounds[:-1]):
        states.append(inner.run(*states[-1], begin, end))

    loss, adjoint = torch.zeros(()), []
    d_pixels, d_log_lr = torch.zeros_like(inner.pixels), torch.zeros_like(inner.log_lr)
    for begin, end in reversed(list(itertools.pairwise(bounds))):
        theta_in, velocity_in = (t.requires_grad_() for t in states.pop())
        theta, velocity = inner.trace(theta_in, velocity_in, begin, end)
        if end == steps:
            gap, scale = theta.detach() - target, (start - target).square().sum()
            loss, adjoint = gap.square().sum() / scale, [2 * gap / scale]
        outputs = [theta, velocity][: len(adjoint)]  # the loss does not see v_N: at the end theta alone has an adjoint
        state_in = [theta_in, velocity_in] if inner.momentum else [theta_in]
        dx, dl, *adjoint = torch.autograd.grad(outputs, [inner.pixels, inner.log_lr, *state_in], grad_outputs=adjoint)
        d_pixels += dx
        d_log_lr += dl
        del theta, velocity, outputs  # this segment's graph goes before the next one is built
    return Matched(loss, d_pixels, d_log_lr)


def graph_bytes(inner: Inner, theta: Tensor) -> int:
    """Bytes that autograd keeps for the graph of one inner step, counted by running one."""
    seen: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        seen[storage.data_ptr()] = storage.nbytes()
        return tensor

    inner = replace(inner, pixels=inner.pixels.detach().requires_grad_(), log_lr=inner.log_lr.detach().requires_grad_())
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        out = inner.trace(theta.detach().requires_grad_(), torch.zeros_like(theta), 0, 1)
        total = sum(seen.values())
    del out
    return total
