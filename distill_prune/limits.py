"""Bounds on what comes from outside: each limit, and its reason, once.

Sizes are declared before they are decoded. A reader counts what its files declare, refuses what is too much, and decodes the
rest. What it counts is memory: the values, and the copies of them that it makes. So a process that reads with the default
limit stays below 1 GB, of which the libraries take about 300 MB.
"""

from __future__ import annotations

import os
import re
from decimal import Decimal

from distill_prune.errors import DataError, UserError

VARIABLE = "DISTILL_PRUNE_MAX_SIZE"
"""Environment variable of the memory that one source may take. Processes that a command starts inherit it."""
DEFAULT = 512 * 10**6
"""Bytes of memory that the reading of one source may take. CIFAR-10, packed as .npz, takes 370 MB."""
MEMBERS = 100_000
"""Members of a zip file: a file of 100 million bytes could have two million, each an object."""
OPCODES = 1_000_000
"""Instructions of a pickle: to follow a million takes some seconds. A replay buffer of 10 experts has 150,000."""
NESTING = 64
"""How deep values stand in each other: code that walks them calls itself."""
PIPELINE_BYTES = 2**20
"""Of a pipeline file: the longest that ships has 6,000."""
PIPELINE_VALUES = 100_000
"""Values that a pipeline file stands for, those that aliases repeat included."""
ARTIFACTS = 100_000
"""Of one study: the shipped ones have up to some thousands, and planning as many as this takes ten seconds. Several pipelines
share what they have in common."""
CELLS = 256
"""Studies of one sweep."""
DOCUMENT_BYTES = 32 * 2**20
"""Of a JSON file of a store. Its values may take twenty times as much memory."""
LOG_BYTES = 4 * 2**20
"""Of what code prints while one artifact is made, in its log: code that prints without end must not fill the disk."""
OBJECTS = 32
"""Bytes of memory that a byte of JSON may become: `[],` is an object of 64 bytes and its place in a list."""

_UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,6})?) ?([KMGT]?B)?", re.ASCII | re.IGNORECASE)


def size_of(text: str, what: str) -> int:
    """The bytes that a size such as `4GB`, `1.5 GB` or `800MB` stands for; `what` names it in messages.

    Raises:
        UserError: it is no size, or none above zero.
    """
    match = _SIZE.fullmatch(text.strip())
    size = int(Decimal(match[1]) * _UNITS.get((match[2] or "").upper(), 1)) if match else 0
    if size < 1:
        raise UserError(f"{what} is no size", got=repr(text), expected="a number and a unit, such as 800MB or 4GB")
    return size


def max_size() -> int:
    """The memory in bytes that one source may take: $DISTILL_PRUNE_MAX_SIZE, else the default.

    Raises:
        UserError: the variable holds no size.
    """
    text = os.environ.get(VARIABLE)
    return size_of(text, f"${VARIABLE}") if text else DEFAULT


def shown(size: int) -> str:
    """A size for people, rounded up, as `--max-size` takes it."""
    unit = next((u for u in ("GB", "MB", "KB") if size >= _UNITS[u]), "B")
    tenths = -(-size * 10 // (_UNITS[unit] if unit != "B" else 1))
    return f"{tenths // 10}.{tenths % 10}{unit}" if tenths % 10 else f"{tenths // 10}{unit}"


class Budget:
    """What the reading of one source has taken, of the memory that it may take. `source` names it in messages."""

    def __init__(self, source: object) -> None:
        self.source, self.taken, self.most = source, 0, max_size()

    def take(self, size: int, why: str = "") -> None:
        """Take `size` bytes more, before they are decoded. `why` says what they are for.

        Raises:
            DataError: that is more than the source may take.
        """
        self.check(size, why)
        self.taken += size

    def check(self, size: int, why: str = "") -> None:
        """See whether there are `size` bytes more, for what is freed again.

        Raises:
            DataError: that is more than the source may take.
        """
        needs = self.taken + size
        if needs > self.most:
            raise DataError(
                f"'{self.source}' takes too much memory to read",
                got=shown(needs) + (f", {why}" if why else ""),
                expected=f"at most {shown(self.most)}",
                fix=f"--max-size {shown(needs)} (or ${VARIABLE}), where it is meant to be so large",
            )
