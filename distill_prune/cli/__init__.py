"""Commands: parse, call, print; nothing else. Heavy rooms are imported by the commands that need them."""

from __future__ import annotations

import gc
import io
import os
import signal
import sys

from distill_prune.cli import catalog, exchange, housekeeping, new, planning, runs, stores  # noqa: F401 - commands register themselves
from distill_prune.cli.options import USUAL, app, in_front
from distill_prune.errors import DistillPruneError, StoreError

__all__ = ["app", "main"]


_NEW_OBJECTS = 200_000
"""New objects between two looks for garbage. Imports and plans make that many and keep them; looking takes a sixth of their
time. Making artifacts goes back to the usual number."""


class _Interrupted(BaseException):
    """An interrupt under a name of our own: typer answers KeyboardInterrupt itself, without a word."""


def _interrupt(*_: object) -> None:
    raise _Interrupted


def main() -> None:
    """The command. Exit codes: 0 done, 2 the user's mistake, 1 a failed run, 130 interrupted."""
    gc.set_threshold(_NEW_OBJECTS)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # one that knows ASCII alone gets the rest in escapes
            stream.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # not where a shell has it ignored
        signal.signal(signal.SIGINT, _interrupt)
    try:
        app(args=in_front(sys.argv[1:]))
    except DistillPruneError as error:
        print(f"error: {error.label}: {error}" if error.label else f"error: {error}", file=sys.stderr)
        if os.environ.get("DISTILL_PRUNE_DEBUG") and error.trace:
            print(error.trace, file=sys.stderr)
        sys.exit(error.exit_code)
    except (_Interrupted, KeyboardInterrupt):
        print("interrupted; what was finished is kept, run again to go on", file=sys.stderr)
        sys.exit(130)
    except OSError as problem:
        if isinstance(problem, BrokenPipeError):  # `| head`: nobody is left to be told
            sys.exit(1)
        where = f"'{problem.filename}' cannot be used" if problem.filename else "the system refused"
        print(f"error: {StoreError(where, got=problem.strerror, mend='another --store or -o')}", file=sys.stderr)
        sys.exit(2 if isinstance(problem, PermissionError) else 1)
    finally:
        gc.set_threshold(*USUAL)
