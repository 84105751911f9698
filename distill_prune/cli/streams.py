"""The standard streams of a command, whatever a shell has made of them: closed, full, without a reader, or of few letters."""

from __future__ import annotations

import contextlib
import io
import os
import select
import sys
from typing import Any

from distill_prune.letters import printable_lines


class Outlet(io.FileIO):
    """A stream that no work ends of: what cannot be written is dropped, and the first problem is kept."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.problem: OSError | None = None

    def write(self, data: Any, /) -> int:
        if self.problem is None:
            try:
                while (written := super().write(data)) is None:  # a pipe that does not block, and is full for now
                    select.select([], [self], [])
                return written
            except OSError as problem:
                self.problem = problem
        return len(data)


class Answer(io.TextIOWrapper):
    """What a command prints on stdout: names and labels of anybody cannot act on the terminal."""

    def write(self, text: str, /) -> int:
        super().write(printable_lines(text))
        return len(text)


def settle() -> Outlet | None:
    """Make standard streams that take any text; returns what lies under stdout, where that is the process's own.

    A closed stream becomes the null device: else the next file that is opened would get its number, and with it what native
    code prints. A letter that the encoding of a stream lacks is written as an escape.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # gets the lowest free number: this one
    if sys.stdin is None:
        sys.stdin = os.fdopen(0, closefd=False)
    outlets = [_settled(name, number) for name, number in (("stdout", 1), ("stderr", 2))]
    return outlets[0]


def _settled(name: str, number: int) -> Outlet | None:
    stream = getattr(sys, name)
    if stream is not getattr(sys, f"__{name}__"):  # somebody listens: a test, a notebook
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
        return None
    outlet = Outlet(number)
    encoding = "utf-8" if stream is None else stream.encoding
    lines = name == "stderr" or outlet.isatty()
    kind = Answer if name == "stdout" else io.TextIOWrapper
    text = kind(io.BufferedWriter(outlet), encoding, "backslashreplace", line_buffering=lines)
    setattr(sys, name, text)
    return outlet


def flush() -> None:
    """Write out what the standard streams hold back."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
