"""Files that are whole or not there: flushed to the disk, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
from pathlib import Path


def write_json(path: Path, value: object) -> None:
    """JSON in the order given, indented and flushed to the disk; floats round-trip exactly. The file is a new one: nothing is
    written through a link that somebody has put there.

    Raises:
        FileExistsError: something stands at `path`.
    """
    try:
        with path.open("x", encoding="utf-8") as file:
            json.dump(value, file, indent=1, allow_nan=False)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        problem.filename = problem.filename or str(path)  # a full disk names no file
        raise


def replace_json(path: Path, value: object) -> None:
    """The same, replacing `path` in one step: it holds the old value or the new one, whatever dies meanwhile."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_json(aside, value)
    aside.replace(path)


def as_created(path: Path) -> None:
    """Give a file that a library made for this user alone the mode of a new file, as its folder was made with."""
    path.chmod(path.parent.stat().st_mode & 0o666)


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def flush_folder(path: Path) -> None:
    """Flush the names in a folder to the disk, so that a rename survives a loss of power."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
