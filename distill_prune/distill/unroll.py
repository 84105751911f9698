"""The exact gradient of trajectory matching in bounded memory, by the adjoint of the unrolled training.

    L = ||theta_N - theta*_{t+M}||^2 / ||theta*_t - theta*_{t+M}||^2,    theta_0 = theta*_t
    v_{i+1} = mu v_i + grad_theta CE(theta_i; A_i(X)[b_i], y[b_i]),      theta_{i+1} = theta_i - eta v_{i+1}

where y are classes, or softmax(Y) of learned logits Y (N, K).

Unrolling N steps keeps N graphs. Here the steps keep only their states; backwards from a = dL/dtheta_N, b = 0,

    b <- b - eta a;   dl <- dl - eta <a, v_{i+1}>;   a <- a + R{g},  dX <- dX + d<g, b>/dX,  dY likewise;   b <- mu b

with g the gradient of step i and the products with b taken at theta_i (derivatives.py). What these need is recorded by the
gradient: the last `segment` steps keep it, the others take their gradient again. A batch whose record is too large is taken in
chunks, whose gradients and products add up, where no layer has statistics of a batch. Every choice gives the same gradient to
rounding, and all of `segment` the same bits where the products have closed forms.

References:
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), equation 3
    | Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching (Guo et al., 2024), for learned soft
      labels, https://arxiv.org/abs/2310.05773
    | Gradient-based Hyperparameter Optimization through Reversible Learning (Maclaurin et al., 2015), for the adjoint
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_prune.arithmetic import ceil_div
from distill_prune.data.augment import Augment, Draw, apply, draw
from distill_prune.distill.derivatives import Autograd, Derivatives, Forward, Recorded
from distill_prune.rng import Streams


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

    `labels` are classes (N,) int64, or logits (N, K) of learned soft labels. Without `derivatives` autograd gives them.
    """

    forward: Forward
    pixels: Tensor
    labels: Tensor
    log_lr: Tensor
    batches: Sequence[Batch]
    momentum: float = 0.0
    derivatives: Derivatives | None = None

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
        x = self.pixels if batch.rows is None else self.pixels.index_select(0, batch.rows)
        return x if batch.draw is None else apply(x, batch.draw)

    def parts(self, batch: Batch, chunk: int | None) -> tuple[Tensor, list[tuple[Tensor, Tensor]]]:
        """The batch's inputs, as a function of the pixels, and in equal chunks of at most so many examples the same without a
        graph, with their labels: classes or probabilities."""
        x = self.inputs(batch)
        labels = self.labels.detach() if batch.rows is None else self.labels.detach()[batch.rows]
        y, count = labels.softmax(1) if labels.is_floating_point() else labels, 1 if chunk is None else ceil_div(len(x), chunk)
        return x, list(zip(x.detach().tensor_split(count), y.tensor_split(count), strict=True))


def drawn(
    shape: tuple[int, ...], steps: int, batch: int | None, augment: Augment, streams: Streams, device: str | torch.device
) -> list[Batch]:
    """The batches of `steps` inner steps on images of `shape` (N, C, H, W): rows of permutations of streams("batches"), all
    rows where `batch` is None or no less than N; and the augmentation of step i, drawn from streams("augment", step=i)."""
    n, batches, queue = shape[0], list[Batch](), list[Tensor]()
    generator = streams("batches")
    for i in range(steps):
        rows = None
        if batch is not None and batch < n:
            queue = queue or list(torch.split(torch.randperm(n, generator=generator), batch))
            rows = queue.pop(0).to(device)
        size = (n if rows is None else len(rows), *shape[1:])
        augmentation = None if augment == "none" else draw(augment, size, streams("augment", step=i))
        batches.append(Batch(rows, augmentation))
    return batches


def matching_gradient(inner: Inner, start: Tensor, target: Tensor, *, segment: int, chunk: int | None = None) -> Matched:
    """The matching loss of N = len(inner.batches) steps from `start` (P,) towards `target` (P,), and its exact gradient.

    The last `segment` steps, at least one, keep what their products need; the others run twice. `chunk` is the most examples
    that are taken at a time.

    Raises:
        ValueError: chunks are asked of a network with statistics of a batch.
    """
    inner = inner.learned()
    network = inner.derivatives or Autograd(inner.forward)
    if chunk is not None and not network.by_example:
        raise ValueError(f"chunk must be None, not {chunk}: the network is not known to take examples one by one")
    eta = inner.log_lr.detach().exp()
    theta, velocity = start.detach(), torch.zeros_like(start)
    thetas, velocities, kept = list[Tensor](), list[Tensor](), list[tuple[Tensor, list[Recorded]]]()
    for i, batch in enumerate(inner.batches):
        x, parts = inner.parts(batch, chunk)
        if i < len(inner.batches) - segment:
            gradients = [network.gradient(theta, *part, len(x)) for part in parts]
        else:
            kept.append((x, [network.record(theta, *part, len(x)) for part in parts]))
            gradients = [recorded.gradient for recorded in kept[-1][1]]
        velocity = inner.momentum * velocity + _sum(gradients) if inner.momentum else _sum(gradients)
        thetas.append(theta)
        velocities.append(velocity)
        theta = theta - eta * velocity

    gap, scale = theta - target, (start - target).square().sum()
    pixels, log_lr, labels = torch.zeros_like(inner.pixels), torch.zeros_like(eta), torch.zeros_like(inner.labels)
    of_theta, of_velocity = 2 * gap / scale, torch.zeros_like(theta)
    for batch, place, velocity in zip(reversed(inner.batches), reversed(thetas), reversed(velocities), strict=True):
        of_velocity = of_velocity - eta * of_theta
        log_lr -= eta * of_theta.dot(velocity)
        if kept:
            x, records = kept.pop()
            products = [recorded.product(of_velocity) for recorded in records]
            del records  # before another is made
        else:
            x, parts = inner.parts(batch, chunk)
            products = [network.record(place, *part, len(x)).product(of_velocity) for part in parts]
        of_theta = of_theta + _sum([p.parameters for p in products])
        pixels += torch.autograd.grad(x, inner.pixels, torch.cat([p.inputs for p in products]))[0]
        if labels.is_floating_point():
            of_labels = torch.cat([p.labels for p in products if p.labels is not None])
            labels.index_add_(0, torch.arange(len(labels), device=x.device) if batch.rows is None else batch.rows, of_labels)
        of_velocity = inner.momentum * of_velocity
    if not labels.is_floating_point():
        return Matched(gap.square().sum() / scale, pixels, log_lr)
    (of_logits,) = torch.autograd.grad(inner.labels.softmax(1), inner.labels, labels)
    return Matched(gap.square().sum() / scale, pixels, log_lr, of_logits)


def _sum(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.stack(list(parts)).sum(0)


def record_bytes(inner: Inner, theta: Tensor) -> int:
    """Bytes that one inner step keeps for its products, counted by running one."""
    saved: dict[int, torch.UntypedStorage] = {}  # holds each storage, so that no later one gets its address

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage
        return tensor

    network = inner.derivatives or Autograd(inner.forward)
    x, ((part, y),) = inner.parts(inner.batches[0], None)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        recorded = network.record(theta.detach(), part, y, len(x))
        for tensor in recorded.tensors:
            count(tensor)
    return sum(storage.nbytes() for storage in saved.values())
