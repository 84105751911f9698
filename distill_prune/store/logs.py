"""What was said while artifacts were made, and their training losses: files in `<store>/.logs/` that nothing depends on.

`<key>.log` has a line for whatever the code printed, with its time, and the reason and traceback where the artifact could not
be made. It is written only where there is something to say: an artifact that was made without a word has none, unless it failed
before. `<key>.losses.jsonl` has a JSON object a line, `{"step": 40, "loss": 0.31}`: the mean loss of an epoch of a training
after its last step, or the matching loss of each iteration of a distillation. A loss that is not finite is null. Where steps go
back, the work went back to that step: later lines hold.

These files only help people, so a disk that does not take them stops nothing, and nothing is flushed.
"""

from __future__ import annotations

import contextlib
import math
import os
import stat
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TextIO

from distill_prune.errors import DataError, StoreError
from distill_prune.letters import printable_lines
from distill_prune.limits import DOCUMENT_BYTES, LOG_BYTES
from distill_prune.outside import json_of, opened
from distill_prune.store.disk import make_folder, moved_aside, no_links
from distill_prune.store.store import Store

LOG, LOSSES = ".log", ".losses.jsonl"
_APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def folder(store: Store) -> Path:
    """Where the logs of a store lie."""
    return store.root / ".logs"


def log_path(store: Store, key: str) -> Path:
    """The log of an artifact; there is none where there was nothing to say."""
    return folder(store) / f"{key}{LOG}"


def losses_path(store: Store, key: str) -> Path:
    """The losses of an artifact that was trained or distilled."""
    return folder(store) / f"{key}{LOSSES}"


def key_of(path: Path) -> str:
    """The key of the artifact that a file among the logs is about."""
    return path.name.partition(".")[0]


def forget(store: Store, key: str) -> None:
    """Remove what there is about an artifact."""
    for path in folder(store).glob(f"{key}.*"):
        path.unlink(missing_ok=True)


def now() -> str:
    """The time of now with its zone, to the second."""
    return datetime.now().astimezone().isoformat(timespec="seconds")


def _open(store: Store, path: Path, *, anew: bool) -> TextIO:
    """A file of this user's, open for what comes at its end. A link, and what is another's, are moved aside.

    Raises:
        StoreError: the folder is a link, or what stands there cannot be moved.
        OSError: the disk does not take it.
    """
    no_links(store.root, path.parent)
    make_folder(path.parent)
    moved_aside(path, stat.S_ISREG)
    return os.fdopen(os.open(path, _APPEND | (os.O_TRUNC if anew else 0), 0o666), "w", encoding="utf-8", errors="replace")


class Log:
    """The log of one artifact, begun when there is a first line. `what` names the artifact in it.

    Attempts follow each other in the file, until it is larger than `LOG_BYTES`; of one attempt as much is written.
    """

    def __init__(self, store: Store, key: str, what: str) -> None:
        self._store, self.path, self._began = store, log_path(store, key), f"{now()} begin: {what}"
        self._file: TextIO | None = None
        self._left = LOG_BYTES

    def add(self, text: str) -> None:
        """Write lines, each with the time of now."""
        with contextlib.suppress(OSError, StoreError):
            file = self._file or self._begin()
            stamp = now()
            for line in printable_lines(text).split("\n"):
                if self._left > 0:
                    written = file.write(f"{stamp} {line}\n")
                    self._left -= written
                    if self._left <= 0:
                        file.write(f"{stamp} more than {LOG_BYTES} characters: the rest is left out\n")
            file.flush()

    def _begin(self) -> TextIO:
        large = self.path.exists() and self.path.stat().st_size > LOG_BYTES
        self._file = _open(self._store, self.path, anew=large)
        self._file.write(f"{self._began}\n")
        return self._file

    def end(self, text: str, *, always: bool = False) -> None:
        """Write the last lines, where others were written before or `always`; they are written whatever came before."""
        if always or self._file is not None or self.path.exists():
            self._left = max(self._left, LOG_BYTES)
            self.add(text)
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file = None


class Losses:
    """The losses of an artifact in the making; its file is begun at the first."""

    def __init__(self, store: Store, key: str) -> None:
        self._store, self._path, self._anew = store, losses_path(store, key), True
        self._file: TextIO | None = None
        self._write: Callable[[str], object] = self._begin

    def resume(self) -> None:
        """What an earlier attempt wrote holds, for its work goes on."""
        self._anew = False

    def add(self, step: int, loss: float) -> None:
        """The loss after `step` steps."""
        with contextlib.suppress(OSError, StoreError):
            self._write(f'{{"step": {step}, "loss": {loss if math.isfinite(loss) else "null"}}}\n')

    def _begin(self, line: str) -> None:
        self._write = len  # no second try where the disk does not take it
        self._file = _open(self._store, self._path, anew=self._anew)
        self._write = self._file.write
        self._write(line if self._anew else f"\n{line}")  # the last line of a process that died may have no end

    def flush(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            with contextlib.suppress(OSError):
                self._file.close()
            self._file, self._write = None, len


def read_losses(store: Store, key: str, begin: int = 0) -> tuple[list[tuple[int, float]], int]:
    """The finite losses of an artifact, as (step, loss), from the byte `begin` of the file on; and the byte to go on from.

    What is no line of losses is passed over: a process that died may have left half of one.
    """
    rows: list[tuple[int, float]] = []
    try:
        with opened(losses_path(store, key)) as file:
            file.seek(begin)
            text = file.read(DOCUMENT_BYTES)
    except (OSError, DataError):
        return rows, begin
    whole = text[: text.rfind(b"\n") + 1]
    for line in whole.splitlines():
        with contextlib.suppress(ValueError):
            match json_of(line):
                case {"step": int(step), "loss": float(loss)} if step >= 0:
                    rows.append((step, loss))
    return rows, begin + len(whole)
