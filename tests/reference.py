"""Slow, obvious twins of the unroll, of the selection of weights and of the training loop; small fakes for their tests."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_prune.artifacts import Examples
from distill_prune.data.augment import apply
from distill_prune.models import Model, build_model
from distill_prune.models.convnet import Settings as ConvNet
from distill_prune.progress import Progress, Snapshot

Named = dict[str, Tensor]


# -- twins


def logits(w: Mapping[str, Tensor], x: Tensor, depth: int = 1, norm: str = "instance") -> Tensor:
    """The ConvNet written out. Batch statistics where norm is "batch", as in training."""
    layer = 0
    for _ in range(depth):
        x = F.conv2d(x, w[f"{layer}.weight"], w[f"{layer}.bias"], padding=1)
        if norm != "none":
            layer += 1
            axes = (2, 3) if norm == "instance" else (0, 2, 3)
            x = (x - x.mean(axes, keepdim=True)) / (x.var(axes, correction=0, keepdim=True) + 1e-5).sqrt()
            x = x * w[f"{layer}.weight"].view(1, -1, 1, 1) + w[f"{layer}.bias"].view(1, -1, 1, 1)
        x = F.avg_pool2d(x.relu(), 2)
        layer += 3
    layer += 1
    return x.flatten(1) @ w[f"{layer}.weight"].T + w[f"{layer}.bias"]


def cross_entropy(out: Tensor, y: Tensor) -> Tensor:
    """The mean over examples; `y` holds classes (N,) or probabilities (N, K)."""
    p = F.one_hot(y, out.shape[1]).to(out.dtype) if y.dim() == 1 else y
    return -(p * out.log_softmax(1)).sum(1).mean()


def unrolled(
    network: Callable[[Named, Tensor], Tensor],
    start: Named,
    target: Named,
    pixels: Tensor,
    labels: Tensor,
    log_lr: Tensor,
    batches: Sequence,
    momentum: float = 0.0,
    adam: bool = False,
) -> tuple[Tensor, ...]:
    """Matching loss, d pixels and d log eta: all steps in one graph, one autograd call, no adjoint."""
    pixels, log_lr = pixels.clone().requires_grad_(), log_lr.clone().requires_grad_()
    w = {n: t.clone().requires_grad_() for n, t in start.items()}
    first = {n: torch.zeros_like(t) for n, t in start.items()}
    second = {n: torch.zeros_like(t) for n, t in start.items()}
    for i, batch in enumerate(batches):
        rows = torch.arange(len(pixels)) if batch.rows is None else batch.rows
        x = pixels[rows] if batch.draw is None else apply(pixels[rows], batch.draw)
        loss = cross_entropy(network(w, x), labels[rows])
        g = dict(zip(w, torch.autograd.grad(loss, list(w.values()), create_graph=True), strict=True))
        if adam:
            first = {n: 0.9 * first[n] + 0.1 * g[n] for n in w}
            second = {n: 0.999 * second[n] + 0.001 * g[n] ** 2 for n in w}
            eta = log_lr.exp() * (1 - 0.999 ** (i + 1)) ** 0.5 / (1 - 0.9 ** (i + 1))
            # the root of a weight without gradient is zero and has no derivative: count it as none
            roots = {n: torch.where(v == 0, 1, v).sqrt() * (v != 0) for n, v in second.items()}
            w = {n: w[n] - eta * first[n] / (roots[n] + 1e-8) for n in w}
        else:
            first = {n: momentum * first[n] + g[n] for n in w}
            w = {n: w[n] - log_lr.exp() * first[n] for n in w}
    near = sum(((w[n] - target[n]) ** 2).sum() for n in w)
    far = sum(((start[n] - target[n]) ** 2).sum() for n in w)
    return (near / far).detach(), *torch.autograd.grad(near / far, [pixels, log_lr])


def survivors(scores: Mapping[str, Tensor], kept: Mapping[str, Tensor], rate: float, scope: str) -> dict[str, list[bool]]:
    """The next mask as flat lists: a list of (score, place) sorted by Python, and its beginning struck out."""
    out = {n: t.flatten().tolist() for n, t in kept.items()}
    for group in [[n] for n in kept] if scope == "layer" else [list(kept)]:
        alive = [
            (float(s), order, place, n)
            for order, n in enumerate(group)
            for place, s in enumerate(scores[n].flatten().tolist())
            if out[n][place]
        ]
        for _, _, place, n in sorted(alive)[: round(rate * len(alive))]:
            out[n][place] = False
    return out


def trained_by_hand(
    network: Callable[[Named, Tensor], Tensor],
    w: Named,
    steps: Sequence[tuple[Tensor, Tensor]],
    lrs: Sequence[float],
    *,
    momentum: float = 0.0,
    weight_decay: float = 0.0,
    kept: Mapping[str, Tensor] | None = None,
    adam: bool = False,
) -> tuple[list[Named], list[float]]:
    """Weights after every step (the start first), and every step's loss; `steps` holds a batch (x, y) a step."""
    kept = kept or {}
    w = {n: t * kept[n] if n in kept else t.clone() for n, t in w.items()}
    first, second = ({n: torch.zeros_like(t) for n, t in w.items()} for _ in range(2))
    path, losses = [w], []
    for i, ((x, y), lr) in enumerate(zip(steps, lrs, strict=True), start=1):
        leaves = {n: t.detach().requires_grad_() for n, t in w.items()}
        loss = cross_entropy(network(leaves, x), y)
        gradients = torch.autograd.grad(loss, list(leaves.values()))
        w = {}
        for (n, old), g in zip(path[-1].items(), gradients, strict=True):
            g = g + weight_decay * old
            if adam:
                first[n] = 0.9 * first[n] + 0.1 * g
                second[n] = 0.999 * second[n] + 0.001 * g**2
                step = first[n] / (1 - 0.9**i) / ((second[n] / (1 - 0.999**i)).sqrt() + 1e-8)
            else:
                step = first[n] = momentum * first[n] + g
            w[n] = old - lr * step
            if n in kept:
                w[n] = w[n] * kept[n]
        path.append(w)
        losses.append(float(loss.detach()))
    return path, losses


# -- fakes


def convnet(depth: int = 1, norm: str = "instance", width: int = 2, side: int = 4, classes: int = 3) -> Model:
    return build_model(ConvNet(depth=depth, width=width, norm=norm), (1, side, side), classes)


def uneven(model: Model, seed: int = 0, dtype: torch.dtype = torch.float64) -> Named:
    """A state whose norms and biases are not at their defaults, so that one left out shows."""
    generator = torch.Generator().manual_seed(seed)
    return {
        n: t + 0.3 * torch.rand(t.shape, generator=generator, dtype=dtype) if t.is_floating_point() else t
        for n, t in model.fresh(seed, "init").items()
    }


def examples_of(model: Model, n: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Examples:
    """Random inputs with a little of the label in them; every class appears."""
    generator = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % model.classes
    x = torch.randn(n, *model.shape, generator=generator, dtype=dtype) + 0.3 * y.view(-1, 1, 1, 1)
    return Examples(x, y)


class Interrupted(Exception):
    """The power went."""


class Memory(Progress):
    """Keeps a snapshot after every step in memory, as a file would, and dies at the save that `dies` names."""

    def __init__(self, count: str = "", dies: int | None = None) -> None:
        self.count, self.dies = count, dies
        self.snapshots: list[Snapshot] = []

    def due(self) -> bool:
        return True

    def save(self, tensors, numbers) -> None:
        tensors = {n: t.detach().clone() for n, t in tensors.items()}
        self.snapshots.append(Snapshot(tensors, json.loads(json.dumps(numbers))))
        if self.dies is not None and numbers[self.count] == self.dies:
            raise Interrupted

    def load(self) -> Snapshot | None:
        if not self.snapshots:
            return None
        last = self.snapshots[-1]
        return Snapshot({n: t.clone() for n, t in last.tensors.items()}, json.loads(json.dumps(last.numbers)))


def interrupted(count: str, at: int, task: Callable[[Progress], object]):
    """The result of `task` when it dies after the save at `at` and is begun again."""
    memory = Memory(count, at)
    try:
        task(memory)
    except Interrupted:
        memory.dies = None
        return task(memory)
    raise AssertionError(f"never saved at {count} {at}")
