"""Losses and gradients of a step, in plain PyTorch or by a compiled function.

A compiled function takes the network's tensors as inputs: all trainings of one network in a process use the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from distill_prune import compiled, objective
from distill_prune.models import Model, lanes
from distill_prune.recipe import Precision, Recipe
from distill_prune.training.feeds import Batch
from distill_prune.tree import State

FEW = 10
"""In longer epochs a last batch that is short is not compiled: that would take longer than it saves."""


@dataclass(frozen=True)
class Loss:
    """The loss of each training on a batch: (lanes,), or a scalar where `lanes` is None.

    The network computes in the recipe's `precision`, and the loss in `dtype`, that of the weights.
    """

    lanes: int | None
    precision: Precision
    smoothing: float
    dtype: torch.dtype

    def __call__(self, network: Callable[..., Tensor], batch: Batch) -> Tensor:
        x = batch.x if self.lanes is None else lanes.side_by_side(batch.x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.precision == "bfloat16"):
            logits = network(x) if batch.layout is None else network(x, batch.layout)
        logits = logits.to(self.dtype)
        losses = self._mean(logits, batch.y)
        if batch.paired is None or batch.shares is None:
            return losses
        shares, rest = batch.shares.to(self.dtype), (1 - batch.shares).to(self.dtype)
        return shares * losses + rest * self._mean(logits, batch.paired)

    def _mean(self, logits: Tensor, y: Tensor) -> Tensor:
        if self.lanes is None:
            return objective.loss(logits, y, smoothing=self.smoothing)
        logits = lanes.outputs(logits, self.lanes).flatten(0, 1)
        terms = objective.loss(logits, y.flatten(0, 1), reduction="none", smoothing=self.smoothing)
        return terms.view(y.shape[:2]).mean(1)


class Gradients:
    """Losses and gradients of trainings whose tensors `module` holds, on batches of sets of so many `examples`."""

    def __init__(self, model: Model, module: nn.Module, recipe: Recipe, lanes: int | None, examples: int) -> None:
        self._identity, self._module = model.identity, module
        self._tensors: State = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        self._trained = [p for p in module.parameters() if p.requires_grad]
        dtype = self._trained[0].dtype
        self._loss = Loss(lanes, recipe.precision, recipe.label_smoothing, dtype)
        full = min(recipe.batch, examples)
        sizes = {full, examples % full} if examples <= FEW * full else {full}
        self._compiled_sizes = sizes if compiled.enabled() else set()

    def __call__(self, batch: Batch) -> Tensor:
        """The losses of the trainings; their gradients are in the parameters' `grad` then.

        Raises:
            UserError: steps are to be compiled, and those of this network cannot be.
        """
        if batch.y.shape[0 if self._loss.lanes is None else 1] in self._compiled_sizes:
            mixed = [] if batch.paired is None or batch.shares is None else [batch.paired, batch.shares]
            return self._compiled([batch.x, batch.y, *mixed])
        losses = self._loss(self._module, batch)
        losses.sum().backward() if self._loss.lanes else losses.backward()  # type: ignore[no-untyped-call]
        return losses.detach()

    def _compiled(self, batch: list[Tensor]) -> Tensor:
        key = "gradients", self._identity, self._loss, *((t.shape, t.dtype, t.device) for t in batch)
        losses, gradients = compiled.call(key, self._losses_and_gradients, self._tensors, batch)
        for parameter, gradient in zip(self._trained, gradients, strict=True):
            if gradient is not None and parameter.grad is None:
                parameter.grad = gradient.clone()  # two gradients that are always equal are one tensor
            elif gradient is not None and parameter.grad is not None:
                parameter.grad.copy_(gradient)
        return losses

    def _losses_and_gradients(self, tensors: State, batch: list[Tensor]) -> tuple[Tensor, tuple[Tensor | None, ...]]:
        losses = self._loss(lambda x: functional_call(self._module, tensors, (x,)), _batch(*batch))
        trained = [t for t in tensors.values() if t.requires_grad]
        return losses.detach(), torch.autograd.grad(losses.sum(), trained, allow_unused=True)


def _batch(x: Tensor, y: Tensor, paired: Tensor | None = None, shares: Tensor | None = None) -> Batch:
    return Batch(x, y, paired, shares)
