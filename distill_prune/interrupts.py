"""Interrupts of a command: by the terminal, by `kill`, or because the terminal has gone.

An interrupt may come while Python still imports, so this module imports little itself.
"""

from __future__ import annotations

import _thread
import os
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    Handler = Callable[[int, FrameType | None], object]

SAID = "interrupted; what was finished is kept, run again to go on"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(BaseException):
    """An interrupt under a name of our own: typer answers KeyboardInterrupt itself, without a word."""


class Left(BaseException):
    """A command that only looks was told to end: it made nothing, and nothing is lost."""


def end_at_once() -> None:
    """Until somebody listens, nothing has begun: an interrupt ends the process where it stands."""
    _answer(_end)


def _end(*_: object) -> None:
    try:
        os.write(2, f"{SAID}\n".encode())
    finally:
        os._exit(130)


def _answer(handler: Handler) -> None:
    """A signal that whoever started the command has ignored (`nohup`, a shell's `&`) stays ignored."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


class Interrupts:
    """Turns signals into `Interrupted`, raised where the command is at work. `asked` says whether there was one."""

    def __init__(self) -> None:
        self.asked = False

    def listen(self) -> None:
        """From now on, to those signals that are not ignored."""
        _answer(self._raise)
        sys.unraisablehook = self._again

    def end(self) -> None:
        """The command is over, and only its process is left to end: nothing is there to interrupt."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        sys.unraisablehook = sys.__unraisablehook__

    def _raise(self, number: int, _: object) -> None:
        self.asked, self._number = True, number
        raise Interrupted

    def _again(self, lost: sys.UnraisableHookArgs) -> None:
        """An interrupt that met code which cannot pass it on, such as a callback of an import, comes once more."""
        if isinstance(lost.exc_value, Interrupted):
            _thread.start_new_thread(_later, (self._number,))
        else:
            sys.__unraisablehook__(lost)


def _later(number: int) -> None:
    """Send this process a signal when the code that lost the first one has returned."""
    time.sleep(0.01)
    os.kill(os.getpid(), number)
