"""What is printed while an artifact is made, line by line, so that it reaches the driver with the artifact's name.

A worker process may be on another machine, and may end before anybody has read its streams. Lines therefore travel as
events, on the way that outcomes take. Output of native code does not pass through Python's streams and is left alone.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import TextIO, cast

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


_STREAMS: dict[int, Printed] = {}
"""By the identity of the stream outside, which is kept: the same stream every time."""
