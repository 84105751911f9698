"""What a shell offers at the TAB key for the arguments of commands. A mistake here offers nothing: the command will say it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from distill_prune.errors import DistillPruneError

STAGES = ("data", "experts", "distill", "prune", "retrain", "compare")


def pipelines(incomplete: str) -> Iterator[str]:
    """Shipped pipelines, and the folders and YAML files that the word may become the path of."""
    from distill_prune.plan.files import shipped_files

    yield from (path.name for path in shipped_files() if path.name.startswith(incomplete))
    folder, _, beginning = incomplete.rpartition("/")
    with contextlib.suppress(OSError):
        for path in sorted(Path(f"{folder}/" if "/" in incomplete else ".").iterdir()):
            if path.name.startswith(beginning) and (beginning or path.name[0] != "."):
                name = f"{folder}/{path.name}" if "/" in incomplete else path.name
                if path.is_dir():
                    yield f"{name}/"
                elif path.suffix in (".yaml", ".yml"):
                    yield name


def stages(incomplete: str) -> list[str]:
    return [stage for stage in STAGES if stage.startswith(incomplete)]


def references(incomplete: str) -> Iterator[str]:
    """The names that `tag` gave, in the usual store."""
    from distill_prune.store.names import names

    with contextlib.suppress(DistillPruneError, OSError):
        known = names(Path(os.environ.get("DISTILL_PRUNE_STORE") or "artifacts").expanduser())
        yield from (name for name in sorted(known) if name.startswith(incomplete))


def executors(incomplete: str) -> list[str]:
    return [name for name in ("serial", "processes", "ray") if name.startswith(incomplete)]
