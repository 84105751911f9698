"""Prescribed densities: how many weights each layer keeps of a total, whatever their scores. Scores choose within the layer.

    erk:       n_l in proportion to the sum of the sizes of the weight's dimensions (out + in + height + width of a convolution,
               out + in of a linear layer), so that its density is in proportion to their sum over their product
    balanced:  n_l equal in all layers

A layer keeps at most what it still has, and what it cannot take goes to the others. The total is exact: it is what the level
keeps of all layers together. Whole numbers come from the method of D'Hondt: weights are given out one at a time, each to
the layer of the largest a_l / (n_l + 1) that has room, of equal ones to the first, where a_l is the layer's proportion. So the
counts of a smaller total are nowhere larger. Along a chain a layer never gains weights, masks nest, and each level has the
counts that one step from the dense network to its total gives.

References:
    | Scalable training of artificial neural networks with adaptive sparse connectivity inspired by network science (Mocanu et
      al., 2018), for Erdos-Renyi densities of linear layers, https://arxiv.org/abs/1707.04780
    | Rigging the Lottery: Making All Tickets Winners (Evci et al., 2020), for the kernel's part,
      https://arxiv.org/abs/1911.11134
    | Why Random Pruning Is All We Need to Start Sparse (Gadhikar, Mukherjee and Burkholz, 2023), for balanced layers,
      https://arxiv.org/abs/2210.02412
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import Literal

from distill_prune.artifacts import Mask

Prescribed = Literal["erk", "balanced"]


def proportions(mask: Mask, scope: Prescribed) -> list[int]:
    """What the layers' counts are in proportion to, in the mask's order."""
    return [sum(t.shape) if scope == "erk" else 1 for t in mask.kept.values()]


def spread(total: int, parts: Sequence[int], most: Sequence[int]) -> list[int]:
    """`total` in whole counts that are in proportion to `parts`, none above its `most`; `total` is at most their sum."""
    level = _level(total, parts, most)
    counts = [min(cap, int(level * part)) for part, cap in zip(parts, most, strict=True)]
    for _ in range(total - sum(counts)):  # fewer than there are layers: D'Hondt gives each its quota, rounded down
        open_ = [i for i, cap in enumerate(most) if counts[i] < cap]
        counts[max(open_, key=lambda i: Fraction(parts[i], counts[i] + 1))] += 1
    return counts


def _level(total: int, parts: Sequence[int], most: Sequence[int]) -> Fraction:
    """The c at which the sum of min(most, c parts) is `total`, exactly."""
    rest, weight = total, sum(parts)
    # Layers fill up in the order of most / part.
    for part, cap in sorted(zip(parts, most, strict=True), key=lambda layer: Fraction(layer[1], layer[0])):
        if cap * weight >= rest * part:
            break
        rest, weight = rest - cap, weight - part
    return Fraction(rest, weight) if weight else Fraction(0)
