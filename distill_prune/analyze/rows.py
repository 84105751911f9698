"""Recorded rows: which examples a measurement looked at, drawn once and named in its numbers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


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
