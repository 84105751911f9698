"""Which weights go: exactly round(rate * remaining) of the survivors, lowest score first, ties by lowest flat index.

Where the share is of the original weights, round(rate * total) go, as many at every level.

References:
    | The Lottery Ticket Hypothesis for Pre-trained BERT Networks (Chen et al., 2020), for shares of the original weights
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis (Frankle et al., 2020), algorithm 2, for the global rank
    | Pruning neural networks without any data by iteratively conserving synaptic flow (Tanaka et al., 2020), algorithm 1,
      for the exponential schedule, https://arxiv.org/abs/2006.05467
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.artifacts import Mask
from distill_prune.errors import NonFiniteError
from distill_prune.prune.densities import proportions, spread
from distill_prune.settings import Entry

Scope = Literal["global", "layer", "erk", "balanced"]
Share = Literal["remaining", "original"]


class Criterion(Entry):
    """Base of every criterion's settings: `scope` says whether weights compete over all layers or within each, and in the
    second case how many each layer keeps: the same share of what it has, or a prescribed one (densities.py)."""

    scope: Scope = Field(
        "global",
        description="global: weights compete over all layers; layer: within each layer, which all lose the same share; erk: "
        "within each layer, which keep weights in proportion to the sum of their dimensions (Erdos-Renyi kernel); balanced: "
        "within each layer, which all keep equally many",
    )


class Iterative(Criterion):
    """Base of the settings of a criterion whose scores change as weights go: what a level removes goes in `rounds` parts
    (see `schedule`), and scores are taken anew before each."""

    rounds: int = Field(1, ge=1, description="parts in which a level removes its weights, with new scores before each")


def groups(mask: Mask, scope: Scope) -> list[list[str]]:
    """The tensors whose weights compete with one another."""
    return [list(mask.kept)] if scope == "global" else [[n] for n in mask.kept]


def survivors(mask: Mask, scope: Scope) -> list[int]:
    """How many weights of each group survive."""
    return [sum(int(mask.kept[n].sum()) for n in names) for names in groups(mask, scope)]


def remaining(alive: int, rate: float, rounds: int = 1, total: int | None = None) -> int:
    """What is left of `alive` weights when round(rate * remaining) go, `rounds` times; with `total`, round(rate * total)."""
    for _ in range(rounds):
        alive -= round(rate * (alive if total is None else total))
    return max(alive, 0)


def counts_after(mask: Mask, scope: Scope, rate: float, rounds: int = 1, share: Share = "remaining") -> list[int]:
    """What is left of each group when a level removes the share `rate`, `rounds` times, of what remains or of all weights.

    Where densities are prescribed, the share is of all layers together, and each layer has its part of what is left.
    """
    together: Scope = "layer" if scope == "layer" else "global"
    totals = [sum(mask.kept[n].numel() for n in names) if share == "original" else None for names in groups(mask, together)]
    left = [remaining(n, rate, rounds, total) for n, total in zip(survivors(mask, together), totals, strict=True)]
    if scope == "global" or scope == "layer":
        return left
    return spread(left[0], proportions(mask, scope), survivors(mask, scope))


def schedule(before: Sequence[int], after: Sequence[int], rounds: int) -> list[list[int]]:
    """Survivors of each group after each of `rounds` parts: n_i = round(n_0 (n_R / n_0)^(i / R)), the last exactly `after`.

    A group that loses everything does so in the last part; the way there is that to one weight.
    """
    ways = [(b, max(a, 1) / max(b, 1)) for b, a in zip(before, after, strict=True)]
    return [[round(b * ratio ** (i / rounds)) for b, ratio in ways] for i in range(1, rounds)] + [list(after)]


def _keep(scores: Tensor, kept: Tensor, count: int) -> Tensor:
    """Of the survivors in `kept` (P,) the `count` of highest score."""
    out, alive = kept.clone(), kept.nonzero().squeeze(1)
    gone = len(alive) - count
    if gone:
        # By the highest score that goes: a full sort takes several times as long.
        of_alive = scores[alive]
        edge = of_alive.topk(gone, largest=False, sorted=False).values.max()
        below = alive[of_alive < edge]
        out[below] = False
        out[alive[of_alive == edge][: gone - len(below)]] = False
    return out


def keep(scores: Mapping[str, Tensor], mask: Mask, counts: Sequence[int], scope: Scope) -> Mask:
    """`mask` with the `counts` highest-scored survivors of each group; of equal scores the lowest flat index goes first.

    Raises:
        NonFiniteError: a surviving weight's score is NaN.
        RunError: no weight is left.
    """
    for name, kept in mask.kept.items():
        if bool(torch.isnan(scores[name][kept]).any()):
            raise NonFiniteError(f"scores of '{name}' are not numbers")
    out: dict[str, Tensor] = {}
    for names, count in zip(groups(mask, scope), counts, strict=True):
        tensors = [mask.kept[n] for n in names]
        flat = _keep(torch.cat([scores[n].flatten() for n in names]), torch.cat([t.flatten() for t in tensors]), count)
        parts = torch.split(flat, [t.numel() for t in tensors])
        out |= {n: part.view_as(t).clone() for n, part, t in zip(names, parts, tensors, strict=True)}
    return Mask(out)


def select(scores: Mapping[str, Tensor], mask: Mask, rate: float, scope: Scope) -> Mask:
    """The next mask: `mask` without the lowest-scored share `rate` of its survivors, over all layers or as `scope` says.

    Raises:
        NonFiniteError: a surviving weight's score is NaN.
        RunError: no weight is left.
    """
    return keep(scores, mask, counts_after(mask, scope, rate), scope)
