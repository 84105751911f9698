"""One file that holds artifacts of a store: a synthetic set to be used elsewhere, or a whole study.

A plain tar that any tool opens, and the same bytes for the same content: members in a fixed order, without times and owners.

    index.json                  what the file holds: keys, names, sizes, sha256; always the first member
    <stage>/<key>/<file>        artifacts, as they lie in a store
    pipeline.yaml, report/...   of a study: its pipeline with everything resolved, and its report

`unpack` reads it again.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import re
import secrets
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Literal

from pydantic import Field, ValidationError

from distill_prune.errors import DamagedArtifact, UserError, system_error
from distill_prune.settings import Settings
from distill_prune.store.documents import Hash, reason
from distill_prune.store.housekeeping import Lineage
from distill_prune.store.manifest import MANIFEST, File
from distill_prune.store.names import Name
from distill_prune.store.store import STAGES, Ref, Store

INDEX, PIPELINE = "index.json", "pipeline.yaml"
_STUDY = r"^(\w[\w .+=@-]{0,99})?$"


class Packed(Settings):
    """One artifact of an archive."""

    stage: Literal["data", "experts", "distill", "prune", "retrain", "compare"]
    key: Hash
    label: str
    names: tuple[Name, ...]
    files: dict[Literal["manifest.json", "numbers.json", "tensors.safetensors"], File]


class Index(Settings):
    """What an archive holds. `name` is a study's; `missing` are artifacts of it that the store did not have."""

    format: Literal["distill-prune archive 1"]
    name: str = Field("", pattern=_STUDY)
    artifacts: tuple[Packed, ...]
    files: dict[str, File] = Field(default_factory=dict)
    missing: tuple[str, ...] = ()

    def members(self) -> dict[str, File]:
        """Every file but the index by its path in the archive, in order."""
        members = {f"{a.stage}/{a.key}/{name}": file for a in self.artifacts for name, file in a.files.items()}
        return members | self.files


def needed(store: Store, ref: Ref, *, with_inputs: bool) -> tuple[list[Ref], list[str]]:
    """(the artifacts to pack for `ref`, the keys of those that the store lacks).

    With inputs, these are the artifact and all its ancestors; else the artifact, and of a ticket the level 0 that has its
    weights.
    """
    inputs = store.check(ref.stage, ref.key, sizes_only=True).inputs
    if with_inputs:
        lineage = Lineage(store)
        behind = lineage.behind([ref.key])
        return [lineage.refs[k] for k in behind & lineage.refs.keys()], sorted(behind - lineage.refs.keys())
    if ref.stage != "prune" or "dense" not in inputs:
        return [ref], []
    dense = Ref("prune", inputs["dense"])
    return ([ref, dense], []) if store.exists(dense.stage, dense.key) else ([ref], [dense.key])


def pack(
    store: Store,
    refs: Collection[Ref],
    target: Path,
    *,
    name: str = "",
    extra: Mapping[str, bytes] | None = None,
    missing: Sequence[str] = (),
) -> Index:
    """Write the artifacts, and `extra` files by their path in the archive, into the file `target`.

    Raises:
        DamagedArtifact: one of them is not what was written.
        UserError: `target` cannot be written.
        RunError: the disk is full or broken.
    """
    extra = dict(sorted((extra or {}).items()))
    names: dict[str, list[str]] = {}
    for given, key in sorted(store.tags().items()):
        names.setdefault(key, []).append(given)
    ordered = sorted(set(refs), key=lambda r: (STAGES.index(r.stage), r.key))
    artifacts = [_packed(store, ref, names.get(ref.key, [])) for ref in ordered]
    index = Index(
        format="distill-prune archive 1",
        name=name if re.fullmatch(_STUDY, name) else "study",
        artifacts=tuple(artifacts),
        files={n: _file(content) for n, content in extra.items()},
        missing=tuple(missing),
    )
    with aside(target) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        _add(tar, INDEX, (json.dumps(index.model_dump(mode="json"), indent=1) + "\n").encode())
        for member, known in index.members().items():
            if member in extra:
                _add(tar, member, extra[member])
                continue
            with (store.root / member).open("rb") as content:
                tar.addfile(_header(member, known.size), content)
    return index


def _packed(store: Store, ref: Ref, names: Sequence[str]) -> Packed:
    manifest = store.check(ref.stage, ref.key)
    content = (store.path(ref.stage, ref.key) / MANIFEST).read_bytes()
    try:
        return Packed(
            stage=ref.stage,
            key=ref.key,
            label=manifest.label,
            names=tuple(names),
            files={MANIFEST: _file(content), **dict(sorted(manifest.files.items()))},
        )
    except ValidationError as problem:
        raise DamagedArtifact(ref.stage, ref.key, f"manifest: {reason(problem)}") from problem


def _file(content: bytes) -> File:
    return File(size=len(content), sha256=hashlib.sha256(content).hexdigest())


def _header(name: str, size: int) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.size = size
    return header


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    tar.addfile(_header(name, len(content)), io.BytesIO(content))


@contextlib.contextmanager
def aside(target: Path) -> Iterator[IO[bytes]]:
    """A temporary file beside `target`. It is flushed and renamed at the end, and deleted on an error."""
    path = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    try:
        if target.is_dir():
            raise UserError(f"'{target}' is a folder", expected="the name of a file", fix="name a file in it")
        with path.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        path.replace(target)
    except OSError as problem:
        raise system_error(f"'{target}' cannot be written", problem) from problem
    finally:
        with contextlib.suppress(OSError):  # not there, or cannot be: the first error says so
            path.unlink()
