"""Letters that matplotlib's own font lacks are drawn with installed fonts that have them.

What no font has becomes a box in a PNG. In an SVG text stays text, and the reader's fonts draw it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import cache

OWN = "DejaVu Sans"
_NO_HELP = ("lastresort", "last resort")
"""Fonts that have a box for every letter."""


@cache
def _letters(file: str) -> frozenset[int]:
    """The letters that a font has; none where it cannot be drawn at every size."""
    from matplotlib.font_manager import get_font

    with contextlib.suppress(OSError, RuntimeError):
        font = get_font(file)
        if font.scalable:
            return frozenset(font.get_charmap())
    return frozenset()


def families(text: str) -> list[str]:
    """The installed families, by name, that together have most of what the own font lacks for a text."""
    from matplotlib.font_manager import findfont

    wanted = {ord(letter) for letter in set(text) if not letter.isascii()} - _letters(findfont(OWN))
    chosen = []
    for family, file in _installed() if wanted else ():
        if have := wanted & _letters(file):
            chosen.append(family)
            wanted -= have
    return chosen


def _installed() -> Iterator[tuple[str, str]]:
    """Upright fonts of usual weight, one a family."""
    from matplotlib.font_manager import fontManager

    files = {f.name: f.fname for f in fontManager.ttflist if f.style == "normal" and f.weight in (400, "normal", "regular")}
    yield from sorted((n, f) for n, f in files.items() if not n.lower().startswith(_NO_HELP))
