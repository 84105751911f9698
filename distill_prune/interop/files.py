"""Foreign files: read without executing what is in them, written aside and renamed."""

from __future__ import annotations

import contextlib
import io
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from distill_prune.errors import DataError, UserError, system_error
from distill_prune.tree import clone


def one(paths: Sequence[Path], what: str) -> Path:
    """The only path that was given.

    Raises:
        DataError: there are more or none.
    """
    if len(paths) != 1:
        raise DataError(f"{what} is read from one path", got=", ".join(map(str, paths)) or "none")
    return paths[0]


def member(folder: Path, name: str, fix: str | None = None) -> Path:
    """The file `name` of a folder.

    Raises:
        DataError: there is no such folder, or no such file in it.
    """
    if not folder.is_dir():
        raise DataError(f"there is no folder '{folder}'", expected=f"a folder with {name}")
    if not (folder / name).is_file():
        listed = ", ".join(sorted(f.name for f in folder.iterdir())[:20]) or "nothing"
        raise DataError(f"the folder '{folder}' has no {name}", got=listed, fix=fix)
    return folder / name


def packed(value: object) -> bytes:
    """What `torch.save` writes of `value`; equal values give equal bytes.

    A tensor brings all of the memory that it is a view of: clone views first.
    """
    buffer = io.BytesIO()  # the name of a file would get into the file
    torch.save(value, buffer)
    return buffer.getvalue()


def torch_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    """What torch.save writes of the tensors, each with its own memory alone; equal tensors give equal bytes."""
    return packed(clone(tensors))


@contextlib.contextmanager
def aside(path: Path) -> Iterator[Path]:
    """A place to write a file or a folder to, beside `path`, which gets the name when all is written and flushed.

    Raises:
        UserError: something stands at `path`, or it cannot be written.
        RunError: the disk is full or broken. In all cases nothing half written is left.
    """
    _free(path)
    part = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield part
        for file in (part, *part.rglob("*")):
            _flush(file)
        _free(path)
        part.rename(path)
        _flush(path.parent)
    except OSError as problem:
        raise system_error(f"'{path}' cannot be written", problem) from problem
    finally:
        shutil.rmtree(part, ignore_errors=True)
        with contextlib.suppress(OSError):
            part.unlink()


def _free(path: Path) -> None:
    if os.path.lexists(path):
        raise UserError(f"'{path}' exists already", fix="another path: nothing is overwritten")


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def publish_folder(path: Path, files: Iterable[tuple[str, bytes]]) -> list[Path]:
    """Write a new folder of files, by their names in it, whole or not at all; each is made when the one before is written.

    Raises:
        UserError: something stands at `path`, or it cannot be written.
        RunError: the disk is full or broken.
    """
    written: list[Path] = []
    with aside(path) as part:
        for name, content in files:
            (part / name).parent.mkdir(parents=True, exist_ok=True)
            (part / name).write_bytes(content)
            written.append(path / name)
    return written


def publish(path: Path, content: bytes) -> list[Path]:
    """Write one file, whole or not at all.

    Raises:
        UserError: something stands at `path`, or it cannot be written.
        RunError: the disk is full or broken.
    """
    with aside(path) as part:
        part.write_bytes(content)
    return [path]
