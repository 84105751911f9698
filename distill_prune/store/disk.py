"""Files that are whole or not there: flushed to the disk, then renamed."""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable
from pathlib import Path

from distill_prune.errors import DistillPruneError, StoreError, forbidden, system_error


def write_new(path: Path, content: bytes) -> None:
    """A new file, flushed to the disk: nothing is written through a link that somebody has put there.

    Raises:
        FileExistsError: something stands at `path`.
    """
    try:
        with path.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except OSError as problem:
        problem.filename = problem.filename or str(path)  # a full disk names no file
        raise


def write_json(path: Path, value: object) -> None:
    """A new file of JSON in the order given, indented; floats round-trip exactly.

    Raises:
        FileExistsError: something stands at `path`.
    """
    write_new(path, _json(value))


def _json(value: object) -> bytes:
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def replace_file(path: Path, content: bytes) -> None:
    """A file in place of the one at `path`, in one step: it holds the old content or the new one, whatever dies meanwhile."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    write_new(aside, content)
    aside.replace(path)


def replace_json(path: Path, value: object) -> None:
    """The same for a file of JSON."""
    replace_file(path, _json(value))


def replace_passing(path: Path, text: str) -> None:
    """Replace `path` in one step by a text that is soon replaced again: it is not flushed, and may be lost with the power."""
    aside = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        with aside.open("x", encoding="utf-8") as file:
            file.write(text)
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise


def make_folder(path: Path, *, new: bool = False) -> None:
    """Make a folder, and those that it is in: each as open to others as the one that it is in, whatever this user's umask.
    One that is there is left as it is.

    Raises:
        FileExistsError: something else stands at `path`, or with `new` anything.
    """
    try:
        path.mkdir()
    except FileNotFoundError:
        make_folder(path.parent)
        path.mkdir()
    except FileExistsError:
        if new or not path.is_dir():
            raise
        return
    mode, wanted = path.stat().st_mode, path.parent.stat().st_mode
    if (mode ^ wanted) & 0o777:
        path.chmod(mode & 0o7000 | wanted & 0o777)


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


def present(path: Path) -> Path:
    """The folder at `path`, or the next one above it that is there."""
    return next(folder for folder in (path.resolve(), *path.resolve().parents) if folder.exists())


def free_bytes(path: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not be there yet."""
    return shutil.disk_usage(present(path)).free


def not_written(root: Path, what: str, problem: OSError) -> DistillPruneError:
    """The error of a store that did not take `what`."""
    if not forbidden(problem):
        return system_error(f"{what} could not be written to '{root}'", problem, "another --store", StoreError)
    error = StoreError(
        f"the store '{root}' cannot be written to",
        got=f"{problem.strerror}: {problem.filename or root}",
        fix="another --store, or the permission to use this one",
    )
    error.ends_run = True
    return error


def moved_aside(path: Path, is_kind: Callable[[int], bool]) -> None:
    """Rename what stands at `path`, unless it is this user's own and of the kind whose mode `is_kind`: nothing is written
    through a link, or into what another user has left there.

    Raises:
        StoreError: it cannot be moved.
    """
    try:
        about = path.lstat()
    except FileNotFoundError:
        return
    if is_kind(about.st_mode) and about.st_uid == os.geteuid():
        return
    try:
        path.rename(path.with_name(f"{path.name}.{secrets.token_hex(8)}"))
    except OSError as problem:
        raise StoreError(
            f"'{path}' is a link, or another user's, and cannot be moved", got=problem.strerror, fix="remove it"
        ) from problem


def no_links(root: Path, path: Path) -> None:
    """Refuse to write to `path` below the folder `root` where a link on the way leads elsewhere.

    Raises:
        StoreError: names the link.
    """
    for at in (path, *path.parents):
        if at == root:
            return
        if at.is_symlink():
            raise StoreError(f"'{at}' is a link, and nothing in a store is written through one", fix="remove the link")
