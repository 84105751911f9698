"""A run of the table as plain data, and its medians. No import of torch: the page is written without it."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import NamedTuple, TypedDict

FAILED = "failed with "
"""What the reason begins with why a side is absent that failed."""


class SideRecord(TypedDict):
    """One side of a row: seconds round by round, seconds of the run before them, and MiB at the peak where it was measured."""

    name: str
    plain: bool
    goal: float | None
    memory_goal: float | None
    first_seconds: float | None
    seconds: list[float]
    mb: list[float]


class RowRecord(TypedDict):
    """One row. `absent` are sides that the measured version does not have, and why."""

    work: str
    threads: int
    peak_gflops: float
    flops: float | None
    sides: list[SideRecord]
    absent: dict[str, str]


class TableRecord(TypedDict):
    """One run of the table on one machine."""

    label: str
    commit: str
    machine: dict[str, str | float]
    device: str
    clock: str
    repeats: int
    rows: dict[str, RowRecord]


class Spread(NamedTuple):
    """First quartile, median and third quartile."""

    low: float
    middle: float
    high: float


def spread(values: Sequence[float]) -> Spread:
    return Spread(*(statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3))


def plain(row: RowRecord) -> SideRecord | None:
    """The side that the others are compared with."""
    return next((s for s in row["sides"] if s["plain"]), None)


def ratio(row: RowRecord, side: SideRecord) -> Spread | None:
    """The ratios of the rounds: of a side's seconds to the plain side's in the same round."""
    base = plain(row)
    if base is None or side["plain"]:
        return None
    return spread([a / b for a, b in zip(side["seconds"], base["seconds"], strict=True)])


def memory_ratio(row: RowRecord, side: SideRecord) -> float | None:
    """The median memory of a side over the plain side's."""
    base = plain(row)
    if base is None or side["plain"] or not side["mb"]:
        return None
    return spread(side["mb"]).middle / spread(base["mb"]).middle


def share_of_peak(row: RowRecord, side: SideRecord) -> float | None:
    """The work's operations a second over those of the fastest matrix product."""
    if row["flops"] is None:
        return None
    return row["flops"] / spread(side["seconds"]).middle / (1e9 * row["peak_gflops"])
