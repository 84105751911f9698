"""Hashes of files, remembered by path, size and time of change: what stands for the bytes of a source in keys."""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from pathlib import Path

from distill_prune.errors import DataError

Remembered = MutableMapping[str, str]
"""Hashes of files by path, size and time of change; the caller keeps it between runs."""


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
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise DataError(f"cannot read '{path}'", got=problem.strerror) from problem
    if remembered is not None:
        remembered[name] = sha256
    return sha256
