"""What tells damage from an artifact that another user has not shared; and the comparison of files with their manifest."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from distill_prune.errors import DamagedArtifact, DistillPruneError, UnreadableArtifact
from distill_prune.store.disk import file_digest
from distill_prune.store.documents import reason
from distill_prune.store.manifest import MANIFEST, TENSORS, Manifest


@contextlib.contextmanager
def as_damage(stage: str, key: str, what: str) -> Iterator[None]:
    """Errors of reading `what` of an artifact, and of making something of it, as damage.

    Raises:
        DamagedArtifact: so.
        UnreadableArtifact: the system does not let this user read it.
    """
    try:
        yield
    except (DamagedArtifact, UnreadableArtifact):
        raise
    except PermissionError as problem:
        raise UnreadableArtifact(stage, key, f"{what}: {problem.strerror}") from problem
    except (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError) as problem:
        if isinstance(problem, ValidationError):
            raise DamagedArtifact(stage, key, f"{what}: {reason(problem)}") from problem
        if "allocate memory" in str(problem):  # how torch says it
            raise MemoryError(str(problem)) from problem
        raise DamagedArtifact(stage, key, f"{what}: {problem}") from problem
    except DistillPruneError as problem:
        raise DamagedArtifact(stage, key, f"{what}: {' '.join(str(problem).split())}") from problem


def compare(folder: Path, manifest: Manifest, *, sizes_only: bool) -> None:
    """Compare an artifact's files with its manifest; `sizes_only` spares the hash of tensors.

    Raises:
        DamagedArtifact: a file is missing or one too many, or its size or sha256 differs.
        UnreadableArtifact: the system does not let this user read it.
    """
    stage, key = manifest.stage, manifest.key
    with as_damage(stage, key, "folder"):
        there = [path.name for path in folder.iterdir() if path.name[0] != "."]  # a system's own: .nfs1, .DS_Store
    if more := sorted(set(there) - manifest.files.keys() - {MANIFEST}):
        raise DamagedArtifact(stage, key, f"{ascii(more[0])[1:-1]}: not listed in the manifest")
    for name, file in manifest.files.items():
        path = folder / name
        with as_damage(stage, key, name):
            about = path.stat() if name in there else None
            size = -1 if about is None else about.st_size
            if about is None or size != file.size:
                raise DamagedArtifact(stage, key, f"{name}: {size} bytes, expected {file.size}")
            if not stat.S_ISREG(about.st_mode):
                raise DamagedArtifact(stage, key, f"{name}: not a plain file")
            if not (sizes_only and name == TENSORS) and file_digest(path) != file.sha256:
                raise DamagedArtifact(stage, key, f"{name}: wrong sha256")
