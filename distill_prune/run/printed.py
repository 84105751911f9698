"""What is printed while an artifact is made, line by line, so that it reaches the driver with the artifact's name.

A worker process may be on another machine, and may end before anybody has read its streams. Lines therefore travel as
events, on the way that outcomes take. Output of native code does not pass through Python's streams and is left alone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TextIO, cast

from distill_prune.letters import printable

LONGEST = 4096
"""Characters of a line that are passed on at once; a longer one arrives in pieces."""

Hear = Callable[[str], None]


class Printed:
    """A standard stream that hands on whole lines while somebody hears, and else is the stream `outside`.

    Code that keeps the stream, as handlers of `logging` do, is heard by whoever hears at the time.
    """

    def __init__(self, outside: TextIO) -> None:
        self.outside = outside
        self.hear: Hear | None = None
        self._rest = ""

    def __getattr__(self, name: str) -> object:
        return getattr(self.outside, name)

    def write(self, text: str) -> int:
        if self.hear is None:
            return self.outside.write(text)
        # A progress bar rewrites its line after a carriage return: each state of it is a line here.
        *lines, self._rest = (self._rest + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        while len(self._rest) > LONGEST:
            lines.append(self._rest[:LONGEST])
            self._rest = self._rest[LONGEST:]
        for line in lines:
            self.hear(line)
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """A line that has not ended waits for its end."""
        if self.hear is None:
            self.outside.flush()

    def end(self) -> None:
        """Hand on a last line that was not ended."""
        rest, self._rest = self._rest, ""
        if rest and self.hear is not None:
            self.hear(rest)


@contextlib.contextmanager
def heard(hear: Hear) -> Iterator[None]:
    """Hand every line that Python code prints inside, on either standard stream, to `hear`, which may print itself."""
    before = sys.stdout, sys.stderr
    streams = [_STREAMS.setdefault(id(stream), Printed(stream)) for stream in before]

    def outward(line: str) -> None:
        for stream in streams:
            stream.hear = None
        try:
            hear(line)
        finally:
            for stream in streams:
                stream.hear = outward

    try:
        for stream in streams:
            stream.hear = outward
        sys.stdout, sys.stderr = (cast(TextIO, stream) for stream in streams)
        yield
    finally:
        for stream in streams:
            stream.end()
            stream.hear = None
        sys.stdout, sys.stderr = before


def quiet_libraries() -> None:
    """From now on drop what libraries say to programmers, and print a warning of a plugin's code as one line."""
    warnings.showwarning = _warned
    for name in ("matplotlib", "PIL", "torch"):
        logging.getLogger(name).setLevel(logging.ERROR)
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")


def _warned(
    message: Warning | str,
    category: type[Warning],  # noqa: ARG001 - what `warnings` calls has these parameters
    filename: str,
    lineno: int,
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """A library's warning names the code that called it, which may be ours, and never means the user of a command."""
    import sysconfig

    places = [str(Path(__file__).parent.parent), *(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))]
    if Path(filename).is_file() and not any(Path(filename).resolve().is_relative_to(Path(p).resolve()) for p in places):
        text = printable(" ".join(str(message).split()))
        print(f"warning: {text} ({filename}, line {lineno})", file=sys.stderr, flush=True)


_STREAMS: dict[int, Printed] = {}
"""By the identity of the stream outside, which is kept: the same stream every time."""
