"""Commands: parse, call, print; nothing else. Heavy rooms are imported by the commands that need them."""

from __future__ import annotations

import errno
import os
import sys

from distill_prune.cli.streams import Outlet, flush, settle
from distill_prune.interrupts import SAID, Interrupted, Interrupts, Left

__all__ = ["main"]


def main() -> None:
    """The command. Exit codes: 0 done, 2 the user's mistake, 1 a failure of the machine or of a run, 130 interrupted.

    An interrupt may come at once, so it is heard before anything large is imported.
    """
    interrupts, stdout, code = Interrupts(), None, 0
    try:
        interrupts.listen()
        stdout = settle()
        from distill_prune.cli.application import obey

        obey(sys.argv[1:])
    except Left:
        pass
    except BaseException as problem:
        if interrupts.asked or isinstance(problem, Interrupted | KeyboardInterrupt):
            interrupts.end()
            print(SAID, file=sys.stderr)
            code = 130
        else:
            code = _told(problem)
    interrupts.end()
    flush()
    sys.exit(code or _undelivered(stdout))


def _told(problem: BaseException) -> int:
    """Say what went wrong; the exit code. What nobody foresaw is raised again."""
    if isinstance(problem, SystemExit):
        return problem.code if isinstance(problem.code, int) else 0
    from distill_prune.errors import DistillPruneError, RunError, system_error
    from distill_prune.letters import printable_lines

    if isinstance(problem, OSError):
        where = f"'{problem.filename}' cannot be used" if problem.filename else "the system refused"
        problem = system_error(where, problem, "another --store or -o")
    elif isinstance(problem, MemoryError):
        problem = RunError("out of memory", fix="a machine with more memory, or a smaller study")
    if not isinstance(problem, DistillPruneError):
        raise problem
    said = f"{problem.label}: {problem}" if problem.label else str(problem)
    for line in ("error: " + said, *getattr(problem, "__notes__", ())):
        print(printable_lines(line), file=sys.stderr)
    if os.environ.get("DISTILL_PRUNE_DEBUG") and problem.trace:
        print(problem.trace, file=sys.stderr)
    return problem.exit_code


def _undelivered(stdout: Outlet | None) -> int:
    """1 where the answer could not be written. A reader that has left has read enough."""
    if stdout is None or stdout.problem is None or stdout.problem.errno == errno.EPIPE:
        return 0
    from distill_prune.errors import system_error

    print(f"error: {system_error('the answer could not be written to standard output', stdout.problem)}", file=sys.stderr)
    return 1
