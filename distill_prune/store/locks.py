"""Kernel locks: a file for each in `<store>/.locks/`, free as soon as its owner is dead.

A lock file says nothing and may be another user's. Where it cannot be written, it is opened for reading: flock asks for no
more on a local disk (NFS asks for the right to write).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from distill_prune.errors import StoreError, forbidden
from distill_prune.store.disk import make_folder

_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


@contextlib.contextmanager
def locked(path: Path, *, wait: bool = False) -> Iterator[bool]:
    """Lock the file and yield True. Where another has the lock, wait for it, or else yield False at once.

    Raises:
        StoreError: something that is no lock file stands there, or nobody but its owner may read it.
        OSError: it cannot be made, or the file system has no locks.
    """
    handle = _locked(path, wait)
    try:
        yield handle is not None
    finally:
        if handle is not None:
            fcntl.flock(handle, fcntl.LOCK_UN)  # for copies in forked processes, too
            os.close(handle)


def _locked(path: Path, wait: bool) -> int | None:
    while True:
        handle = _opened(path)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is(path, handle):
                return handle
        except BlockingIOError:
            os.close(handle)
            return None
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its owner removed it meanwhile: who comes now would lock another file


def _is(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _opened(path: Path) -> int:
    while True:
        with contextlib.suppress(FileNotFoundError):
            return _there(path)
        make_folder(path.parent)
        with contextlib.suppress(FileExistsError):
            return _made(path)


def _there(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | _FLAGS)
    except OSError as problem:
        if forbidden(problem):
            return os.open(path, os.O_RDONLY | _FLAGS)
        if problem.errno in (errno.ELOOP, errno.EISDIR, errno.ENXIO):
            raise StoreError(f"'{path}' is no lock file", got=problem.strerror, fix="remove it") from problem
        raise


def _made(path: Path) -> int:
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
    with contextlib.suppress(PermissionError):  # as open to others as its folder, whatever its maker's umask is
        os.fchmod(handle, path.parent.stat().st_mode & 0o666)
    return handle
