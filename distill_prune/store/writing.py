"""The files of one artifact, written into a folder and flushed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from distill_prune.errors import RunError
from distill_prune.limits import DOCUMENT_BYTES
from distill_prune.store.disk import as_created, file_digest, write_json, write_new
from distill_prune.store.manifest import MANIFEST, NUMBERS, TENSORS, File, Manifest, Provenance, sealed

if TYPE_CHECKING:
    from distill_prune.artifacts import Parts


def write_files(folder: Path, provenance: Provenance, parts: Parts) -> None:
    """Tensors, numbers, and the manifest last.

    Raises:
        OSError: the disk does not take them.
        RunError: there are more numbers than could be read again.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    if parts.tensors:
        try:
            save_file({n: t.detach().cpu().contiguous() for n, t in parts.tensors.items()}, folder / TENSORS)
        except SafetensorError as problem:  # it wraps the system's errors in its own
            raise OSError(str(problem)) from problem
        as_created(folder / TENSORS)
        with (folder / TENSORS).open("rb") as file:
            os.fsync(file.fileno())
    write_json(folder / NUMBERS, parts.numbers)
    if (size := (folder / NUMBERS).stat().st_size) > DOCUMENT_BYTES:
        raise RunError(
            f"the numbers of '{provenance.label}' take too much room", got=size, expected=f"at most {DOCUMENT_BYTES}"
        )
    files = {p.name: File(size=p.stat().st_size, sha256=file_digest(p)) for p in sorted(folder.iterdir())}
    manifest = Manifest.model_validate({**provenance.document(), "files": files})
    write_new(folder / MANIFEST, sealed(manifest.document()))
