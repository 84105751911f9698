"""JSON files of a store, read within bounds: any program, or a failing disk, may have written what is there.

A document is a plain file of at most 32 MiB, in UTF-8, nested at most 100 levels deep. Its numbers fit into a float. What it
holds is compared with a type where it is read, and nowhere later.
"""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

from pydantic import Field, TypeAdapter, ValidationError

MOST_BYTES = 32 * 2**20
"""Of a document. Its values may take twenty times as much memory."""
MOST_LEVELS = 100
_MOST_BITS = 1023
"""Of an integer that fits into a float."""

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A sha256 in hexadecimal: of a file, or an artifact's key."""

T = TypeVar("T")


class BadDocument(ValueError):
    """A file that is no JSON document within the bounds, or not of the type that is read; the message says why."""


def content(path: Path) -> bytes:
    """The bytes of a plain file of at most `MOST_BYTES`.

    Raises:
        BadDocument: it is larger, or a pipe, a folder or a device.
        OSError: it cannot be read, or is not there.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe would wait for its writer
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise BadDocument("not a plain file")
        if (size := about.st_size) > MOST_BYTES:
            raise BadDocument(f"{size} bytes, more than {MOST_BYTES}")
        read = b""
        while len(read) <= size and (block := os.read(handle, size + 1 - len(read))):
            read += block
        if len(read) != size:
            raise BadDocument("it changed while it was read")
        return read
    finally:
        os.close(handle)


def parse(text: bytes) -> Any:
    """The value of a document.

    Raises:
        BadDocument: it is no JSON, or outside the bounds.
    """
    try:
        value = json.loads(text.decode(), parse_constant=_no_number)
    except RecursionError:
        raise BadDocument(f"nested deeper than {MOST_LEVELS} levels") from None
    except ValueError as problem:
        raise BadDocument(str(problem)) from problem
    _bounded(value)
    return value


def _no_number(name: str) -> NoReturn:
    raise BadDocument(f"{name} is no JSON number")


def _bounded(value: object) -> None:
    level = [value]
    for _ in range(MOST_LEVELS):
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                below += each.values()
            elif isinstance(each, list):
                below += each
            elif isinstance(each, float):
                if not math.isfinite(each):
                    raise BadDocument("a number that is not finite")
            elif isinstance(each, int) and each.bit_length() > _MOST_BITS:
                raise BadDocument("a number that does not fit into a float")
        if not below:
            return
        level = below
    raise BadDocument(f"nested deeper than {MOST_LEVELS} levels")


def read(path: Path, kind: TypeAdapter[T]) -> T:
    """The value of a file's document, which is of the given type.

    Raises:
        BadDocument: it is not, or no document.
        OSError: the file cannot be read, or is not there.
    """
    try:
        return kind.validate_python(parse(content(path)), strict=True)
    except ValidationError as problem:
        raise BadDocument(reason(problem)) from problem


def reason(problem: ValidationError) -> str:
    """The place and the message of the first complaint."""
    first = problem.errors(include_url=False, include_context=False)[0]
    return ": ".join((*map(str, first["loc"]), first["msg"].removeprefix("Value error, ")))
