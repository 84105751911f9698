"""Recorded rows: which examples a measurement looked at, drawn once and named in its numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from distill_prune.artifacts import Examples
from distill_prune.errors import UserError
from distill_prune.rng import Streams
from distill_prune.tree import State


@dataclass(frozen=True)
class RecordedRows:
    """Distinct row indices (K,) int64, in the order they were drawn."""

    index: Tensor

    def record(self) -> dict[str, int | str]:
        """Their count, and the sha256 of the indices as little-endian 64-bit integers in the order drawn."""
        content = self.index.numpy().astype("<i8").tobytes()
        return {"count": len(self.index), "sha256": hashlib.sha256(content).hexdigest()}


def draw_rows(available: int, most: int, generator: torch.Generator) -> RecordedRows:
    """At most `most` of the rows 0..available-1, without replacement, in random order (so that batches are mixed)."""
    return RecordedRows(torch.randperm(available, generator=generator)[:most])


def recorded(
    analysis: str, copies: Sequence[State], train: Examples, rows: int, streams: Streams
) -> tuple[Examples, RecordedRows]:
    """The examples of every analysis of the Hessian, the same wherever `rows` is the same, and their record.

    Raises:
        UserError: there are no examples or no copies.
    """
    if not len(train) or not copies:
        raise UserError(
            f"{analysis} needs training examples and a retrained copy",
            got=f"{len(train)} examples, {len(copies)} copies",
            expected="at least one of each",
        )
    chosen = draw_rows(len(train), rows, streams("curvature", "rows"))
    return train.take(chosen.index.to(train.x.device)).ready(), chosen
