"""Where the store is, where nobody says so."""

from __future__ import annotations

import os
from pathlib import Path

from distill_prune.errors import UserError
from distill_prune.store.store import Store

VARIABLE = "DISTILL_PRUNE_STORE"


def store_at(folder: Path | str | None = None, *, create: bool = False) -> Store:
    """The store in `folder`, else in `$DISTILL_PRUNE_STORE`, else in `./artifacts`. With `create`, a missing one is made.

    Raises:
        StoreError: the folder cannot be made, or is a file.
        UserError: the path begins with a home folder that nobody knows.
    """
    place = Path(folder or os.environ.get(VARIABLE) or "artifacts")
    try:
        return Store(place.expanduser(), create=create)
    except RuntimeError as problem:
        raise UserError(f"the home folder of the store '{place}' is not known", got=problem, fix="a whole path") from None
