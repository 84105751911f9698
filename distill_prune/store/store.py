"""The store: artifacts by stage and key, whole or not at all, readable by a stranger, nothing in them can execute.

`<store>/<stage>/<key>/` holds `manifest.json`, `tensors.safetensors` and `numbers.json`. An artifact is written aside in
`<store>/.work/<key>/`, flushed, then renamed; it is never overwritten. One kernel lock a key stands in `<store>/.locks/`:
it is free as soon as its owner is dead. Reading checks the sha256 of every file (of a trajectory once a worker). A
damaged artifact is moved to `<store>/.damaged/`. Compiled code, which is no artifact, lies in `<store>/.compiled/`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from distill_prune.errors import DamagedArtifact, StoreError, nearest, system_error
from distill_prune.settings import digest
from distill_prune.store.disk import as_created, file_digest, flush_folder, replace_json, write_json
from distill_prune.store.manifest import File, Manifest, Provenance

if TYPE_CHECKING:
    from torch import Tensor

    from distill_prune.artifacts import Parts, Trajectory

STAGES = ("data", "experts", "distill", "prune", "retrain", "compare")
MANIFEST, TENSORS, NUMBERS = "manifest.json", "tensors.safetensors", "numbers.json"


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
    """The artifacts below one folder.

    Raises:
        StoreError: with `create`, the folder cannot be made or written to, or is a file.
        RunError: with `create`, the disk is full or broken.
    """

    def __init__(self, root: Path | str, *, create: bool = False) -> None:
        self.root = Path(root)
        try:
            os.fspath(self.root).encode()
        except UnicodeEncodeError as problem:
            raise StoreError(f"the store's path {str(root)!a} is not UTF-8", mend="another --store") from problem
        if self.root.exists() and not self.root.is_dir():
            raise StoreError(f"the store '{self.root}' is a file", expected="a folder", mend="another --store")
        if create:
            try:
                for name in (*STAGES, ".work", ".locks"):
                    (self.root / name).mkdir(parents=True, exist_ok=True)
            except OSError as problem:
                place = "another --store, or $DISTILL_PRUNE_STORE"
                raise system_error(f"the store '{self.root}' cannot be made", problem, place, StoreError) from problem
            if not os.access(self.root / ".work", os.W_OK):
                raise StoreError(f"the store '{self.root}' cannot be written to", mend="another --store")

    def require(self) -> None:
        """Refuse to write to a store that nobody has made; reading one finds nothing.

        Raises:
            StoreError: the folder is not there.
        """
        if not self.root.is_dir():
            raise StoreError(f"the store '{self.root}' is not there", mend="Store(path, create=True), or the path of a store")

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
        """Whether the artifact is there, every file of its manifest with its right size."""
        folder = self.path(stage, key)
        try:
            return all((folder / n).stat().st_size == f.size for n, f in self.manifest(stage, key).files.items())
        except (OSError, DamagedArtifact):
            return False

    def sound(self, stage: str, key: str) -> bool:
        """Whether the artifact is there, every file of its manifest with its right sha256."""
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
            DamagedArtifact: it cannot be read, or a field of it is missing or of a wrong type.
        """
        try:
            content = (self.path(stage, key) / MANIFEST).read_bytes()
        except OSError as problem:
            raise DamagedArtifact(stage, key, f"manifest: {problem}") from problem
        return Manifest.parse(content, stage, key)

    def check(self, stage: str, key: str, *, sizes_only: bool = False) -> Manifest:
        """The manifest, after comparing every file with it; `sizes_only` spares the hash of large tensors.

        Raises:
            DamagedArtifact: a file is missing, or its size or sha256 differs, or the manifest is another key's.
        """
        manifest, folder = self.manifest(stage, key), self.path(stage, key)
        try:
            its_own = belongs(manifest, key)
        except ValueError:
            its_own = False
        if not its_own:
            raise DamagedArtifact(stage, key, "the manifest does not belong to the key")
        for name, file in manifest.files.items():
            path = folder / name
            size = path.stat().st_size if path.exists() else -1
            if size != file.size:
                raise DamagedArtifact(stage, key, f"{name}: {size} bytes, expected {file.size}")
            if not (sizes_only and name == TENSORS) and file_digest(path) != file.sha256:
                raise DamagedArtifact(stage, key, f"{name}: wrong sha256")
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
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from distill_prune.artifacts import Parts

        files, folder = self.check(stage, key).files, self.path(stage, key)
        try:
            tensors = load_file(folder / TENSORS) if TENSORS in files else {}
            return Parts({n: t.clone() for n, t in tensors.items()}, json.loads((folder / NUMBERS).read_bytes()))
        except (OSError, ValueError, RuntimeError, SafetensorError) as problem:  # RuntimeError: the file has gone meanwhile
            raise DamagedArtifact(stage, key, str(problem)) from problem

    def numbers(self, stage: str, key: str) -> dict[str, Any]:
        """The artifact's numbers alone, checked."""
        self.check(stage, key)
        try:
            return json.loads((self.path(stage, key) / NUMBERS).read_bytes())  # type: ignore[no-any-return]
        except (OSError, ValueError) as problem:
            raise DamagedArtifact(stage, key, str(problem)) from problem

    def trajectory(self, key: str, *, sizes_only: bool = False) -> Trajectory:
        """An expert's trajectory whose checkpoints are read from the file one row at a time; `sizes_only` spares the hash of
        them, for who has checked it or reads none.

        Raises:
            DamagedArtifact: the files are not what was written.
        """
        from distill_prune.artifacts import Parts, Trajectory

        self.check("experts", key, sizes_only=sizes_only)
        folder = self.path("experts", key)
        try:
            numbers = json.loads((folder / NUMBERS).read_bytes())
            return Trajectory.of(Parts({}, numbers), _FileRows(folder / TENSORS, key))
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise DamagedArtifact("experts", key, f"{type(problem).__name__}: {problem}") from problem

    # -- writing

    @contextlib.contextmanager
    def lock(self, key: str) -> Iterator[bool]:
        """Lock the key and yield True, or yield False at once if another process has the lock.

        Raises:
            StoreError: the store's folder is not there.
        """
        self.require()
        lock = FileLock(self.root / ".locks" / key, timeout=0)
        try:
            lock.acquire()
        except Timeout:
            yield False
            return
        try:
            yield True
        finally:
            lock.release()

    def write(self, provenance: Provenance, parts: Parts) -> None:
        """Publish an artifact. The caller holds its lock.

        Raises:
            RunError: the disk is full or broken.
            StoreError: the store cannot be written to. In all cases nothing half written is left under the key.
        """
        from safetensors import SafetensorError
        from safetensors.torch import save_file

        stage, key = provenance.stage, provenance.key
        aside = self.work(key) / "publish"
        try:
            shutil.rmtree(aside, ignore_errors=True)
            aside.mkdir(parents=True)
            if parts.tensors:
                save_file({n: t.detach().cpu().contiguous() for n, t in parts.tensors.items()}, aside / TENSORS)
                as_created(aside / TENSORS)
                with (aside / TENSORS).open("rb") as file:
                    os.fsync(file.fileno())
            write_json(aside / NUMBERS, parts.numbers)
            files = {p.name: File(size=p.stat().st_size, sha256=file_digest(p)) for p in sorted(aside.iterdir())}
            write_json(aside / MANIFEST, Manifest.model_validate({**provenance.document(), "files": files}).document())
            flush_folder(aside)
            if self.exists(stage, key):
                self.set_aside(stage, key)
            (self.root / stage).mkdir(exist_ok=True)
            aside.rename(self.path(stage, key))
            flush_folder(self.root / stage)
        except (OSError, SafetensorError) as problem:  # safetensors wraps the system's errors in its own
            shutil.rmtree(aside, ignore_errors=True)
            what = f"{stage} {key[:12]} could not be written to '{self.root}'"
            raise system_error(what, problem, "another --store", StoreError) from problem
        shutil.rmtree(self.work(key), ignore_errors=True)

    def set_aside(self, stage: str, key: str) -> Path:
        """Move a damaged artifact to `.damaged/`, and return its new folder."""
        folder = self.root / ".damaged"
        folder.mkdir(exist_ok=True)
        n = 0
        while (target := folder / f"{stage}-{key}-{n}").exists():
            n += 1
        self.path(stage, key).rename(target)
        return target

    # -- names

    def tags(self) -> dict[str, str]:
        """Names given to keys."""
        try:
            return dict(json.loads((self.root / "tags.json").read_bytes()).items())
        except FileNotFoundError:
            return {}
        except (ValueError, AttributeError) as problem:
            raise StoreError(
                f"'{self.root / 'tags.json'}' is not a JSON object", got=problem, mend="repair or delete it"
            ) from problem

    def tag(self, ref: str, name: str) -> Ref:
        """Give a name to an artifact. A name of another artifact moves to this one."""
        if not name.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise StoreError("a name is made of letters, digits, '-', '_' and '.'", got=name)
        target = self.find(ref)
        with FileLock(self.root / ".locks" / "tags"):
            replace_json(self.root / "tags.json", {**self.tags(), name: target.key})
        return target

    def find(self, ref: str) -> Ref:
        """The artifact with this name, or whose key begins with `ref`.

        Raises:
            StoreError: no artifact matches, or several do.
        """
        tags = self.tags()
        prefix = tags.get(ref, ref)
        matches = [r for r in self.all() if r.key.startswith(prefix)] if len(prefix) >= 4 else []
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise StoreError(
                f"'{ref}' stands for {len(matches)} artifacts of '{self.root}'",
                got=", ".join(f"{r.stage}/{r.key[:12]}" for r in matches[:5]),
                mend="more digits of the key",
            )
        raise StoreError(
            f"'{ref}' names no artifact of the store '{self.root}'",
            expected="a name, or at least 4 digits of a key" + (f"; {nearest(ref, tags)}" if tags else ""),
            mend="`distill-prune ls` lists them",
        )


class _FileRows:
    """Rows of the tensor `checkpoints` of a file, each read when it is asked for, into fresh memory."""

    def __init__(self, path: Path, key: str) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            self._slice = safe_open(path, framework="pt").get_slice("checkpoints")  # type: ignore[no-untyped-call]
        except (OSError, SafetensorError) as problem:
            raise DamagedArtifact("experts", key, str(problem)) from problem

    def __len__(self) -> int:
        return int(self._slice.get_shape()[0])

    def __getitem__(self, index: int) -> Tensor:
        row: Tensor = self._slice[index]
        return row.clone()
