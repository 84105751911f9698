"""What a kind of faults is: a promise, and trials that may find it broken."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

from fault_kinds.studies import Study


class Broken(Exception):
    """A promise that did not hold, with what was seen instead."""


@dataclass(frozen=True)
class Outcome:
    """What a trial saw, in a few words that are counted; and figures, of which the largest is kept."""

    words: str
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scene:
    """What the trials of a kind share: the tiny study, a folder of the kind's own, and how many trials run side by side."""

    study: Study
    folder: Path
    jobs: int


Trial = Callable[[Path, random.Random], Outcome]
"""One trial, in an empty folder, with the draws that decide all of it.

Raises:
    Broken: the promise does not hold.
"""


@dataclass(frozen=True)
class Kind:
    """One kind. `begin` prepares what its trials share, and clears it away at the end.

    `long` and `short` are the trials of the two forms of the campaign. `cannot` says why no trial can be made on this machine;
    it is empty where one can.
    """

    promise: str
    long: int
    short: int
    begin: Callable[[Scene], AbstractContextManager[Trial]]
    cannot: Callable[[], str] = lambda: ""


class BrokenRecord(TypedDict):
    """One broken trial: its number, and what was seen, without the places of this machine."""

    trial: int
    reason: str


class KindRecord(TypedDict):
    """One kind's counts. `seconds` are wall time, and `core_seconds` those of all processes but Ray's. `not_run` says why there
    are no trials."""

    promise: str
    asked: int
    trials: int
    outcomes: dict[str, int]
    figures: dict[str, float]
    broken: list[BrokenRecord]
    seconds: float
    core_seconds: float
    not_run: str


class CampaignRecord(TypedDict):
    """One campaign. `machine` says processor, cores, versions and date."""

    commit: str
    form: str
    seed: int
    machine: dict[str, str | float]
    kinds: dict[str, KindRecord]
