"""What every data set has in common: its settings, and what loading one gives."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field
from torch import Tensor

from distill_prune.errors import DataError
from distill_prune.settings import Entry, canonical

Remembered = MutableMapping[str, str]
"""Hashes of files by path, size and time of change; the caller keeps it between runs."""


class Source(Entry):
    """Base of every data set's settings.

    `validation` is the share of the training part that is held out, stratified by class; no choice looks at the test
    part. `transform` is fitted on what remains of the training part.
    """

    OUTSIDE_KEYS: ClassVar[frozenset[str]] = frozenset()

    split_seed: int = 0
    validation: float = Field(0.1, ge=0, lt=1)
    transform: Literal["normalize", "zca"] = "normalize"

    def identity(self) -> dict[str, Any]:
        """The settings that enter keys: without paths and titles, for the fingerprint stands for the bytes."""
        settings: dict[str, Any] = canonical(self)
        return {name: value for name, value in settings.items() if name not in self.OUTSIDE_KEYS}


@dataclass(frozen=True)
class Loaded:
    """A data set as its source holds it.

    `pixels` (N, C, H, W) uint8 or float32, `scale` being white; `labels` (N,) int64; `test` (N,) bool.
    """

    pixels: Tensor
    labels: Tensor
    test: Tensor
    classes: tuple[str, ...]
    scale: float
    title: str


def file_hash(path: Path, remembered: Remembered | None = None) -> str:
    """sha256 of a file's bytes, taken from `remembered` where path, size and time of change are the same.

    Raises:
        DataError: the file cannot be read.
    """
    try:
        stat = path.stat()
        name = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}"
        if remembered is not None and name in remembered:
            return remembered[name]
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise DataError(f"cannot read '{path}'", got=problem.strerror) from problem
    if remembered is not None:
        remembered[name] = found
    return found
