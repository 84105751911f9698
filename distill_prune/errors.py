"""One family of errors. A message says what happened to what, what was got and expected, and how to fix it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


class DistillPruneError(Exception):
    """A failure that the tool understands. Printed as one message; `exit_code` is the command's.

    `label` is that of the artifact that could not be made, and `trace` the traceback of an error that nobody foresaw; both are
    empty elsewhere.
    """

    exit_code = 1
    label = ""
    trace = ""

    def __init__(self, what: str, *, got: object = None, expected: object = None, mend: str | None = None) -> None:
        self.what, self.got, self.expected, self.mend = what, got, expected, mend
        lines = [what]
        if got is not None:
            lines.append(f"  got:      {got}")
        if expected is not None:
            lines.append(f"  expected: {expected}")
        if mend is not None:
            lines.append(f"  mend:     {mend}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling that carries an error out of a worker.
        return _rebuild, (type(self), self.what, self.got, self.expected, self.mend, self.__dict__)


def _rebuild(
    kind: type[DistillPruneError], what: str, got: object, expected: object, mend: str | None, state: dict[str, object]
) -> DistillPruneError:
    error = kind.__new__(kind)
    DistillPruneError.__init__(error, what, got=got, expected=expected, mend=mend)
    error.__dict__.update(state)
    return error


class UserError(DistillPruneError):
    """Something that the user can mend: exit code 2, nothing was lost."""

    exit_code = 2


class ConfigError(UserError):
    """A pipeline file, a `--set` or a settings value that cannot be used."""


class DataError(UserError):
    """A data source that is missing or does not hold what it should."""


class StoreError(UserError):
    """A store that cannot be read or written, or a reference that names nothing in it."""


class UnreadableArtifact(StoreError):
    """An artifact of another user, who has not shared it. It may be whole: nobody moves it aside."""

    def __init__(self, stage: str, key: str, reason: str) -> None:
        self.stage, self.key, self.reason = stage, key, reason
        super().__init__(
            f"{stage} {key[:12]} cannot be read by this user", got=reason, mend="its owner can share it: chmod -R g+rX"
        )


class DeviceError(UserError):
    """A device that this machine does not have."""


class RunError(DistillPruneError):
    """A computation failed; every finished artifact is kept."""


class NonFiniteError(RunError):
    """A loss, gradient or weight became infinite or NaN."""


class DamagedArtifact(RunError):
    """An artifact whose files do not match its manifest. It has been moved aside and can be computed again."""

    def __init__(self, stage: str, key: str, reason: str) -> None:
        self.stage, self.key, self.reason = stage, key, reason
        super().__init__(f"damaged artifact {stage}/{key[:12]}: {reason}")


def needed(value: T | None, what: str, whose: str) -> T:
    """`value`, where there is one.

    Raises:
        RunError: there is none, and `whose` work needs it.
    """
    if value is None:
        raise RunError(f"{whose} needs {what}, and there is none")
    return value


def nearest(name: str, known: Iterable[str]) -> str:
    """A sentence that lists the known names, the nearest to `name` first where one is near."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    listed = ", ".join(names)
    return f"did you mean '{close[0]}'? known: {listed}" if close else f"known: {listed}"
