"""Matching class by class: real images of a class against its synthetic ones, both under the same augmentation.

    L(X) = sum_c d_c(A_c(R_c), A_c(decode(X_c)))

R_c is a random real batch of class c, X_c its synthetic images, d_c the method's distance. A_c is siamese: one set of
parameters, drawn anew for every step and class, serves every image of both batches. The gradient of each summand is
taken by itself, so that memory holds one class at a time.

References:
    | Dataset Condensation with Differentiable Siamese Augmentation (Zhao and Bilen, 2021), https://arxiv.org/abs/2102.08259
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from distill_prune.artifacts import Examples, decode
from distill_prune.data.augment import Draw, apply, draw, placed
from distill_prune.distill import Source
from distill_prune.distill.classes import class_rows
from distill_prune.distill.outer import Run
from distill_prune.models import Model
from distill_prune.rng import Streams
from distill_prune.training import CountFlops
from distill_prune.tree import State, clone, moved, to

Distance = Callable[[Tensor, Tensor, int], Tensor]
"""The distance, a scalar, of a real batch (B, C, H, W) and a synthetic one (f^2 ipc, C, H, W) of the class with that index."""

MIXED = 16  # real images of every class behind the statistics of batch norms, as in gradient matching's code


def shared(single: Draw, n: int) -> Draw:
    """A draw for one image as the same draw for each of `n` images."""
    return Draw(
        single.families, {f: {k: t.expand(n) for k, t in parameters.items()} for f, parameters in single.parameters.items()}
    )


@contextlib.contextmanager
def counting(run: Run) -> Iterator[None]:
    """Count the floating-point operations of the block, for `run.flops`, unless they have been counted."""
    if run.flops:
        yield
        return
    with CountFlops() as counter:  # type: ignore[no-untyped-call]
        yield
    run.flops = counter.total


@dataclass(frozen=True)
class ClassDraw:
    """What one class draws for a step: the `rows` of its real batch, and one augmentation for every image of both batches."""

    rows: Tensor
    augmentation: Draw


@dataclass(frozen=True)
class Siamese:
    """`rows` holds the rows of `train` of every class, on the CPU; `batch` is the size of a real batch, less where a class has
    less."""

    train: Examples
    rows: Sequence[Tensor]
    batch: int
    augment: str
    factor: int
    streams: Streams

    @classmethod
    def of(cls, source: Source, device: str, batch: int, augment: str, factor: int, streams: Streams) -> Siamese:
        """The pairs that a source's training part gives.

        Raises:
            DataError: a class has no example.
        """
        train = source.train.to(device)
        return cls(train, class_rows(train.y.cpu(), source.classes, 1), batch, augment, factor, streams)

    def real(self, label: int, count: int, generator: torch.Generator) -> Tensor:
        """The rows of `count` random real images of one class, or of all where there are fewer, on the CPU."""
        rows = self.rows[label]
        return rows[torch.randperm(len(rows), generator=generator)[:count]]

    def drawn(self, **step: int) -> list[ClassDraw]:
        """What every class draws for a step, whose streams `step` names; on the images' device, copied there all together."""
        labels = range(len(self.rows))
        shape, device = (1, *self.train.shape), self.train.y.device
        rows = [self.real(label, self.batch, self.streams("real", label=label, **step)) for label in labels]
        draws = [draw(self.augment, shape, self.streams("augment", label=label, **step)) for label in labels]
        return [ClassDraw(*both) for both in zip(moved(rows, device), placed(draws, device), strict=True)]

    def pair(self, stored: Tensor, drawn: ClassDraw) -> tuple[Tensor, Tensor]:
        """The augmented real batch, and the augmented images that `stored` (ipc, C, H, W) hold, of one class."""
        real, synthetic = self.train.inputs(drawn.rows), decode(stored, self.factor)
        one = drawn.augmentation
        return apply(real, shared(one, len(real))), apply(synthetic, shared(one, len(synthetic)))

    def gradient(self, pixels: Tensor, distance: Distance, **step: int) -> tuple[Tensor, Tensor]:
        """L at class-major `pixels` (N, C, H, W), a scalar, and its gradient; `step` names the streams of its draws."""
        losses: list[Tensor] = []
        gradients: list[Tensor] = []
        of_class = torch.split(pixels.detach(), len(pixels) // len(self.rows))
        for label, (stored, drawn) in enumerate(zip(of_class, self.drawn(**step), strict=True)):
            leaf = stored.clone().requires_grad_()
            loss = distance(*self.pair(leaf, drawn), label)
            gradients += torch.autograd.grad(loss, leaf)
            losses.append(loss.detach())
        return torch.stack(losses).sum(), torch.cat(gradients)

    def settled(self, model: Model, state: State, **step: int) -> State:
        """`state` on the images' device. Batch norms, where there are any, have the statistics of a real batch of all classes:
        those of a batch of one class would remove the differences between classes."""
        device = self.train.y.device
        if not model.batch_norms:
            return to(state, device)
        module = model.instance(state, device).train()
        for layer in module.modules():
            if isinstance(layer, nn.modules.batchnorm._BatchNorm):
                layer.reset_running_stats()
                layer.momentum = None  # a plain mean over batches, of which there is one
        labels = range(len(self.rows))
        rows = torch.cat([self.real(c, MIXED, self.streams("statistics", label=c, **step)) for c in labels])
        with torch.no_grad():
            module(self.train.inputs(rows.to(device)))
        return clone(module.state_dict())

    def images(self, model: Model, stored: int) -> int:
        """The number of images that one matching step passes through the network, `stored` images being matched."""
        mixed = sum(min(MIXED, len(rows)) for rows in self.rows) if model.batch_norms else 0
        return sum(min(self.batch, len(rows)) for rows in self.rows) + self.factor**2 * stored + mixed
