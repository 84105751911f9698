"""What commands print for people: durations, the width of the terminal, where time was spent."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from datetime import datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from distill_prune.run.profile import Part


def columns() -> int:
    """Columns of the terminal, from 40 on; of a pipe 100."""
    return max(shutil.get_terminal_size((100, 24)).columns, 40)


def duration(seconds: float) -> str:
    """Seconds in the units that people use: 8 s, 3 min 20 s, 2 h 5 min."""
    s = round(seconds)
    if s < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{s} s"
    return f"{s // 60} min {s % 60} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60} min"


def size(count: int) -> str:
    """Bytes in the units that people use, powers of a thousand: 312 B, 1.2 kB, 29 MB."""
    number, unit = float(count), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if number < 999.5:
            break
        number, unit = number / 1000, larger
    return f"{number:.1f} {unit}" if unit != "B" and number < 9.95 else f"{number:.0f} {unit}"


def moment(created: str) -> str:
    """A time in ISO 8601 as the clock here showed it: 2026-11-29 13:25. Other text as it is."""
    try:
        return f"{datetime.fromisoformat(created).astimezone():%Y-%m-%d %H:%M}"
    except (ValueError, OverflowError):
        return created


def spent(parts: Sequence[Part]) -> list[str]:
    """Lines that say where the time of a run went, by kind of artifact: seconds of all workers."""
    from distill_prune.run.profile import added

    if not parts:
        return ["profile: nothing was made"]
    total = sum(part.total for part in parts)
    lines = [f"{'kind of artifact':28}{'made':>7}{'computing':>12}{'reading':>10}{'writing':>10}{'waiting':>10}{'share':>7}"]
    for part in (*parts, added(parts)):
        seconds = f"{part.computing:10.1f} s{part.reading:8.2f} s{part.writing:8.2f} s{part.waiting:8.2f} s"
        lines.append(f"{part.kind:28.28}{part.artifacts:7,}{seconds}{part.total / total if total else 0.0:7.0%}")
    return lines
