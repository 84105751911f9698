"""Other users of this machine, by number: commands that run as one of them."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

FIRST, GROUP = 3001, 3000
"""Numbers that no account of a usual machine has; none is made."""


def no_accounts() -> str:
    """Why no command can run as another user; empty where one can."""
    if os.geteuid() != 0:
        return "commands of other users need root"
    if missing := [name for name in ("setpriv", "unshare", "mount") if shutil.which(name) is None]:
        return f"there is no {missing[0]}"
    packages = Path(sys.prefix).resolve()
    if sys.prefix != sys.base_prefix and (closed := _closed(packages / "bin")):
        return f"other users cannot enter '{closed}', where the packages lie"
    return ""


def _closed(place: Path) -> Path | None:
    """The first folder above `place` that others cannot enter."""
    return next((p for p in [*place.parents][::-1] if not p.stat().st_mode & 0o001), None)


@dataclass(frozen=True)
class Account:
    """A user of a group that all have, with a home folder."""

    uid: int
    home: Path

    @classmethod
    def number(cls, number: int, folder: Path) -> Account:
        """The first, second, ... user, with a home in `folder`."""
        account = cls(FIRST + number - 1, folder / f"home-{number}")
        if not account.home.exists():
            account.home.mkdir()
            os.chown(account.home, account.uid, GROUP)
            account.home.chmod(0o700)
        return account

    @property
    def environment(self) -> dict[str, str]:
        return {"HOME": str(self.home), "TMPDIR": str(self.home), "USER": str(self.uid), "LOGNAME": str(self.uid)}

    def words(self, words: Sequence[str], mask: int = 0o002) -> list[str]:
        """The command as this user, files made with `mask`. A Python that lies in a closed folder of root's is shown to this
        process alone, through mounts of its own."""
        python = Path(sys.base_prefix).resolve()
        become = f"umask {mask:o}; exec setpriv --reuid={self.uid} --regid={GROUP} --clear-groups {shlex.join(words)}"
        if (closed := _closed(python)) is not None:
            hold = self.home.parent / "python"
            hold.mkdir(exist_ok=True)
            open_it = (
                f"mount --bind {shlex.quote(str(python))} {shlex.quote(str(hold))}",
                f"mount -t tmpfs -o mode=755 tmpfs {shlex.quote(str(closed))}",
                f"mkdir -p {shlex.quote(str(python))}",
                f"mount --bind {shlex.quote(str(hold))} {shlex.quote(str(python))}",
            )
            become = " && ".join((*open_it, f"{{ {become}; }}"))
        return ["unshare", "--mount", "sh", "-c", become]
