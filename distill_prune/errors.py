"""One family of errors. A message says what happened to what, what was got and expected, and how to fix it."""

from __future__ import annotations

import difflib
import errno
import os
import re
from collections.abc import Iterable, Sequence
from typing import TypeVar

from distill_prune.letters import printable, printable_lines

T = TypeVar("T")

ONE_OF = "one of: "
"""How a list of what is known begins, in what is expected."""
LISTED = 40
"""Names that a message lists; of more it lists some that are near."""


class DistillPruneError(Exception):
    """A failure that the tool understands. Printed as one message; `exit_code` is the command's.

    `label` is that of the artifact that could not be made, `log` the path of its log, `trace` the traceback of an error that
    nobody foresaw, and `setting` the name of the setting to change, among those of the room that raises; all are empty
    elsewhere. With `ends_run` nothing else of a run can be written either.
    """

    exit_code = 1
    label = ""
    log = ""
    trace = ""
    ends_run = False

    def __init__(
        self, what: str, *, got: object = None, expected: object = None, fix: str | None = None, setting: str = ""
    ) -> None:
        self.what, self.got, self.expected, self.fix, self.setting = what, got, expected, fix, setting
        super().__init__(self._text())

    def _text(self) -> str:
        lines = [self.what]
        if self.got is not None:
            lines.append(f"  got:      {self.got}")
        if self.expected is not None:
            listed = str(self.expected)
            lines.append(f"  expected {listed}" if listed.startswith(ONE_OF) else f"  expected: {listed}")
        if self.fix is not None:
            lines.append(f"  fix:      {self.fix}")
        return printable_lines("\n".join(lines))

    def place(self, where: str) -> None:
        """Put in front where the setting stands that the error is about."""
        self.what = f"{where}: {self.what}"
        self.args = (self._text(),)

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling that carries an error out of a worker.
        return _rebuild, (type(self), self.what, self.got, self.expected, self.fix, self.__dict__)


def _rebuild(
    kind: type[DistillPruneError], what: str, got: object, expected: object, fix: str | None, state: dict[str, object]
) -> DistillPruneError:
    error = kind.__new__(kind)
    DistillPruneError.__init__(error, what, got=got, expected=expected, fix=fix)
    error.__dict__.update(state)
    return error


class UserError(DistillPruneError):
    """Something that the user can fix: exit code 2, nothing was lost."""

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
            f"{stage} {key[:12]} cannot be read by this user", got=reason, fix="its owner can share it: chmod -R g+rX"
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


_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_FORBIDDEN = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_NO_PLACE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY, errno.ELOOP})
_ADVICE = {
    errno.EIO: "check the disk and its connection; what is finished is kept",
    errno.ENOMEM: "free memory, or fewer --workers",
    errno.EMFILE: "let a process open more files: ulimit -n",
    errno.ENFILE: "let the system open more files",
    errno.EFBIG: "let a process write larger files (ulimit -f), or another file system",
}
_NUMBER = re.compile(r"\(os error (\d+)\)")


def forbidden(problem: OSError) -> bool:
    """Whether this user, or anybody, may not write there."""
    return problem.errno in _FORBIDDEN


def system_error(
    what: str, problem: Exception, elsewhere: str = "another path", kind: type[UserError] = UserError
) -> DistillPruneError:
    """What the system refused, as one error: one rule for all commands.

    A path that cannot be used is the user's mistake, an error of the given `kind`: it is missing, forbidden, read-only, too
    long, or a file in place of a folder. A full or broken disk and a lack of memory are a `RunError`. `what` could not be done;
    `elsewhere` says where another path is given. `problem` is an OSError, or an error of a library that quotes one.
    """
    quoted = _NUMBER.search(str(problem))
    number = int(quoted[1]) if quoted else problem.errno if isinstance(problem, OSError) else None
    got = os.strerror(number) if number else problem
    if number in _FULL:
        full = RunError(what, got=got, fix="make room on the disk and run the command again: what is finished is kept")
        full.ends_run = True
        return full
    if number in _FORBIDDEN:
        return kind(what, got=got, fix=f"{elsewhere}, or the permission to use this one")
    if number == errno.ENAMETOOLONG:
        return kind(what, got=got, fix="a shorter path")
    if number in _NO_PLACE:
        return kind(what, got=got, fix=elsewhere)
    return RunError(what, got=got, fix=_ADVICE.get(number or 0))


def needed(value: T | None, what: str, whose: str) -> T:
    """`value`, where there is one.

    Raises:
        RunError: there is none, and `whose` work needs it.
    """
    if value is None:
        raise RunError(f"{whose} needs {what}, and there is none")
    return value


class Misfit(ValueError):
    """A value that cannot be used, for validators of settings to raise: as an error of the family, but without the file.

    `place` are the keys of the value below the settings that are validated: empty where it is these.
    """

    def __init__(
        self, what: str, place: Sequence[str] = (), *, got: object = None, expected: object = None, fix: str | None = None
    ) -> None:
        self.what, self.place, self.got, self.expected, self.fix = what, tuple(place), got, expected, fix
        parts = (".".join(self.place), what, None if got is None else f"got {got}", expected, fix)
        super().__init__(printable(": ".join(str(part) for part in parts if part)))


def nearest(name: str, known: Iterable[str], meant: str | None = None) -> str:
    """A sentence that lists the known names, after the one that is `meant`: by default the nearest to `name`, if any is."""
    names = sorted(known)
    if not names:
        return "nothing: there are no names here"
    near = meant or next(iter(difflib.get_close_matches(name, names, n=1, cutoff=0.5)), None)
    alike = names if len(names) <= LISTED else difflib.get_close_matches(name, names, n=LISTED // 4, cutoff=0.3)
    more = "" if alike is names else f"{', ' * bool(alike)}... ({len(names):,} in all)"
    listed = f"{ONE_OF}{', '.join(alike)}{more}"
    return f"did you mean '{near}'? {listed}" if near else listed
