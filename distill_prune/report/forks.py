"""Figures are drawn by several processes. The others are forks of this one: they have the study and matplotlib already, so
they cost milliseconds. Where a system cannot fork safely, this process draws everything."""

from __future__ import annotations

import contextlib
import gc
import multiprocessing as mp
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import TypeVar

T = TypeVar("T")
Draw = Callable[[str], T]

PATIENCE = 60.0
"""Seconds that this process waits for a fork that draws its last figure."""
_NEW_OBJECTS = 50_000
"""New objects between two looks for garbage. A figure makes tens of thousands and keeps nearly all of them."""


def drawn(draw: Draw[T], names: Sequence[str], processes: int) -> dict[str, T]:
    """`draw(name)` for every one of at most 256 names, by so many processes.

    What a fork does not deliver, because it failed or died, is drawn by this process, which therefore raises its errors.
    """
    with _few_collections():
        done = _by_forks(draw, names, processes) if processes > 1 and sys.platform == "linux" else {}
        return {name: done[name] if name in done else draw(name) for name in names}


def _by_forks(draw: Draw[T], names: Sequence[str], processes: int) -> Mapping[str, T]:
    # Whoever reads the next byte draws the figure of that number: nobody waits for a fork that died.
    numbers, write = os.pipe()
    os.write(write, bytes(range(len(names))))
    os.close(write)
    context = mp.get_context("fork")
    pipes: list[Connection] = []
    forks = []
    try:
        for _ in range(processes - 1):
            pipe, end = context.Pipe(duplex=False)
            forks.append(context.Process(target=_deliver, args=(draw, names, numbers, end), daemon=True))
            forks[-1].start()
            end.close()
            pipes.append(pipe)
        done = _share(draw, names, numbers)
        for pipe in pipes:
            with contextlib.suppress(EOFError, OSError):
                done |= pipe.recv() if pipe.poll(PATIENCE) else {}
        return done
    finally:
        os.close(numbers)
        for pipe, fork in zip(pipes, forks, strict=True):
            fork.kill()
            fork.join()
            pipe.close()


def _deliver(draw: Draw[T], names: Sequence[str], numbers: int, end: Connection) -> None:
    """What a fork does. An interrupt of the terminal is the first process's alone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(Exception):
        end.send(_share(draw, names, numbers))


def _share(draw: Draw[T], names: Sequence[str], numbers: int) -> dict[str, T]:
    """The figures whose numbers this process reads."""
    return {names[number[0]]: draw(names[number[0]]) for number in iter(lambda: os.read(numbers, 1), b"")}


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Look for garbage seldom, and not among what is there before; forks then share that memory, too."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
