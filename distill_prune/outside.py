"""Files from outside, opened and unpacked within bounds: regular files alone, sizes counted first."""

from __future__ import annotations

import io
import json
import math
import os
import stat
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any, NoReturn

from distill_prune.errors import DataError
from distill_prune.limits import MEMBERS, NESTING, OBJECTS, Budget

_KINDS = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device", stat.S_IFBLK: "a device"}
_END, _END64, _LOCATOR = struct.Struct("<4s4H2LH"), struct.Struct("<4sQ2H2L4Q"), struct.Struct("<4sLQL")
_BLOCK = 2**20
_MOST_BITS = 1023
"""Of an integer that fits into a float."""


def opened(path: Path) -> io.BufferedReader:
    """A regular file, open for reading. What would keep a reader waiting, or has no end, is refused.

    Raises:
        DataError: it is no regular file.
        OSError: it cannot be opened.
    """
    try:
        file = io.FileIO(str(path), opener=_unblocked)
    except OSError:
        check_regular(path)  # folders and sockets cannot be opened at all
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        check_regular(path)
    return io.BufferedReader(file)


def _unblocked(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO would wait for its other end


def check_regular(path: Path) -> None:
    """Refuse what is no regular file.

    Raises:
        DataError: so.
        OSError: there is nothing.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else _KINDS.get(stat.S_IFMT(mode), "something else")
        raise DataError(f"'{path}' is not a file", got=kind, expected="a regular file")


def content(path: Path, budget: Budget, copies: int = 1) -> bytes:
    """The bytes of a file, `copies` of which the budget pays.

    Raises:
        DataError: it is no regular file, or too large.
        OSError: it cannot be read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        budget.take(copies * size)
        return file.read(size)


def gunzipped(path: Path, budget: Budget, copies: int = 1) -> bytes:
    """The bytes that a gzip file unpacks to, `copies` of which the budget pays. The size that its end declares need not be
    true, so they are counted on the way.

    Raises:
        DataError: it is no regular file, or unpacks to too much.
        OSError: it cannot be read.
        EOFError: it ends too early.
        zlib.error: it is damaged.
    """
    out, unpacker = bytearray(), zlib.decompressobj(wbits=31)
    with opened(path) as file:
        packed = file.read(_BLOCK)
        while packed:
            out += unpacker.decompress(packed, _BLOCK)
            budget.check(copies * len(out), "unpacked so far")
            if not unpacker.eof:
                packed = unpacker.unconsumed_tail or file.read(_BLOCK)
                continue
            packed = unpacker.unused_data.lstrip(b"\0")  # zeros may fill the last block
            while not packed and (block := file.read(_BLOCK)):
                packed = block.lstrip(b"\0")
            if not packed:
                budget.take(copies * len(out))
                return bytes(out)
            unpacker = zlib.decompressobj(wbits=31)  # a file may be several, end to end
    raise EOFError("it ended before the end of what it packs")


def check_safetensors(path: Path, budget: Budget) -> None:
    """Take from the budget what the tensors of a safetensors file need; its header is made into objects, and counted too.

    Raises:
        DataError: it is no regular file, or too large.
        OSError: it cannot be read.
    """
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        header = int.from_bytes(file.read(8), "little")
    budget.check(OBJECTS * min(header, size), "the header alone")
    budget.take(size)


def json_of(text: bytes) -> Any:
    """The value of a JSON text in UTF-8, whose numbers fit into a float.

    Raises:
        ValueError: it is none, or values stand in each other too deep.
    """
    try:
        value = json.loads(text.decode(), parse_constant=_no_number)
    except RecursionError:
        raise ValueError(f"nested deeper than {NESTING} levels") from None
    level = [value]
    for _ in range(NESTING):
        below: list[object] = []
        for each in level:
            _check_plain(each)
            if isinstance(each, dict):
                below += each.values()
            elif isinstance(each, list):
                below += each
        if not below:
            return value
        level = below
    raise ValueError(f"nested deeper than {NESTING} levels")


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def _check_plain(value: object) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that is not finite")
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ValueError("a number that does not fit into a float")


def read_json(path: Path) -> Any:
    """The value of a JSON file.

    Raises:
        DataError: it is no regular file, or too large.
        ValueError: it is no JSON, or values stand in each other too deep.
        OSError: it cannot be read.
    """
    return json_of(content(path, Budget(path), OBJECTS))


def unzipped(file: IO[bytes]) -> zipfile.ZipFile:
    """A zip file whose table of members is all that any reader can find: at its end, with nothing before or behind.

    Two readers could find two tables in other files: one would be counted, and the other read.

    Raises:
        BadZipFile: it is none, only a part of one, or has too many members.
    """
    end = file.seek(0, os.SEEK_END) - _END.size
    if end < 0:
        raise zipfile.BadZipFile("the file is too short for a zip file")
    file.seek(end)
    sign, disk, first, here, count, size, start, comment = _END.unpack(file.read(_END.size))
    if sign != b"PK\5\6" or comment or disk or first or here != count:
        raise zipfile.BadZipFile("the table of its members is not at its end")
    if (large := _large(file, end)) is not None:
        end, count, size, start = large
    if start + size != end:
        raise zipfile.BadZipFile("something stands before its first member, or behind its last")
    if count > MEMBERS or size > MEMBERS * 1000:
        raise zipfile.BadZipFile(f"{count:,} members, and at most {MEMBERS:,} are read")
    archive = zipfile.ZipFile(file)
    if len(archive.infolist()) != count or len(archive.namelist()) != len(set(archive.namelist())):
        raise zipfile.BadZipFile("two members have one name, or some are missing")
    return archive


def _large(file: IO[bytes], end: int) -> tuple[int, int, int, int] | None:
    """Where the table ends, its number of members, its size and its start, as the record for files above 4 GB says; None
    where there is none. torch.save always writes one, and readers believe it."""
    at = end - _LOCATOR.size - _END64.size
    if at < 0:
        return None
    file.seek(at)
    sign, _, _, _, disk, first, here, count, size, start = _END64.unpack(file.read(_END64.size))
    mark, _, place, _ = _LOCATOR.unpack(file.read(_LOCATOR.size))
    if mark != b"PK\6\7":
        return None
    if (sign, place) != (b"PK\6\6", at) or disk or first or here != count:
        raise zipfile.BadZipFile("the table of its members is not at its end")
    return at, count, size, start
