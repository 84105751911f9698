"""What each step of trainings sees: batches in the order of their epochs, augmented and mixed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill_prune.artifacts import Examples
from distill_prune.data import cutmix
from distill_prune.data.augment import apply, apply_lanes
from distill_prune.models.encoder import Layout
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams
from distill_prune.training.draws import Drawn, Draws


@dataclass(frozen=True)
class Batch:
    """What trainings see at a step: inputs `x` (lanes, B, C, ...) and labels `y` (lanes, B, ...), without the first dimension
    where there is one training. With CutMix each input also has the label `paired`, and `shares` (lanes,) in float64 are what
    `y` counts for. Sentences of one training may have their `layout`; word pieces that are asked of them are then `y` (A,).
    """

    x: Tensor
    y: Tensor
    paired: Tensor | None = None
    shares: Tensor | None = None
    layout: Layout | None = None


@dataclass(frozen=True)
class Feeds:
    """The examples of trainings that share their steps, one of each a training, on their device, and what they draw."""

    examples: Sequence[Examples]
    draws: Draws
    abreast: bool

    @classmethod
    def of(
        cls,
        examples: Sequence[Examples],
        recipe: Recipe,
        noise: Sequence[Streams],
        last: int,
        device: str | torch.device,
        *,
        abreast: bool,
        layouts: bool = False,
    ) -> Feeds:
        """Feeds up to the step `last` of examples on `device`; examples that are one object stay one. With `layouts`, batches
        of sentences have theirs."""
        placed = {id(e): e.to(device) for e in examples}
        return cls([placed[id(e)] for e in examples], Draws(examples, recipe, noise, last, device, layouts=layouts), abreast)

    def batch(self, step: int) -> Batch:
        """What the trainings see at a step."""
        drawn = self.draws.at(step)
        return self._of_lanes(drawn) if self.abreast else self._of_one(drawn)

    def _of_one(self, drawn: Drawn) -> Batch:
        examples, rows = self.examples[0], drawn.rows[0]
        x, y = examples.inputs(rows), examples.y[rows] if drawn.answers is None else drawn.answers
        if drawn.augmentation is not None:
            x = apply(x, drawn.augmentation.draws[0])
        cut = drawn.cuts[0] if drawn.cuts else None
        if cut is None or drawn.shares is None:
            return Batch(x, y, layout=drawn.layout)
        return Batch(cutmix.apply(x, cut), y, y[cut.pairs], drawn.shares[0])

    def _of_lanes(self, drawn: Drawn) -> Batch:
        x, y = self._batches(drawn.rows)
        if drawn.augmentation is not None:
            x = apply_lanes(x, drawn.augmentation)
        if not drawn.cuts:
            return Batch(x, y)
        pairs = list(zip(x, drawn.cuts, strict=True))
        x = torch.stack([images if cut is None else cutmix.apply(images, cut) for images, cut in pairs])
        # A lane without a box is its own pair, at the full share.
        paired = torch.stack([labels if cut is None else labels[cut.pairs] for labels, cut in zip(y, drawn.cuts, strict=True)])
        return Batch(x, y, paired, drawn.shares)

    def _batches(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs (lanes, B, C, H, W) and labels (lanes, B) or (lanes, B, K)."""
        first = self.examples[0]
        if first.transform is None and all(e is first for e in self.examples):
            flat = rows.reshape(-1)
            return first.x[flat].view(*rows.shape, *first.shape), first.y[flat].view(*rows.shape, *first.y.shape[1:])
        pairs = list(zip(self.examples, rows, strict=True))
        return torch.stack([e.inputs(r) for e, r in pairs]), torch.stack([e.y[r] for e, r in pairs])
