"""What is printed while an artifact is made, line by line, so that it reaches the driver with the artifact's name.

A worker process may be on another machine, and may end before anybody has read its streams. Lines therefore travel as
events, on the way that outcomes take. Output of native code does not pass through Python's streams and is left alone.
"""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable, Iterator

LONGEST = 4096
"""Characters of a line that are passed on at once; a longer one arrives in pieces."""


class Printed(io.TextIOBase):
    """A text stream that hands on whole lines."""

    def __init__(self, hear: Callable[[str], None]) -> None:
        self._hear, self._rest = hear, ""

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        # A progress bar rewrites its line after a carriage return: each state of it is a line here.
        *lines, self._rest = (self._rest + text).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        while len(self._rest) > LONGEST:
            lines.append(self._rest[:LONGEST])
            self._rest = self._rest[LONGEST:]
        for line in lines:
            self._hear(line)
        return len(text)

    def end(self) -> None:
        """Hand on a last line that was not ended."""
        if self._rest:
            self._hear(self._rest)
        self._rest = ""


@contextlib.contextmanager
def heard(hear: Callable[[str], None]) -> Iterator[None]:
    """Hand every line that Python code prints inside, on either standard stream, to `hear`, which may print itself."""
    outside = sys.stdout, sys.stderr

    def outward(line: str) -> None:
        with contextlib.redirect_stdout(outside[0]), contextlib.redirect_stderr(outside[1]):
            hear(line)

    streams = Printed(outward), Printed(outward)
    try:
        with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
            yield
    finally:
        for stream in streams:
            stream.end()
