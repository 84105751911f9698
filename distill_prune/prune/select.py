"""Which weights go: exactly round(rate * remaining) of the survivors, lowest score first, ties by lowest flat index.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis (Frankle et al., 2020), algorithm 2, for the global rank
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from distill_prune.artifacts import Mask
from distill_prune.errors import NonFiniteError
from distill_prune.settings import Entry

Scope = Literal["global", "layer"]


class Criterion(Entry):
    """Base of every criterion's settings: `scope` says whether weights compete over all layers or within each."""

    scope: Scope = "global"


def _keep(scores: Tensor, kept: Tensor, rate: float) -> Tensor:
    """`kept` (P,) without the round(rate * remaining) survivors of lowest score."""
    alive = kept.nonzero().squeeze(1)
    order = torch.sort(scores[alive], stable=True).indices
    out = kept.clone()
    out[alive[order[: round(rate * len(alive))]]] = False
    return out


def select(scores: Mapping[str, Tensor], mask: Mask, rate: float, scope: Scope) -> Mask:
    """The next mask: `mask` without the lowest-scored share `rate` of its survivors, over all layers or in each.

    Raises:
        NonFiniteError: a surviving weight's score is NaN.
    """
    names = list(mask.kept)
    for name in names:
        if bool(torch.isnan(scores[name][mask.kept[name]]).any()):
            raise NonFiniteError(f"scores of '{name}' are not numbers")
    if scope == "layer":
        return Mask({n: _keep(scores[n].flatten(), mask.kept[n].flatten(), rate).view_as(mask.kept[n]) for n in names})
    flat = _keep(torch.cat([scores[n].flatten() for n in names]), torch.cat([mask.kept[n].flatten() for n in names]), rate)
    parts = torch.split(flat, [mask.kept[n].numel() for n in names])
    return Mask({n: part.view_as(mask.kept[n]).clone() for n, part in zip(names, parts, strict=True)})
