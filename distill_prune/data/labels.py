"""Names of classes that a person takes for one, and numbers of classes that nobody means."""

from __future__ import annotations

from collections.abc import Iterable

from distill_prune.errors import DataError
from distill_prune.letters import look_alike

FEW, SHARE = 1000, 10
"""Numbered labels may leave out most numbers up to FEW classes, and SHARE - 1 of SHARE beyond."""


def check_names(names: Iterable[str], where: str) -> None:
    """Refuse classes whose names look alike: they differ by blanks, invisible characters or the form of their letters alone.

    Raises:
        DataError: naming two of them.
    """
    if pair := look_alike(names):
        raise DataError(
            f"two classes of '{where}' look alike",
            got=f"{pair[0]!a} and {pair[1]!a}",
            expected="names that differ in what one sees",
            fix="one spelling in all files; or give the classes other names",
        )


def check_numbers(distinct: int, lowest: int, highest: int, where: str) -> None:
    """Refuse labels that are no numbers of classes from 0 on: they are 1 .. K, or the largest stands for far more classes than
    there are.

    Raises:
        DataError: so.
    """
    if lowest == 1 and highest == distinct:
        raise DataError(
            f"the labels of '{where}' begin at 1",
            got=f"1 .. {highest}",
            expected=f"0 .. {highest - 1} for {highest} classes",
            fix="save y - 1, or name the classes from 0 on in `classes`",
        )
    if highest >= FEW and highest >= SHARE * distinct:
        raise DataError(
            f"the labels of '{where}' are no numbers of classes",
            got=f"{distinct} distinct labels, the largest {highest}",
            expected="0 .. K - 1 for K classes",
            fix="number the classes from 0, or name them all in `classes`",
        )
