"""The store: artifacts by stage and key, whole or not at all, readable by a stranger, nothing in them can execute.

`<store>/<stage>/<key>/` holds `manifest.json`, `tensors.safetensors` and `numbers.json`. An artifact is written aside in
`<store>/.work/<key>/`, flushed, then renamed; it is never overwritten. One kernel lock a key stands in `<store>/.locks/`:
it is free as soon as its owner is dead. Reading checks the sha256 of every file (of a trajectory once a worker). A
damaged artifact is moved to `<store>/.damaged/`. Compiled code, which is no artifact, lies in `<store>/.compiled/`.

A store that cannot be written to serves all that only reads: a folder is made when something is first written into it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import TypeAdapter

from distill_prune.errors import DamagedArtifact, StoreError, forbidden, system_error
from distill_prune.settings import digest
from distill_prune.store import documents
from distill_prune.store.damage import as_damage, compare
from distill_prune.store.disk import flush_folder, make_folder, moved_aside, no_links, not_written
from distill_prune.store.locks import locked
from distill_prune.store.manifest import MANIFEST, NUMBERS, TENSORS, Manifest, Provenance
from distill_prune.store.names import is_name, names, renaming
from distill_prune.store.studies import key_at, unmatched

if TYPE_CHECKING:
    from distill_prune.artifacts import Parts, Trajectory

STAGES = ("data", "experts", "distill", "prune", "retrain", "compare")
_NUMBERS: TypeAdapter[dict[str, Any]] = TypeAdapter(dict[str, Any])

Noun = TypeVar("Noun")


def identity(stage: str, version: int, settings: object, inputs: Mapping[str, str]) -> str:
    """The key: sha256 over the canonical JSON of stage, VERSION, settings and input keys, and nothing else."""
    return digest({"stage": stage, "version": version, "settings": settings, "inputs": dict(inputs)})


def belongs(manifest: Provenance, key: str) -> bool:
    """Whether `key` is the manifest's, and what its stage, version, settings and inputs hash to.

    Raises:
        ValueError: the settings hold NaN or infinity.
    """
    return manifest.key == key == identity(manifest.stage, manifest.version, manifest.settings, manifest.inputs)


@dataclass(frozen=True)
class Ref:
    """One artifact of a store."""

    stage: str
    key: str


class Store:
    """The artifacts below one folder. With `create`, a folder that is not there is made.

    Raises:
        StoreError: the folder cannot be made, or is a file.
        RunError: with `create`, the disk is full or broken.
    """

    def __init__(self, root: Path | str, *, create: bool = False) -> None:
        self.root = Path(root)
        try:
            os.fspath(self.root).encode()
        except UnicodeEncodeError as problem:
            raise StoreError(f"the store's path {str(root)!a} is not UTF-8", fix="another --store") from problem
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"the store '{self.root}' is a file", expected="a folder", fix="another --store")
        if create and not self.root.exists():
            try:
                for name in (*STAGES, ".work", ".locks"):
                    (self.root / name).mkdir(parents=True, exist_ok=True)
            except OSError as problem:
                place = "another --store, or $DISTILL_PRUNE_STORE"
                raise system_error(f"the store '{self.root}' cannot be made", problem, place, StoreError) from problem

    def require(self) -> None:
        """Refuse to write to a store that nobody has made; reading one finds nothing.

        Raises:
            StoreError: the folder is not there.
        """
        if not self.root.is_dir():
            raise StoreError(f"the store '{self.root}' is not there", fix="Store(path, create=True), or the path of a store")

    def path(self, stage: str, key: str) -> Path:
        return self.root / stage / key

    def work(self, key: str) -> Path:
        """The folder of the unfinished work on `key`."""
        return self.root / ".work" / key

    @property
    def compiled(self) -> Path:
        """The folder of compiled code. It may be removed while nothing runs: the next run compiles again."""
        return self.root / ".compiled"

    # -- looking

    def has(self, stage: str, key: str) -> bool:
        """Whether the artifact is there, every file of its manifest with its right size.

        Raises:
            UnreadableArtifact: it is another user's, who has not shared it.
        """
        folder = self.path(stage, key)
        try:
            return all((folder / n).stat().st_size == f.size for n, f in self.manifest(stage, key).files.items())
        except (OSError, DamagedArtifact):
            return False

    def sound(self, stage: str, key: str) -> bool:
        """Whether the artifact is there, every file of its manifest with its right sha256; raises as `has` does."""
        try:
            self.check(stage, key)
        except DamagedArtifact:
            return False
        return True

    def exists(self, stage: str, key: str) -> bool:
        """Whether the key has a folder, whole or damaged."""
        return self.path(stage, key).exists()

    def manifest(self, stage: str, key: str) -> Manifest:
        """The artifact's manifest.

        Raises:
            DamagedArtifact: it cannot be read, or is not what was written.
            UnreadableArtifact: it is another user's, who has not shared it.
        """
        with as_damage(stage, key, "manifest"):
            content = documents.content(self.path(stage, key) / MANIFEST)
        return Manifest.parse(content, stage, key)

    def check(self, stage: str, key: str, *, sizes_only: bool = False) -> Manifest:
        """The manifest, after comparing every file with it; `sizes_only` spares the hash of large tensors.

        Raises:
            DamagedArtifact: a file is missing or one too many, its size or sha256 differs, or the manifest is another key's.
            UnreadableArtifact: it is another user's, who has not shared it.
        """
        manifest = self.manifest(stage, key)
        try:
            its_own = belongs(manifest, key) and manifest.stage == stage
        except ValueError:
            its_own = False
        if not its_own:
            raise DamagedArtifact(stage, key, "the manifest does not belong to the key")
        compare(self.path(stage, key), manifest, sizes_only=sizes_only)
        return manifest

    def keys(self, stage: str) -> list[str]:
        folder = self.root / stage
        return sorted(p.name for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []

    def all(self) -> Iterator[Ref]:
        for stage in STAGES:
            for key in self.keys(stage):
                yield Ref(stage, key)

    # -- reading

    def read(self, stage: str, key: str) -> Parts:
        """The artifact's tensors, in fresh memory, and numbers, checked.

        Raises:
            DamagedArtifact: the files are not what was written.
        """
        from distill_prune.artifacts import Parts
        from distill_prune.store.tensors import load

        files, folder = self.check(stage, key).files, self.path(stage, key)
        with as_damage(stage, key, TENSORS):
            tensors = load(folder / TENSORS) if TENSORS in files else {}
        with as_damage(stage, key, NUMBERS):
            numbers = documents.read(folder / NUMBERS, _NUMBERS)
        return Parts(tensors, numbers)

    def noun(self, stage: str, key: str, of: Callable[[Parts], Noun]) -> Noun:
        """What `of` makes of the artifact.

        Raises:
            DamagedArtifact: the files are not what was written, or are not what `of` takes.
        """
        parts = self.read(stage, key)
        with as_damage(stage, key, "content"):
            return of(parts)

    def numbers(self, stage: str, key: str) -> dict[str, Any]:
        """The artifact's numbers alone, checked."""
        self.check(stage, key)
        with as_damage(stage, key, NUMBERS):
            return documents.read(self.path(stage, key) / NUMBERS, _NUMBERS)

    def trajectory(self, key: str, *, sizes_only: bool = False) -> Trajectory:
        """An expert's trajectory whose checkpoints are read from the file one row at a time; `sizes_only` spares the hash of
        them, for who has checked it or reads none.

        Raises:
            DamagedArtifact: the files are not what was written.
        """
        from distill_prune.artifacts import Parts, Trajectory
        from distill_prune.store.tensors import FileRows

        self.check("experts", key, sizes_only=sizes_only)
        folder = self.path("experts", key)
        with as_damage("experts", key, "content"):
            numbers = documents.read(folder / NUMBERS, _NUMBERS)
            return Trajectory.of(Parts({}, numbers), FileRows(folder / TENSORS))

    # -- writing

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[bool]:
        """Lock the key and yield True, or yield False at once if another process has the lock.

        Raises:
            StoreError: the store's folder is not there, or cannot be written to.
        """
        self.require()
        with contextlib.ExitStack() as locks:
            try:
                no_links(self.root, self.root / ".locks")
                mine = locks.enter_context(locked(self.root / ".locks" / key))
            except OSError as problem:
                if not forbidden(problem):
                    raise  # a file system without locks
                raise not_written(self.root, "a lock", problem) from problem
            yield mine

    def begin(self, key: str) -> Path:
        """The folder for the work on a locked key: this user's own, or not there yet. A link, and what another user has left
        there, are moved aside, for nothing is written through them.

        Raises:
            StoreError: they cannot be moved.
        """
        folder = self.work(key)
        no_links(self.root, folder.parent)
        moved_aside(folder, stat.S_ISDIR)
        return folder

    def write(self, provenance: Provenance, parts: Parts) -> None:
        """Publish an artifact. The caller holds its lock.

        Raises:
            RunError: the disk is full or broken.
            StoreError: the store cannot be written to. In all cases nothing half written is left under the key.
        """
        from distill_prune.store.writing import write_files

        stage, key = provenance.stage, provenance.key
        aside = self.begin(key) / "publish"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            make_folder(aside, new=True)
            write_files(aside, provenance, parts)
            self.publish(stage, key, aside)
        except OSError as problem:
            raise not_written(self.root, f"{stage} {key[:12]}", problem) from problem
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(self.work(key), ignore_errors=True)

    def publish(self, stage: str, key: str, aside: Path) -> None:
        """Give a folder of written files its place; a damaged artifact that is there is moved away."""
        no_links(self.root, self.root / stage)
        flush_folder(aside)
        if self.exists(stage, key):
            self.set_aside(stage, key)
        make_folder(self.root / stage)
        aside.rename(self.path(stage, key))
        flush_folder(self.root / stage)

    def set_aside(self, stage: str, key: str) -> Path:
        """Move a damaged artifact to `.damaged/`, and return its new folder."""
        folder = self.root / ".damaged"
        no_links(self.root, folder)
        make_folder(folder)
        n = 0
        while (target := folder / f"{stage}-{key}-{n}").exists():
            n += 1
        self.path(stage, key).rename(target)
        return target

    # -- names

    def tags(self) -> dict[str, str]:
        """Names given to keys; raises a StoreError where their file cannot be used."""
        return names(self.root)

    def tag(self, ref: str, name: str) -> Ref:
        """Give a name to an artifact. A name of another artifact moves to this one."""
        if not is_name(name):
            raise StoreError("a name is made of letters, digits, '-', '_' and '.'", got=name)
        target = self.find(ref)
        try:
            with renaming(self.root) as tags:
                tags[name] = target.key
        except OSError as problem:
            raise not_written(self.root, "names", problem) from problem
        return target

    def find(self, ref: str) -> Ref:
        """The artifact with this name, or whose key begins with `ref`, or that stands at this path of a study.

        Raises:
            StoreError: no artifact matches, or several do.
        """
        tags = self.tags()
        prefix = key_at(self.root, ref) if "/" in ref else tags.get(ref, ref)
        matches = [r for r in self.all() if r.key.startswith(prefix)] if len(prefix) >= 4 else []
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise StoreError(
                f"'{ref}' matches {len(matches)} artifacts in this store",
                got=", ".join(f"{r.stage}/{r.key[:12]}" for r in matches[:5]),
                fix="more digits of the key",
            )
        raise unmatched(self.root, ref, tags, prefix)
