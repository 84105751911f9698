"""What live runs need of a store, so that nobody removes it meanwhile.

A run lists its keys in `.runs/<name>` and holds the lock of that name. The lock ends with its process, and with it the lease.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path

from pydantic import TypeAdapter

from distill_prune.errors import RunError, StoreError
from distill_prune.store.disk import make_folder, no_links, not_written, replace_json
from distill_prune.store.documents import BadDocument, Hash, read
from distill_prune.store.store import Store

_KEYS = TypeAdapter(list[Hash])


def busy(store: Store, key: str) -> bool:
    """Whether another process has the key's lock now. Leaves no lock file behind."""
    if not (store.root / ".locks" / key).exists():
        return False
    with store.lock(key) as mine:
        return not mine


@contextlib.contextmanager
def kept(store: Store, keys: Collection[str]) -> Iterator[None]:
    """The same as `lease` for a block that only reads: a store that cannot be written to is read without."""
    with contextlib.ExitStack() as leases:
        with contextlib.suppress(StoreError, RunError):
            leases.enter_context(lease(store, keys))
        yield


@contextlib.contextmanager
def lease(store: Store, keys: Collection[str]) -> Iterator[str]:
    """Keep artifacts from removal by other processes while the block runs, those that it makes among them; the lease's name.

    Raises:
        StoreError: the store cannot be written to.
        RunError: the disk is full.
    """
    name = f"run-{secrets.token_hex(8)}"
    path = store.root / ".runs" / name
    with store.lock(name):
        try:
            no_links(store.root, path.parent)
            make_folder(path.parent)
            replace_json(path, sorted(keys))
        except OSError as problem:
            raise not_written(store.root, "what the run needs", problem) from problem
        try:
            yield name
        finally:
            _forget(store, path)


def leased(store: Store) -> set[str]:
    """The keys that live runs need. What dead runs have left of their leases is removed, where it can be.

    Raises:
        StoreError: what a live run needs cannot be read.
    """
    keys: set[str] = set()
    for path in (store.root / ".runs").glob("run-*"):  # not one that is being written
        if not busy(store, path.name):
            with contextlib.suppress(OSError):
                _forget(store, path)
            continue
        with contextlib.suppress(FileNotFoundError):  # it has ended meanwhile
            keys |= _keys(path)
    return keys


def _keys(path: Path) -> set[str]:
    try:
        keys = read(path, _KEYS)
    except (BadDocument, PermissionError) as problem:
        raise StoreError(
            f"'{path}' does not say what a live run needs", got=problem, fix="wait until that run has ended, or end it"
        ) from problem
    return set(keys)


def _forget(store: Store, path: Path) -> None:
    path.unlink(missing_ok=True)
    (store.root / ".locks" / path.name).unlink(missing_ok=True)
