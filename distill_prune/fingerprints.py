"""Hashes of files, remembered: what stands for the bytes of a source in keys.

A file is the one that was hashed where path, size, both times and the inode are the same: a copy that keeps the time of the
content (cp -p, rsync -t, tar) has another time of its record, or is another file.
"""

from __future__ import annotations

import hashlib
from collections.abc import MutableMapping
from pathlib import Path

from distill_prune.errors import DataError, system_error
from distill_prune.limits import Budget
from distill_prune.outside import opened

Remembered = MutableMapping[str, str]
"""Hashes by what identifies a file; the caller keeps it between runs."""


def file_hash(path: Path, remembered: Remembered | None = None) -> str:
    """sha256 of a file's bytes, taken from `remembered` where the file is the same.

    Raises:
        DataError: it is no regular file, larger than any that is read, or cannot be read.
    """
    try:
        stat = path.stat()
        name = f"{path.resolve()}|{stat.st_size}|{stat.st_mtime_ns}|{stat.st_ctime_ns}|{stat.st_ino}"
        if remembered is not None and name in remembered:
            return remembered[name]
        with opened(path) as file:
            Budget(path).check(stat.st_size, "the file itself")  # hashing takes time, and a file may be a hole of terabytes
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as problem:
        raise system_error(f"cannot read '{path}'", problem, kind=DataError) from problem
    if remembered is not None:
        remembered[name] = sha256
    return sha256
