"""JSON files of a store, read within bounds: any program, or a failing disk, may have written what is there.

A document is a plain file of at most 32 MiB, in UTF-8, nested at most 64 levels deep. Its numbers fit into a float. What it
holds is compared with a type where it is read, and nowhere later.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from distill_prune.errors import DataError
from distill_prune.limits import DOCUMENT_BYTES
from distill_prune.outside import json_of, opened

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A sha256 in hexadecimal: of a file, or an artifact's key."""

T = TypeVar("T")


class BadDocument(ValueError):
    """A file that is no JSON document within the bounds, or not of the type that is read; the message says why."""


def content(path: Path) -> bytes:
    """The bytes of a plain file of at most `DOCUMENT_BYTES`.

    Raises:
        BadDocument: it is larger, or a pipe, a folder or a device.
        OSError: it cannot be read, or is not there.
    """
    try:
        with opened(path) as file:
            if (size := os.fstat(file.fileno()).st_size) > DOCUMENT_BYTES:
                raise BadDocument(f"{size} bytes, more than {DOCUMENT_BYTES}")
            read = file.read(size + 1)
    except DataError as problem:
        raise BadDocument("not a plain file") from problem
    if len(read) != size:
        raise BadDocument("it changed while it was read")
    return read


def parse(text: bytes) -> Any:
    """The value of a document.

    Raises:
        BadDocument: it is no JSON, or outside the bounds.
    """
    try:
        return json_of(text)
    except ValueError as problem:
        raise BadDocument(str(problem)) from problem


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


class _Tensor(TypedDict):
    dtype: str
    shape: list[int]


_HEADER = TypeAdapter(dict[str, _Tensor])


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of the tensors of a safetensors file, by its header alone: 8 bytes of length, and a JSON object.

    Raises:
        BadDocument: it has no such header within the bounds.
        OSError: the file cannot be read, or is not there.
    """
    try:
        with opened(path) as file:
            length = int.from_bytes(file.read(8), "little")
            if length > DOCUMENT_BYTES:
                raise BadDocument(f"a header of {length} bytes, more than {DOCUMENT_BYTES}")
            header = parse(file.read(length))
        if isinstance(header, dict):
            header.pop("__metadata__", None)
        return {name: tuple(tensor["shape"]) for name, tensor in _HEADER.validate_python(header, strict=True).items()}
    except DataError as problem:
        raise BadDocument("not a plain file") from problem
    except ValidationError as problem:
        raise BadDocument(reason(problem)) from problem


def reason(problem: ValidationError) -> str:
    """The place and the message of the first complaint."""
    first = problem.errors(include_url=False, include_context=False)[0]
    return ": ".join((*map(str, first["loc"]), first["msg"].removeprefix("Value error, ")))
