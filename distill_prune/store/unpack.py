"""Taking artifacts out of a file that `pack` wrote, or that somebody says it wrote.

Only what `pack` writes is unpacked: plain files under expected names, each listed in the index, once, with its size and
sha256, and manifests that belong to their keys. All of it is checked before anything is written. That says that the file is
whole, not who made it: the numbers of a stranger's artifacts are as good as the stranger.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from pydantic import ValidationError

from distill_prune.arithmetic import ceil_div
from distill_prune.errors import DamagedArtifact, RunError, UserError, system_error
from distill_prune.limits import DOCUMENT_BYTES, MEMBERS
from distill_prune.outside import opened
from distill_prune.store.archive import INDEX, PIPELINE, Index, Packed, aside
from distill_prune.store.disk import make_folder, no_links, not_written
from distill_prune.store.documents import parse, reason
from distill_prune.store.manifest import MANIFEST, NUMBERS, TENSORS, Manifest
from distill_prune.store.names import renaming
from distill_prune.store.store import STAGES, Store, belongs

_MEMBER = re.compile(
    rf"{INDEX}|(?:{'|'.join(STAGES)})/[0-9a-f]{{64}}/(?:{MANIFEST}|{NUMBERS}|{TENSORS})"
    rf"|{PIPELINE}|report(?:/[A-Za-z0-9_-][A-Za-z0-9._-]*)+"
)
_BLOCK = tarfile.BLOCKSIZE


@dataclass(frozen=True)
class Archive:
    """A checked archive: its index, and where in the file each member's bytes begin."""

    path: Path
    index: Index
    starts: Mapping[str, int]


@dataclass
class Unpacked:
    """What became of an archive's artifacts and names.

    Keys are `written`, `present` (in the store before) or `busy` (another process works on them). `names` were given;
    `taken` are names of other keys.
    """

    written: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    busy: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    pipeline: Path | None = None


class _Refused(Exception):
    """An archive is not what `pack` writes; the message says why."""


def examine(path: Path) -> Archive:
    """Check all of an archive; nothing is written.

    Raises:
        UserError: it cannot be read, or is not what `pack` writes, whole.
    """
    try:
        with opened(path) as file:
            members = _members(file)
            index = _index(file, members)
            _agree(index, members)
            for name, known in index.members().items():
                if _digest(file, *members[name]) != known.sha256:
                    raise _Refused(f"'{name}' has the wrong sha256")
            for artifact in index.artifacts:
                place = f"{artifact.stage}/{artifact.key}"
                _vouched(artifact, _content(file, members, f"{place}/{MANIFEST}"))
                if not isinstance(parse(_content(file, members, f"{place}/{NUMBERS}")), dict):
                    raise _Refused(f"'{place}/{NUMBERS}' is not a JSON object")
    except OSError as problem:
        raise system_error(f"'{path}' cannot be read", problem) from problem
    except (_Refused, DamagedArtifact, tarfile.TarError, ValueError) as problem:
        raise UserError(
            f"'{path}' cannot be unpacked; nothing was written",
            got=_why(problem),
            expected="a whole file that `distill-prune pack` wrote",
            fix="fetch or pack it again",
        ) from problem
    return Archive(path, index, {name: start for name, (start, _) in members.items()})


def _why(problem: Exception) -> str:
    if isinstance(problem, ValidationError):
        return f"{INDEX}: {reason(problem)}"
    if isinstance(problem, DamagedArtifact):
        return f"{problem.stage}/{problem.key[:12]}: {problem.reason}"
    return str(problem) or type(problem).__name__


def _members(file: IO[bytes]) -> dict[str, tuple[int, int]]:
    """Where each member begins, and its size. One plain header a member: no links, devices, sparse files or extensions."""
    end, at = file.seek(0, os.SEEK_END), 0
    members: dict[str, tuple[int, int]] = {}
    while True:
        file.seek(at)
        block = file.read(_BLOCK)
        if not block.strip(b"\0"):
            break
        header = tarfile.TarInfo.frombuf(block, "ascii", "backslashreplace")
        start = at + _BLOCK
        if header.type != tarfile.REGTYPE:
            raise _Refused(f"{header.name!r} is not a plain file")
        if not _MEMBER.fullmatch(header.name):
            raise _Refused(f"{header.name!r} is no name of a file in an archive")
        if len(members) == MEMBERS:
            raise _Refused(f"more than {MEMBERS:,} members")
        if header.name in members:
            raise _Refused(f"{header.name!r} stands twice")
        if not 0 <= header.size <= end - start:
            raise _Refused(f"{header.name!r} is {header.size} bytes, of which {max(end - start, 0)} are there")
        members[header.name] = start, header.size
        file.seek(start + header.size)
        at = start + ceil_div(header.size, _BLOCK) * _BLOCK
        if file.read(at - start - header.size).strip(b"\0"):
            raise _Refused(f"something stands behind the end of {header.name!r}")
    file.seek(at)
    if end - at > tarfile.RECORDSIZE + 2 * _BLOCK or file.read().strip(b"\0"):
        raise _Refused("something stands behind the end")
    return members


def _content(file: IO[bytes], members: Mapping[str, tuple[int, int]], name: str) -> bytes:
    start, size = members[name]
    if size > DOCUMENT_BYTES:
        raise _Refused(f"'{name}' is {size} bytes large, more than {DOCUMENT_BYTES}")
    file.seek(start)
    return file.read(size)


def _index(file: IO[bytes], members: Mapping[str, tuple[int, int]]) -> Index:
    if next(iter(members), "") != INDEX:
        raise _Refused(f"it does not begin with {INDEX}")
    return Index.model_validate_json(_content(file, members, INDEX))


def _agree(index: Index, members: Mapping[str, tuple[int, int]]) -> None:
    """The index lists every member, with its size, and nothing else; every artifact has a manifest and numbers."""
    listed = {name: f.size for name, f in index.members().items()}
    there = {name: size for name, (_, size) in members.items() if name != INDEX}
    if wrong := sorted(n for n in listed.keys() | there.keys() if listed.get(n) != there.get(n)):
        raise _Refused(f"'{wrong[0]}' is not as the index says")
    if lacking := [a for a in index.artifacts if not {MANIFEST, NUMBERS} <= a.files.keys()]:
        raise _Refused(f"{lacking[0].stage}/{lacking[0].key[:12]} lacks its manifest or its numbers")
    if any(name.split("/")[0] in STAGES for name in index.files):
        raise _Refused("the index lists an artifact's file apart from it")
    if len({a.key for a in index.artifacts}) < len(index.artifacts):
        raise _Refused("a key stands twice in the index")


def _vouched(artifact: Packed, content: bytes) -> None:
    """The manifest belongs to its key, and says of its files what the index says."""
    place = f"{artifact.stage}/{artifact.key[:12]}"
    manifest = Manifest.parse(content, artifact.stage, artifact.key)
    if not belongs(manifest, artifact.key) or manifest.stage != artifact.stage:
        raise _Refused(f"the manifest of {place} does not belong to its key")
    if manifest.files != {name: file for name, file in artifact.files.items() if name != MANIFEST}:
        raise _Refused(f"the manifest of {place} names other files than the index")
    if manifest.label != artifact.label:
        raise _Refused(f"the manifest of {place} has another label than the index")
    if not (manifest.label + manifest.created + manifest.device).isprintable():
        raise _Refused(f"the manifest of {place} holds characters that cannot be printed")


def _digest(file: IO[bytes], start: int, size: int, into: IO[bytes] | None = None) -> str:
    """sha256 of a part of the file, which is copied on the way where asked for."""
    sha, left = hashlib.sha256(), size
    file.seek(start)
    while left and (block := file.read(min(left, 2**20))):
        sha.update(block)
        left -= len(block)
        if into is not None:
            into.write(block)
    return sha.hexdigest()


def unpack(archive: Archive, store: Store) -> Unpacked:
    """Publish what the store does not have; give names that are free; lay a study's pipeline beside its report.

    Raises:
        StoreError: the store cannot be written to.
        RunError: the disk has less room than the artifacts take, or became full; or the archive changed meanwhile. Every
            artifact is there whole or not at all.
    """
    done, index = Unpacked(), archive.index
    new = [a for a in index.artifacts if not store.has(a.stage, a.key)]
    needs, free = sum(f.size for a in new for f in a.files.values()), shutil.disk_usage(store.root).free
    if needs > free:
        raise RunError(
            f"there is no room for the artifacts of '{archive.path}' in the store '{store.root}'",
            got=f"{free / 1e6:.1f} MB free",
            expected=f"{needs / 1e6:.1f} MB",
            fix="another --store, or `distill-prune gc`",
        )
    with opened(archive.path) as file:
        for artifact in index.artifacts:
            what = _publish(file, archive, artifact, store)
            {"written": done.written, "present": done.present, "busy": done.busy}[what].append(artifact.key)
        _name(index, store, done)
        if index.name and (known := index.files.get(PIPELINE)):
            done.pipeline = store.root / "reports" / index.name / PIPELINE
            if not done.pipeline.exists():
                no_links(store.root, done.pipeline.parent)
                make_folder(done.pipeline.parent)
                with aside(done.pipeline) as out:
                    _digest(file, archive.starts[PIPELINE], known.size, out)
    return done


def _publish(file: IO[bytes], archive: Archive, artifact: Packed, store: Store) -> str:
    """`written`, `present` or `busy`. A damaged artifact of the same key is moved aside first."""
    stage, key = artifact.stage, artifact.key
    if store.sound(stage, key):
        return "present"
    with store.lock(key) as mine:
        if not mine:
            return "busy"
        if store.sound(stage, key):
            return "present"
        new = store.begin(key) / "publish"
        try:
            shutil.rmtree(new, ignore_errors=True)
            make_folder(new, new=True)
            for name, known in artifact.files.items():
                with (new / name).open("xb") as out:
                    sha = _digest(file, archive.starts[f"{stage}/{key}/{name}"], known.size, out)
                    out.flush()
                    os.fsync(out.fileno())
                if sha != known.sha256:
                    raise RunError(f"'{archive.path}' changed while it was being unpacked", fix="unpack it again")
            store.publish(stage, key, new)
        except OSError as problem:
            raise not_written(store.root, f"{stage} {key[:12]}", problem) from problem
        finally:
            shutil.rmtree(new, ignore_errors=True)
        shutil.rmtree(store.work(key), ignore_errors=True)
    return "written"


def _name(index: Index, store: Store, done: Unpacked) -> None:
    """Give the names of artifacts that are in the store. A name of another key is left alone."""
    wanted = {name: a.key for a in index.artifacts if a.key not in done.busy for name in a.names}
    tags = store.tags()
    if not wanted.keys() - tags.keys():  # and a store that cannot be written to need not be
        done.taken = sorted(n for n, key in wanted.items() if tags[n] != key)
        return
    with renaming(store.root) as tags:
        done.taken = sorted(n for n, key in wanted.items() if tags.get(n, key) != key)
        done.names = sorted(wanted.keys() - tags.keys())
        tags |= {name: wanted[name] for name in done.names}
