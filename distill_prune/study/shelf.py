"""Which study a command is at: its name in the store, the paths of its artifacts, and the folder of its report."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from distill_prune.errors import RunError, StoreError
from distill_prune.plan.files import origin, override
from distill_prune.plan.paths import paths
from distill_prune.settings import Json, canonical_json
from distill_prune.store.store import Store
from distill_prune.store.studies import REPORTS, Origin, name_of, part, remember

if TYPE_CHECKING:
    from distill_prune.plan.nodes import Graph


def origin_of(pipeline: str, sets: Sequence[str], store: Store) -> Origin:
    """What tells the study of a pipeline file with `--set` from others."""
    values: dict[str, Json] = {}
    override(values, sets)
    return Origin(origin(pipeline, store.root), canonical_json(values) if sets else "", tuple(sets))


def shelve(store: Store, base: str, of: Origin, graph: Graph, *, reports: bool) -> str:
    """Give the study's artifacts their paths; its name in the store. `reports`: whether its report goes into the store.

    A store that is not there, or cannot be written to, is read without: the name is the one that the study would have.
    """
    if store.root.is_dir():
        with contextlib.suppress(StoreError, RunError):
            return remember(store.root, base, of, paths(graph), reports=reports)
    return name_of(store.root, base, of, reports=reports)


def full_paths(study: str, graph: Graph) -> dict[str, list[str]]:
    """The paths of every key of a study, its name before them."""
    by_key: dict[str, list[str]] = {}
    for path, key in paths(graph).items():
        by_key.setdefault(key, []).append(f"{part(study)}/{path}")
    return by_key


def folder_of(store: Store, name: str) -> Path:
    """Where the report of a study goes."""
    return store.root / REPORTS / name
