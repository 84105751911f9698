"""How a long computation reports its progress, and saves its state so that it can resume."""

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
    """Reports and saves nothing. Workers derive from it; tests and libraries use it as it is."""

    def tick(self, done: int, total: int, note: str = "") -> None:
        """Report that `done` of `total` steps are finished. Cheap, so it can be called at every step."""

    def record(self, step: int, loss: float) -> None:
        """Keep the training loss after `step` steps, for people to look at. It is at hand as a number: no device is read."""

    def due(self) -> bool:
        """Whether enough time has passed since the last save that another is worth its cost."""
        return False

    def save(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Save a snapshot in place of the last one. An interrupted save leaves the last one whole."""

    def load(self) -> Snapshot | None:
        """The last snapshot of this artifact, or None."""
        return None


class TicksOnly(Progress):
    """Passes ticks on and saves nothing: for a part of a computation that cannot resume in its middle."""

    def __init__(self, inner: Progress, offset: int = 0, total: int | None = None) -> None:
        self._inner, self._offset, self._total = inner, offset, total

    def tick(self, done: int, total: int, note: str = "") -> None:
        self._inner.tick(self._offset + done, self._total or total, note)


SILENT = Progress()
