"""What each step of trainings sees: batches in the order of their epochs, augmented and mixed, and the loss on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from distill_prune import objective
from distill_prune.arithmetic import ceil_div
from distill_prune.artifacts import Examples
from distill_prune.data import cutmix
from distill_prune.data.augment import augment, augment_lanes
from distill_prune.models import lanes
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams
from distill_prune.training.order import epoch_order


@dataclass
class Feeds:
    """The examples and random streams of trainings that share their steps, one of each a training.

    `orders` (lanes, N) are the rows of the epoch that is being visited, on the examples' device.
    """

    examples: Sequence[Examples]
    recipe: Recipe
    noise: Sequence[Streams]
    abreast: bool
    epoch: int = -1
    orders: Tensor = field(default_factory=lambda: torch.empty(0))

    @classmethod
    def of(
        cls,
        examples: Sequence[Examples],
        recipe: Recipe,
        noise: Sequence[Streams],
        device: str | torch.device,
        *,
        abreast: bool,
    ) -> Feeds:
        """Feeds of examples on `device`; examples that are one object stay one."""
        placed = {id(e): e.to(device) for e in examples}
        return cls([placed[id(e)] for e in examples], recipe, noise, abreast)

    def losses(self, network: nn.Module, step: int) -> Tensor:
        """The loss of each training at a step: (lanes,), or a scalar where there is one training.

        The network computes in the recipe's precision, and the loss in that of the weights.
        """
        rows = self._rows(step)
        return self._of_lanes(network, rows, step) if self.abreast else self._of_one(network, rows[0], step)

    def _rows(self, step: int) -> Tensor:
        """The rows (lanes, B) of a step; the last batch of an epoch may be short."""
        size = self.recipe.batch
        epoch, position = divmod(step, ceil_div(len(self.examples[0]), size))
        if epoch != self.epoch:
            pairs = zip(self.examples, self.noise, strict=True)
            orders = [epoch_order(e, self.recipe, noise("order", epoch=epoch)) for e, noise in pairs]
            self.orders, self.epoch = torch.stack(orders).to(self.examples[0].x.device), epoch
        return self.orders[:, position * size : (position + 1) * size]

    def _of_one(self, network: nn.Module, rows: Tensor, step: int) -> Tensor:
        recipe, examples, noise = self.recipe, self.examples[0], self.noise[0]
        x, y = augment(examples.inputs(rows), recipe.augment, noise, step), examples.y[rows]
        cut = cutmix.draw(recipe.cutmix, recipe.cutmix_beta, x.shape, noise("cutmix", step=step)) if recipe.cutmix else None
        if cut is not None:
            x = cutmix.apply(x, cut)
        logits = self._logits(network, x)
        loss = objective.loss(logits, y, smoothing=recipe.label_smoothing)
        if cut is None:
            return loss
        paired_loss = objective.loss(logits, y[cut.pairs.to(y.device)], smoothing=recipe.label_smoothing)
        return cut.share * loss + (1 - cut.share) * paired_loss

    def _of_lanes(self, network: nn.Module, rows: Tensor, step: int) -> Tensor:
        recipe, count = self.recipe, len(rows)
        x, y = self._batches(rows)
        x = augment_lanes(x, recipe.augment, self.noise, step)
        cuts: list[cutmix.Cut | None] = []
        if recipe.cutmix:
            streams = [noise("cutmix", step=step) for noise in self.noise]
            cuts = [cutmix.draw(recipe.cutmix, recipe.cutmix_beta, x.shape[1:], stream) for stream in streams]
            x = torch.stack([images if cut is None else cutmix.apply(images, cut) for images, cut in zip(x, cuts, strict=True)])
        logits = lanes.outputs(self._logits(network, lanes.side_by_side(x)), count)
        losses = self._means(logits, y)
        if not any(cuts):
            return losses
        # A lane without a box is its own pair, at the full share.
        alone = torch.arange(y.shape[1])
        pairs = torch.stack([alone if cut is None else cut.pairs for cut in cuts]).to(y.device)
        shares = losses.new_tensor([1.0 if cut is None else cut.share for cut in cuts])
        paired = torch.stack([labels[pair] for labels, pair in zip(y, pairs, strict=True)])
        return shares * losses + (1 - shares) * self._means(logits, paired)

    def _batches(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (lanes, B, C, H, W) and labels (lanes, B) or (lanes, B, K)."""
        first = self.examples[0]
        if first.transform is None and all(e is first for e in self.examples):
            flat = rows.reshape(-1)
            return first.x[flat].view(*rows.shape, *first.shape), first.y[flat].view(*rows.shape, *first.y.shape[1:])
        pairs = list(zip(self.examples, rows, strict=True))
        return torch.stack([e.inputs(r) for e, r in pairs]), torch.stack([e.y[r] for e, r in pairs])

    def _logits(self, network: nn.Module, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.recipe.precision == "bfloat16"):
            logits: Tensor = network(x)
        return logits.to(next(network.parameters()).dtype)

    def _means(self, logits: Tensor, y: Tensor) -> Tensor:
        """The mean loss (lanes,) of logits (lanes, B, K)."""
        terms = objective.loss(logits.flatten(0, 1), y.flatten(0, 1), reduction="none", smoothing=self.recipe.label_smoothing)
        return terms.view(y.shape[:2]).mean(1)
