"""Names that people give to artifacts: `<store>/tags.json`, an object of keys by name."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, TypeAdapter

from distill_prune.errors import StoreError
from distill_prune.store.disk import replace_json
from distill_prune.store.documents import BadDocument, Hash, read
from distill_prune.store.locks import locked

TAGS = "tags.json"


def is_name(text: str) -> bool:
    """Whether an artifact can have this name."""
    return re.sub("[-_.]", "", text).isalnum()


def _checked(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{text!a} is no name")
    return text


Name = Annotated[str, AfterValidator(_checked)]
_NAMES = TypeAdapter(dict[Name, Hash])


def names(root: Path) -> dict[str, str]:
    """The keys of a store by their names.

    Raises:
        StoreError: the file cannot be read, or does not hold names and keys.
    """
    path = root / TAGS
    try:
        return read(path, _NAMES)
    except FileNotFoundError:
        return {}
    except (BadDocument, OSError) as problem:
        raise StoreError(
            f"'{path}' cannot be used",
            got=problem,
            expected="a JSON object of names and whole keys",
            fix="repair or delete it: it holds nothing but the names that `tag` gave",
        ) from problem


@contextlib.contextmanager
def renaming(root: Path) -> Iterator[dict[str, str]]:
    """The names, locked and to be changed; changes are written at the end of the block.

    Raises:
        StoreError: the file cannot be used.
        OSError: it cannot be written.
    """
    with locked(root / ".locks" / "tags", wait=True):
        before = names(root)
        after = dict(before)
        yield after
        if after != before:
            replace_json(root / TAGS, after)
