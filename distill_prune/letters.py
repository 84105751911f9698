"""Text that comes from anywhere, as terminals, figures and files can take it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

_ODD = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ufeff\ufffe\uffff\ud800-\udfff]")
"""What acts and has no shape of its own: control characters, ends of lines, turns of the direction of writing, characters that
no XML may hold, and surrogates, which stand for bytes of file names that are no UTF-8."""


def printable(text: str) -> str:
    r"""`text` on one line, odd characters as escapes.

    >>> printable("caf\udce9\n")
    'caf\\udce9\\n'
    """
    return _ODD.sub(lambda odd: odd[0].encode("unicode_escape").decode("ascii"), text)


def printable_lines(text: str) -> str:
    """The same for a text of several lines."""
    return "\n".join(map(printable, text.split("\n")))


def looks(text: str) -> str:
    """`text` as one sees it: letters in one form, blanks as one, nothing that has no width. Equal for texts that look alike."""
    letters = unicodedata.normalize("NFKC", text)
    shown = "".join(c for c in letters if unicodedata.category(c) not in ("Cf", "Cc", "Zl", "Zp") or c.isspace())
    return " ".join(shown.split())


def look_alike(names: Iterable[str]) -> tuple[str, str] | None:
    """The first two different names that look alike."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(looks(name), name)
        if other != name:
            return other, name
    return None
