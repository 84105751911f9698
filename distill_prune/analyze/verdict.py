"""Verdicts: whether the tickets of an arm at a level are matching, and whether they are stable; or why that is not known."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from distill_prune.analyze.metric import ACCURACY, BARRIER

STABLE_BELOW = 0.02
"""The test barrier, a fraction, below which tickets are stable."""
DECIDABLE_FROM = 3
"""The initialisations that a verdict on matching needs, of the arm and of the dense networks."""


class Verdict(StrEnum):
    """As stored. What is neither yes nor no says why: there are too few initialisations, or no numbers."""

    YES = "yes"
    NO = "no"
    NOT_DECIDABLE = "not decidable"
    NOT_MEASURED = "not measured"

    @classmethod
    def of(cls, holds: bool) -> Verdict:
        return cls.YES if holds else cls.NO

    @property
    def decided(self) -> bool:
        return self in (Verdict.YES, Verdict.NO)


@dataclass(frozen=True)
class Property:
    """What a verdict is on: its name in rows, the metric that decides it, and the words for an open verdict.

    `open` stands in tables where the metric was measured; `open_words` follows "is" in sentences.
    """

    name: str
    metric: str
    open: str
    open_words: str


MATCHING = Property(
    "matching",
    ACCURACY,
    f"not decidable below {DECIDABLE_FROM} initialisations",
    f"not decidably matching below {DECIDABLE_FROM} initialisations",
)
STABLE = Property("stable", BARRIER, "not decidable", "of unmeasured stability")
PROPERTIES = (MATCHING, STABLE)
