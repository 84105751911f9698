"""Commands that need no process of their own from the start: children of processes that have imported what takes long."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from same_bits import HERE

from fault_kinds.kind import Broken
from fault_kinds.serving import SECONDS, Told


class Server:
    """A process that answers commands (serving.py), each in a child of its own."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("serving.py"))],
            env={**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._read()

    def _read(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError("the server of commands has ended")
        return line

    def ask(self, words: Sequence[str], folder: Path, seconds: float) -> Told:
        assert self._process.stdin is not None
        task = {"words": list(words), "folder": str(folder), "seconds": seconds}
        print(json.dumps(task), file=self._process.stdin, flush=True)
        told: Told = json.loads(self._read())
        return told

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Servers:
    """As many servers as trials run side by side."""

    def __init__(self, count: int) -> None:
        self._idle: queue.Queue[Server] = queue.Queue()
        for _ in range(count):
            self._idle.put(Server())

    def ask(self, words: Sequence[str], folder: Path, seconds: float = SECONDS) -> Told:
        """Run a command in a folder, where it leaves the files `out` and `err`; it is killed where it takes longer.

        Raises:
            Broken: it has ended its server, which is replaced.
        """
        server = self._idle.get()
        try:
            return server.ask(words, folder, seconds)
        except (OSError, ValueError) as problem:
            server.close()
            server = Server()
            raise Broken(f"{' '.join(words[:3])}: {problem}") from problem
        finally:
            self._idle.put(server)

    def close(self) -> None:
        while not self._idle.empty():
            self._idle.get().close()


@contextlib.contextmanager
def servers(count: int) -> Iterator[Servers]:
    """Servers that end with the block."""
    started = Servers(count)
    try:
        yield started
    finally:
        started.close()
