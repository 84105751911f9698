"""What live runs need of a store, so that nobody removes it meanwhile.

A run lists its keys in `.runs/<name>` and holds the lock of that name. The lock ends with its process, and with it the lease.
"""

from __future__ import annotations

import contextlib
import json
import secrets
from collections.abc import Collection, Iterator
from pathlib import Path

from distill_prune.store.disk import replace_json
from distill_prune.store.store import Store


def busy(store: Store, key: str) -> bool:
    """Whether another process has the key's lock now. Leaves no lock file behind."""
    if not (store.root / ".locks" / key).exists():
        return False
    with store.lock(key) as mine:
        return not mine


@contextlib.contextmanager
def lease(store: Store, keys: Collection[str]) -> Iterator[None]:
    """Keep artifacts from removal by other processes while the block runs, those that it makes among them."""
    name = f"run-{secrets.token_hex(8)}"
    path = store.root / ".runs" / name
    with store.lock(name):
        path.parent.mkdir(exist_ok=True)
        replace_json(path, sorted(keys))
        try:
            yield
        finally:
            _forget(store, path)


def leased(store: Store) -> set[str]:
    """The keys that live runs need. What dead runs have left of their leases is removed."""
    keys: set[str] = set()
    for path in (store.root / ".runs").glob("run-*"):  # not one that is being written
        if not busy(store, path.name):
            _forget(store, path)
            continue
        with contextlib.suppress(OSError, ValueError):
            keys |= set(json.loads(path.read_bytes()))
    return keys


def _forget(store: Store, path: Path) -> None:
    path.unlink(missing_ok=True)
    (store.root / ".locks" / path.name).unlink(missing_ok=True)
