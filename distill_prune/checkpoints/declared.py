"""What a file of torch.save declares, of today's kind (a zip file) and of that before version 1.6 (pickles end to end)."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from distill_prune.checkpoints.pickles import MARK, Declared, Refused
from distill_prune.limits import Budget
from distill_prune.outside import opened, unzipped

_ZIP = b"PK\3\4"
_STORAGE_HEAD = 8


def check(path: Path, inert: Sequence[str], budget: Budget, copies: int) -> None:
    """Take from the budget what the numbers of a file need, `copies` times.

    Raises:
        DataError: that is too much, or it is no regular file.
        Refused: the file is not what torch.save writes of tensors.
        ValueError: it is damaged.
        BadZipFile: so is its table of members.
    """
    declared = Declared(inert)
    with opened(path) as file:
        head = file.read(len(_ZIP))
        file.seek(0)
        (_zipped if head == _ZIP else _streamed)(file, declared, budget)
    budget.take(copies * declared.size_as_floats)


def _zipped(file: IO[bytes], declared: Declared, budget: Budget) -> None:
    archive = unzipped(file)
    members = {info.filename: info for info in archive.infolist()}
    for info in members.values():
        if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size:
            raise Refused(f"the member '{info.filename[:80]}' is compressed, which torch.save does not do")
    if sum(info.file_size for info in members.values()) > os.fstat(file.fileno()).st_size:
        raise Refused("members that lie in each other")
    root = next(iter(members), "").partition("/")[0]
    if any(name.partition("/")[0] != root for name in members) or f"{root}/data.pkl" not in members:
        raise Refused("a zip file of something else, without data.pkl")
    pickle = members[f"{root}/data.pkl"]
    budget.check(3 * pickle.file_size, "a pickle alone")  # its bytes here, and there, and the texts in it
    with archive.open(pickle) as content:
        declared.read(content)
    for storage in declared.storages.values():
        member = members.get(f"{root}/data/{storage.key}")
        there = 0 if member is None else member.file_size
        if there < storage.count * storage.item:
            raise Refused(f"'{storage.key[:80]}' claims more numbers than the file holds: {storage.count} in {there} bytes")


def _streamed(file: IO[bytes], declared: Declared, budget: Budget) -> None:
    size = os.fstat(file.fileno()).st_size
    budget.check(size, "the file alone")
    if declared.read(file) != MARK:
        raise Refused("no mark of torch.save at the beginning")
    for _ in ("version", "system", "value", "keys"):
        declared.read(file)
    if declared.size + _STORAGE_HEAD * len(declared.storages) > size - file.tell():
        raise Refused(f"it claims more numbers than the file holds: {declared.size} bytes in {size - file.tell()}")
