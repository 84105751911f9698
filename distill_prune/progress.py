"""What a long computation tells the corridor (how far it is) and asks of it (to keep its state)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor


@dataclass(frozen=True)
class Snapshot:
    """All state of an unfinished computation: tensors by name, and plain JSON numbers."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any] = field(default_factory=dict)


class Progress:
    """Silent progress that keeps nothing. The pipeline's worker derives from it; tests and libraries use it as it is."""

    def tick(self, done: int, total: int, note: str = "") -> None:
        """Say that `done` of `total` steps are finished. Cheap; called often."""

    def due(self) -> bool:
        """Whether enough time has passed since the last save that another is worth its cost."""
        return False

    def save(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Keep a snapshot, replacing the one before; whole or not at all."""

    def load(self) -> Snapshot | None:
        """The last snapshot of this very artifact, if one was kept."""
        return None


class TicksOnly(Progress):
    """Passes ticks on and keeps nothing: for a part of a computation whose whole is not resumable in its middle."""

    def __init__(self, inner: Progress, offset: int = 0, total: int | None = None) -> None:
        self._inner, self._offset, self._total = inner, offset, total

    def tick(self, done: int, total: int, note: str = "") -> None:
        self._inner.tick(self._offset + done, self._total or total, note)


SILENT = Progress()
