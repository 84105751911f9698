"""Where the store is, where nobody says so."""

from __future__ import annotations

import os
from pathlib import Path

from distill_prune.errors import UserError
from distill_prune.store.store import Store

VARIABLE = "DISTILL_PRUNE_STORE"


def place_of(folder: Path | str | None = None) -> Path:
    """Where the store is: `folder`, else `$DISTILL_PRUNE_STORE`, else `./artifacts`.

    Raises:
        UserError: the path begins with a home folder that nobody knows.
    """
    place = Path(folder or os.environ.get(VARIABLE) or "artifacts")
    try:
        return place.expanduser()
    except RuntimeError as problem:
        raise UserError(f"the home folder of the store '{place}' is not known", got=problem, fix="a whole path") from None


def store_at(folder: Path | str | None = None, *, create: bool = False) -> Store:
    """The store at `place_of(folder)`. With `create`, a missing one is made.

    Raises:
        StoreError: the folder cannot be made, or is a file.
        UserError: the path begins with a home folder that nobody knows.
    """
    return Store(place_of(folder), create=create)
