"""Artifacts as a stranger may pack them: whole by every hash, and of any types."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import tiny
from safetensors.torch import load_file, save_file
from torch import Tensor

from distill_prune.store.disk import file_digest
from distill_prune.store.manifest import MANIFEST, NUMBERS, TENSORS
from distill_prune.store.store import Ref, Store


def vouch(store: Store, ref: Ref) -> None:
    """Write the manifest for the files that are there."""
    folder = store.path(ref.stage, ref.key)
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in manifest["files"]:
        manifest["files"][name] = {"sha256": file_digest(folder / name), "size": (folder / name).stat().st_size}
    (folder / MANIFEST).write_bytes(tiny.resealed(manifest))


def renumber(store: Store, ref: Ref, change: Callable[[dict[str, Any]], object]) -> None:
    """Change an artifact's numbers, and vouch for them."""
    path = store.path(ref.stage, ref.key) / NUMBERS
    numbers = json.loads(path.read_text())
    change(numbers)
    path.write_text(json.dumps(numbers))
    vouch(store, ref)


def retensor(store: Store, ref: Ref, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change an artifact's tensors, and vouch for them."""
    path = store.path(ref.stage, ref.key) / TENSORS
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file(tensors, path)
    vouch(store, ref)


def redescribe(store: Store, ref: Ref, **changes: object) -> None:
    """Change fields of an artifact's manifest, and vouch for them."""
    path = store.path(ref.stage, ref.key) / MANIFEST
    path.write_bytes(tiny.resealed({**json.loads(path.read_text()), **changes}))
