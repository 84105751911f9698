"""The losses of a step, in plain PyTorch or by a compiled function.

A compiled function takes the network's tensors as inputs: all trainings of one network in a process use the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.func import functional_call

from distill_prune import compiled, objective
from distill_prune.models import Model, lanes
from distill_prune.recipe import Precision, Recipe
from distill_prune.training.feeds import Batch

FEW = 10
"""Where an epoch has more steps, its last batch is not compiled if it is short: that would take longer than it saves."""


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


class Losses:
    """The losses of trainings whose tensors `module` holds, over batches of sets of so many `examples`."""

    def __init__(self, model: Model, module: nn.Module, recipe: Recipe, lanes: int | None, examples: int) -> None:
        self._identity, self._module = model.identity, module
        self._tensors = {**dict(module.named_parameters()), **dict(module.named_buffers())}
        dtype = next(module.parameters()).dtype
        self._loss = Loss(lanes, recipe.precision, recipe.label_smoothing, dtype)
        size = min(recipe.batch, examples)
        self._compiled_sizes = {size, *([examples % size] if examples <= FEW * size else [])} if compiled.enabled() else {}

    def __call__(self, batch: Batch) -> Tensor:
        x, y, paired = batch.x, batch.y, batch.paired
        if x.shape[0 if self._loss.lanes is None else 1] not in self._compiled_sizes:
            return self._loss(self._module, batch)
        kind = x.shape, x.dtype, x.device, y.shape, y.dtype, paired is None
        function = compiled.once(("losses", self._identity, self._loss, *kind), self._function)
        return function(self._tensors, x, y, paired, batch.shares)

    def _function(self) -> Callable[[dict[str, Tensor], Tensor, Tensor, Tensor | None, Tensor | None], Tensor]:
        network, loss = copy.deepcopy(self._module), self._loss

        def losses(tensors: dict[str, Tensor], x: Tensor, y: Tensor, paired: Tensor | None, shares: Tensor | None) -> Tensor:
            return loss(lambda inputs: functional_call(network, tensors, (inputs,)), Batch(x, y, paired, shares))

        return losses
