"""The exact gradient of trajectory matching in bounded memory, by the adjoint of the unrolled training.

    L = ||theta_N - theta*_{t+M}||^2 / ||theta*_t - theta*_{t+M}||^2,    theta_0 = theta*_t
    v_{i+1} = mu v_i + grad_theta CE(theta_i; A_i(X)[b_i], y[b_i]),      theta_{i+1} = theta_i - eta v_{i+1}

where y are classes, or softmax(Y) of learned logits Y (N, K).

Unrolling N steps keeps N graphs. Here the steps run without a graph, keeping only the states (theta, v) at the bounds
of segments of s steps. Let F be s steps as a function of (theta, v, X, Y, log eta), rebuilt with the same batches and
augmentation draws. From lambda = dL/dtheta_N backwards, segment by segment,

    (lambda, dX, dY, dl) <- vjp of F at lambda,

and dX, dY, dl are added to running sums. s = N is the full unroll, s = 1 the least memory; every s gives the same gradient
to rounding.

References:
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), equation 3
    | Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching (Guo et al., 2024), for learned soft
      labels, https://arxiv.org/abs/2310.05773
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
    """The matching loss, and its gradient with respect to pixels (N, C, H, W), the log of the inner learning rate, and
    (where they are learned) the logits of the labels (N, K)."""

    loss: Tensor
    pixels: Tensor
    log_lr: Tensor
    labels: Tensor | None = None


@dataclass(frozen=True)
class Inner:
    """The inner problem: a network, a synthetic set, and the batches and draws of N steps of SGD on it.

    `labels` are classes (N,) int64, or logits (N, K) of learned soft labels.
    """

    forward: Forward
    pixels: Tensor
    labels: Tensor
    log_lr: Tensor
    batches: Sequence[Batch]
    momentum: float = 0.0

    def learned(self) -> Inner:
        """The same with leaves of its own for what is learned, each requiring a gradient."""
        labels = self.labels.detach()
        return replace(
            self,
            pixels=self.pixels.detach().requires_grad_(),
            log_lr=self.log_lr.detach().requires_grad_(),
            labels=labels.requires_grad_() if labels.is_floating_point() else labels,
        )

    @property
    def leaves(self) -> list[Tensor]:
        """What is learned: pixels, the rate's logarithm, and soft labels where there are any."""
        return [self.pixels, self.log_lr, *([self.labels] if self.labels.is_floating_point() else [])]

    def loss(self, logits: Tensor, batch: Batch) -> Tensor:
        """Mean cross-entropy of the batch's logits (B, K)."""
        y = self.labels if batch.rows is None else self.labels[batch.rows]
        return F.cross_entropy(logits, y.softmax(1) if y.is_floating_point() else y)

    def inputs(self, batch: Batch) -> Tensor:
        """The batch's augmented images (B, C, H, W)."""
        x = self.pixels if batch.rows is None else self.pixels[batch.rows]
        return x if batch.draw is None else apply(x, batch.draw)

    def step(self, theta: Tensor, velocity: Tensor, batch: Batch, *, graph: bool) -> tuple[Tensor, Tensor]:
        """One step from (theta, velocity), differentiable where `graph`; theta must require a gradient."""
        loss = self.loss(self.forward(theta, self.inputs(batch)), batch)
        (gradient,) = torch.autograd.grad(loss, theta, create_graph=graph)
        velocity = self.momentum * velocity + gradient if self.momentum else gradient
        return theta - self.log_lr.exp() * velocity, velocity

    def run(self, theta: Tensor, velocity: Tensor, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """The steps begin..end-1 without a graph."""
        fixed = replace(self, pixels=self.pixels.detach(), log_lr=self.log_lr.detach(), labels=self.labels.detach())
        for batch in self.batches[begin:end]:
            theta, velocity = fixed.step(theta.detach().requires_grad_(), velocity, batch, graph=False)
        return theta.detach(), velocity.detach()

    def trace(self, theta: Tensor, velocity: Tensor, begin: int, end: int) -> tuple[Tensor, Tensor]:
        """The steps begin..end-1 as a differentiable function of theta, velocity and the leaves."""
        for batch in self.batches[begin:end]:
            theta, velocity = self.step(theta, velocity, batch, graph=True)
        return theta, velocity


def matching_gradient(inner: Inner, start: Tensor, target: Tensor, *, segment: int) -> Matched:
    """The matching loss of N = len(inner.batches) steps from `start` (P,) towards `target` (P,), and its exact gradient.

    `segment` is s of the module's text, at least 1; the last segment may be shorter. Memory grows with s; s = 1 runs
    every step but the last twice.
    """
    inner = inner.learned()
    steps = len(inner.batches)
    *earlier, last = itertools.pairwise([*range(0, steps, segment), steps])
    states = [(start.detach(), torch.zeros_like(start))]
    for begin, end in earlier:
        states.append(inner.run(*states[-1], begin, end))

    sums = [torch.zeros_like(leaf) for leaf in inner.leaves]

    def pull_back(outputs: Sequence[Tensor], adjoint: Sequence[Tensor], state: tuple[Tensor, Tensor]) -> Sequence[Tensor]:
        """Add a segment's gradients to `sums`; the adjoint of the state (theta, and v with momentum) that it began from."""
        inputs = state if inner.momentum else state[:1]
        gradients = torch.autograd.grad(outputs, [*inner.leaves, *inputs], grad_outputs=adjoint)
        for total, part in zip(sums, gradients[: len(sums)], strict=True):
            total += part
        return gradients[len(sums) :]

    state = _leaves(states.pop())
    theta = inner.trace(*state, *last)[0]  # the loss does not see v_N
    gap, scale = theta.detach() - target, (start - target).square().sum()
    adjoint = pull_back([theta], [2 * gap / scale], state)
    del theta  # a segment's graph goes before the next one is built
    for begin, end in reversed(earlier):
        state = _leaves(states.pop())
        outputs = inner.trace(*state, begin, end)
        adjoint = pull_back(outputs[: len(adjoint)], adjoint, state)
        del outputs
    return Matched(gap.square().sum() / scale, *sums)


def _leaves(state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    theta, velocity = state
    return theta.requires_grad_(), velocity.requires_grad_()


def graph_bytes(inner: Inner, theta: Tensor) -> int:
    """Bytes that autograd keeps for the graph of one inner step, counted by running one."""
    saved: dict[int, torch.UntypedStorage] = {}  # holds each storage, so that no later one gets its address

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage
        return tensor

    inner = inner.learned()
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        out = inner.trace(theta.detach().requires_grad_(), torch.zeros_like(theta), 0, 1)
        total = sum(storage.nbytes() for storage in saved.values())
    del out
    return total
