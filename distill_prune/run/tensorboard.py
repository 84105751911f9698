"""Training losses for TensorBoard: one of its runs for each artifact, written while the artifact is made."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from distill_prune.errors import DistillPruneError, UserError
from distill_prune.plan.nodes import Node
from distill_prune.run.watching import Watcher
from distill_prune.store.logs import read_losses
from distill_prune.store.store import Store


class EventFile(Protocol):
    """What is used of TensorBoard's `SummaryWriter`."""

    def add_scalar(self, tag: str, scalar_value: float, global_step: int) -> None: ...

    def close(self) -> None: ...


class Curves(Watcher):
    """A watcher that copies losses from the store into event files below `folder`, as far as they have come.

    Raises:
        UserError: TensorBoard is not installed.
    """

    def __init__(self, folder: Path, store: Store) -> None:
        try:
            self._make: Callable[[str], EventFile] = importlib.import_module("torch.utils.tensorboard").SummaryWriter
        except ImportError:
            raise UserError("TensorBoard is not installed", fix="pip install 'distill-prune[tensorboard]'") from None
        self._folder, self._store = folder, store
        self._writers: dict[str, EventFile] = {}
        self._read: dict[str, int] = {}

    def _copy(self, node: Node) -> None:
        rows, self._read[node.key] = read_losses(self._store, node.key, self._read.get(node.key, 0))
        if rows and node.key not in self._writers:
            self._writers[node.key] = self._make(str(self._folder / node.stage / f"{_name(node.label)} {node.key[:12]}"))
        for step, loss in rows:
            self._writers[node.key].add_scalar("loss", loss, step)

    def _end(self, node: Node) -> None:
        self._copy(node)
        self._read.pop(node.key)
        if (writer := self._writers.pop(node.key, None)) is not None:
            writer.close()

    def ticked(self, node: Node, done: int, total: int, note: str) -> None:
        self._copy(node)

    def finished(self, node: Node, status: str, seconds: float, left_s: float) -> None:
        if status == "made":
            self._end(node)

    def failed(self, node: Node, error: DistillPruneError, given_up: int, *, new: bool) -> None:
        self._end(node)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()


def _name(label: str) -> str:
    """A label as the name of a folder."""
    return "".join(letter if letter.isalnum() or letter in " ._-" else "_" for letter in label)[:100]
