"""What the steps of trainings draw: rows, augmentation and CutMix; and where the sentences of their batches are.

It is made for many steps at once and copied to the device at once. Every step draws from its own streams, so bits do not depend
on how many are made together.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from distill_prune import objective
from distill_prune.arithmetic import ceil_div
from distill_prune.artifacts import Examples
from distill_prune.data import cutmix
from distill_prune.data.augment import LaneDraw, draw_lanes
from distill_prune.models.encoder import Layout
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams
from distill_prune.training.order import epoch_order
from distill_prune.tree import moved

SPAN = 2**16
"""Draws are made for so many examples at once, those of all trainings together: some 100 bytes each."""


@dataclass(frozen=True)
class Drawn:
    """What R trainings draw for one step, on their device.

    `rows` (R, B) are the batches. `cuts` are CutMix's, one for each training (None where it mixes nothing), and `shares` (R,),
    float64, are what they leave of the labels; empty and None where no training mixes. Sentences have a `layout` where the
    network takes it; word pieces that are asked are `answers` (A,) then.
    """

    rows: Tensor
    augmentation: LaneDraw | None = None
    cuts: Sequence[cutmix.Cut | None] = ()
    shares: Tensor | None = None
    layout: Layout | None = None
    answers: Tensor | None = None

    def tensors(self) -> list[Tensor]:
        """All tensors, in one order."""
        augmentations = () if self.augmentation is None else self.augmentation.tensors()
        asked = None if self.layout is None else self.layout.asked
        single = [t for t in (self.shares, asked, self.answers) if t is not None]
        return [self.rows, *augmentations, *(cut.pairs for cut in self.cuts if cut is not None), *single]

    def over(self, tensors: Iterator[Tensor]) -> Drawn:
        """The same with other tensors, in that order."""
        return Drawn(
            next(tensors),
            None if self.augmentation is None else self.augmentation.over(tensors),
            [None if cut is None else replace(cut, pairs=next(tensors)) for cut in self.cuts],
            None if self.shares is None else next(tensors),
            None if self.layout is None else self.layout.over(tensors),
            None if self.answers is None else next(tensors),
        )


class Draws:
    """The draws of trainings over the steps up to `last`, one of `examples` and `noise` each.

    Epoch e has the order of noise("order", epoch=e); step i the augmentation of noise("augment", step=i) and the CutMix of
    noise("cutmix", step=i). With `layouts`, so have sentences.
    """

    def __init__(
        self,
        examples: Sequence[Examples],
        recipe: Recipe,
        noise: Sequence[Streams],
        last: int,
        device: str | torch.device,
        *,
        layouts: bool,
    ) -> None:
        self._recipe, self._noise, self._last, self._device, self._layouts = recipe, noise, last, device, layouts
        self._examples = [e.to("cpu") if e.tokens else e for e in examples]
        self._per_epoch = ceil_div(len(examples[0]), recipe.batch)
        self._epoch, self._orders = -1, torch.empty(0)
        self._steps: dict[int, Drawn] = {}

    def at(self, step: int) -> Drawn:
        """The draws of a step, on the device."""
        if step not in self._steps:
            self._steps = self._span(step)
        return self._steps[step]

    def _span(self, first: int) -> dict[int, Drawn]:
        """The draws of `first` and of steps after it."""
        steps = max(1, SPAN // (min(self._recipe.batch, len(self._examples[0])) * len(self._noise)))
        span = range(first, min(first + steps, self._last))
        drawn = [self._of(step) for step in span]
        there = iter(moved([t for d in drawn for t in d.tensors()], self._device))
        return {step: d.over(there) for step, d in zip(span, drawn, strict=True)}

    def _of(self, step: int) -> Drawn:
        """The draws of a step, on the CPU."""
        recipe, examples = self._recipe, self._examples[0]
        rows = self._rows(step)
        shape, augmentation = (rows.shape[1], *examples.shape), None
        if recipe.augment != "none":
            augmentation = draw_lanes(recipe.augment, shape, [noise("augment", step=step) for noise in self._noise])
        drawn = Drawn(rows, augmentation)
        if recipe.cutmix:
            streams = [noise("cutmix", step=step) for noise in self._noise]
            cuts = [cutmix.draw(recipe.cutmix, recipe.cutmix_beta, shape, stream) for stream in streams]
            if any(cuts):
                shares = torch.tensor([1.0 if cut is None else cut.share for cut in cuts], dtype=torch.float64)
                drawn = replace(drawn, cuts=cuts, shares=shares)
        if self._layouts and examples.tokens:
            tokens, labels = examples.x[rows[0]], examples.y[rows[0]]
            masked = objective.is_asked(labels)
            answers = objective.truth(labels) if masked else None
            drawn = replace(drawn, layout=Layout.of(tokens, masked=masked), answers=answers)
        return drawn

    def _rows(self, step: int) -> Tensor:
        """The rows (R, B) of a step; the last batch of an epoch may be short."""
        size, (epoch, position) = self._recipe.batch, divmod(step, self._per_epoch)
        if epoch != self._epoch:
            pairs = zip(self._examples, self._noise, strict=True)
            orders = [epoch_order(e, self._recipe, noise("order", epoch=epoch)) for e, noise in pairs]
            self._epoch, self._orders = epoch, torch.stack(orders)
        return self._orders[:, position * size : (position + 1) * size]
