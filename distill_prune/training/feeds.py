"""What each step of trainings sees: batches in the order of their epochs, augmented and mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from distill_prune.arithmetic import ceil_div
from distill_prune.artifacts import Examples
from distill_prune.data import cutmix
from distill_prune.data.augment import augment, augment_lanes
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams
from distill_prune.training.order import epoch_order


@dataclass(frozen=True)
class Batch:
    """What trainings see at a step: inputs `x` (lanes, B, C, ...) and labels `y` (lanes, B, ...), without the first dimension
    where there is one training. With CutMix each input also has the label `paired`, and `shares` (lanes,) in float64 are what
    `y` counts for.
    """

    x: Tensor
    y: Tensor
    paired: Tensor | None = None
    shares: Tensor | None = None


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

    def batch(self, step: int) -> Batch:
        """What the trainings see at a step."""
        rows = self._rows(step)
        return self._of_lanes(rows, step) if self.abreast else self._of_one(rows[0], step)

    def _rows(self, step: int) -> Tensor:
        """The rows (lanes, B) of a step; the last batch of an epoch may be short."""
        size = self.recipe.batch
        epoch, position = divmod(step, ceil_div(len(self.examples[0]), size))
        if epoch != self.epoch:
            pairs = zip(self.examples, self.noise, strict=True)
            orders = [epoch_order(e, self.recipe, noise("order", epoch=epoch)) for e, noise in pairs]
            self.orders, self.epoch = torch.stack(orders).to(self.examples[0].x.device), epoch
        return self.orders[:, position * size : (position + 1) * size]

    def _of_one(self, rows: Tensor, step: int) -> Batch:
        recipe, examples, noise = self.recipe, self.examples[0], self.noise[0]
        x, y = augment(examples.inputs(rows), recipe.augment, noise, step), examples.y[rows]
        cut = cutmix.draw(recipe.cutmix, recipe.cutmix_beta, x.shape, noise("cutmix", step=step)) if recipe.cutmix else None
        if cut is None:
            return Batch(x, y)
        share = torch.tensor(cut.share, dtype=torch.float64, device=x.device)
        return Batch(cutmix.apply(x, cut), y, y[cut.pairs.to(y.device)], share)

    def _of_lanes(self, rows: Tensor, step: int) -> Batch:
        recipe = self.recipe
        x, y = self._batches(rows)
        x = augment_lanes(x, recipe.augment, self.noise, step)
        if not recipe.cutmix:
            return Batch(x, y)
        streams = [noise("cutmix", step=step) for noise in self.noise]
        cuts = [cutmix.draw(recipe.cutmix, recipe.cutmix_beta, x.shape[1:], stream) for stream in streams]
        if not any(cuts):
            return Batch(x, y)
        x = torch.stack([images if cut is None else cutmix.apply(images, cut) for images, cut in zip(x, cuts, strict=True)])
        # A lane without a box is its own pair, at the full share.
        alone = torch.arange(y.shape[1])
        pairs = torch.stack([alone if cut is None else cut.pairs for cut in cuts]).to(y.device)
        paired = torch.stack([labels[pair] for labels, pair in zip(y, pairs, strict=True)])
        shares = torch.tensor([1.0 if cut is None else cut.share for cut in cuts], dtype=torch.float64, device=x.device)
        return Batch(x, y, paired, shares)

    def _batches(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (lanes, B, C, H, W) and labels (lanes, B) or (lanes, B, K)."""
        first = self.examples[0]
        if first.transform is None and all(e is first for e in self.examples):
            flat = rows.reshape(-1)
            return first.x[flat].view(*rows.shape, *first.shape), first.y[flat].view(*rows.shape, *first.y.shape[1:])
        pairs = list(zip(self.examples, rows, strict=True))
        return torch.stack([e.inputs(r) for e, r in pairs]), torch.stack([e.y[r] for e, r in pairs])
