"""What a shell offers at the TAB key for the arguments of commands; it takes those that begin as the word does.

A mistake here offers nothing: the command will say it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from distill_prune.errors import DistillPruneError
from distill_prune.run.devices import EXECUTORS


def pipelines(incomplete: str) -> Iterator[str]:
    """Shipped pipelines, and the folders and YAML files that the word may become the path of."""
    from distill_prune.plan.files import shipped_files

    yield from (path.name for path in shipped_files())
    folder, slash, beginning = incomplete.rpartition("/")
    with contextlib.suppress(OSError):
        for path in sorted(Path(folder + slash or ".").iterdir()):
            if beginning or path.name[0] != ".":
                if path.is_dir():
                    yield f"{folder}{slash}{path.name}/"
                elif path.suffix in (".yaml", ".yml"):
                    yield f"{folder}{slash}{path.name}"


def stages() -> list[str]:
    """The stages, in their order."""
    from distill_prune.store.store import STAGES

    return [*STAGES]


def references() -> Iterator[str]:
    """The names that `tag` gave, in the usual store."""
    from distill_prune.store.names import names
    from distill_prune.store.place import place_of

    with contextlib.suppress(DistillPruneError, OSError):
        yield from sorted(names(place_of()))


def executors() -> list[str]:
    """Where artifacts can be made."""
    return [*EXECUTORS]
