"""Names of classes that a person takes for one, and numbers of classes that nobody means."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from distill_prune.errors import DataError

FEW, SHARE = 1000, 10
"""Numbered labels may leave out most numbers up to FEW classes, and SHARE - 1 of SHARE beyond."""


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse classes whose names look alike: they differ by blanks, invisible characters or the form of their letters alone.

    Raises:
        DataError: naming two of them.
    """
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(_looks(name), name)
        if other != name:
            raise DataError(
                f"two classes of '{where}' look alike",
                got=f"{other!a} and {name!a}",
                expected="names that differ in what one sees",
                mend="one spelling in all files; or give the classes other names",
            )


def _looks(name: str) -> str:
    """A name as one sees it: letters in one form, blanks as one, nothing that has no width."""
    letters = unicodedata.normalize("NFKC", name)
    shown = "".join(c for c in letters if unicodedata.category(c) not in ("Cf", "Cc", "Zl", "Zp") or c.isspace())
    return " ".join(shown.split())


def check_numbers(distinct: int, highest: int, where: str) -> None:
    """Refuse labels of which the largest stands for far more classes than there are: they are no numbers of classes.

    Raises:
        DataError: so.
    """
    if highest >= FEW and highest >= SHARE * distinct:
        raise DataError(
            f"the labels of '{where}' are no numbers of classes",
            got=f"{distinct} distinct labels, the largest {highest}",
            expected="0 .. K - 1 for K classes",
            mend="number the classes from 0, or name them all in `classes`",
        )
