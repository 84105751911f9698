"""Metrics: the numbers of a ticket that a study compares, each declared once, by the analysis that measures it.

An analysis of copies may have `METRICS`, a tuple of `Metric`. The summary's rows, the paired tests, the answer, the figures
and tables of the report and `diff` read these declarations and no other list; a plugin's are read like the built-in
ones. Metrics of an analysis of sets are shown by `diff` alone.
"""

from __future__ import annotations

from dataclasses import dataclass

ACCURACY, BARRIER = "accuracy", "barrier_test"
"""The metrics that verdicts are of (verdict.py)."""

GROUPS = ("accuracy", "scores", "barrier", "apart", "trace", "spectrum", "further")
"""Figures that stand together on the page; `further` has a section of its own, where a plugin's go if it names no other."""

WHOLE_NETWORKS = (
    "Barriers and disagreement are of whole networks as functions; relative distance is over all parameters, biases and "
    "norms included, and pruned weights are zero in every copy of a ticket."
)
SURVIVORS = (
    "Traces, eigenvalues and diagonals are over the surviving prunable weights alone, at fixed biases and norms; between "
    "tickets with different survivors compare the trace per weight and the rescaling-invariant trace, not the raw one."
)


@dataclass(frozen=True)
class Question:
    """A question that the answer puts to the differences: what an arm is where every metric of it is lower, or higher.

    `claimed` is what is asked of arms on learned images, where one side alone is of interest.
    """

    name: str
    lower: str
    higher: str
    claimed: str = ""

    @property
    def either(self) -> str:
        """What is asked where both sides are of interest."""
        less = next((side for side in (self.lower, self.higher) if side.startswith("less")), None)
        return f"more or {less}" if less else f"{self.lower} or {self.higher}"


IS_ACCURATE = Question("accuracy", "less accurate", "more accurate")
IS_STABLE = Question("stability", "more stable", "less stable", "more stable")
IS_FLAT = Question("flatness", "flatter", "less flat", "flatter")


@dataclass(frozen=True)
class Metric:
    """One number of a ticket, the mean over its copies, and how it is read, tested, drawn and put into words.

    Attributes:
        name: its key in records and rows, and the name of its figure.
        title: its name on axes and in headings; empty where the page does not show it.
        unit: of the values times `scale`; a share has the scale 100, and its differences are in points;
            all else has 1.
        at: where it lies in the analysis's numbers, key by key; (`name`,) if empty. A number, or an estimate.
        part: which number of the estimate.
        log: whether its axis is logarithmic where all values are positive.
        group: the figures that it is drawn with, one of `GROUPS`; None: it has no figure.
        words: its name in sentences; the title in lower case if empty.
        tested: whether its differences between arms are tested and drawn.
        question: what the answer says of its differences; None: nothing.
        column: its heading in the table of all levels; `heading` if empty, None: no column.
        beside: its name in `diff`; `name` if empty, None: not shown there.
        some_tasks: whether only some tasks are scored by it, or few studies ask for it: then its absence is not worth a remark.
        note: a sentence that a reader needs beside it.
    """

    name: str
    title: str = ""
    unit: str = ""
    scale: float = 1.0
    at: tuple[str, ...] = ()
    part: str = "mean"
    log: bool = False
    group: str | None = "further"
    words: str = ""
    tested: bool = False
    question: Question | None = None
    column: str | None = ""
    beside: str | None = ""
    some_tasks: bool = False
    note: str = ""

    @property
    def heading(self) -> str:
        """The title with its unit."""
        return f"{self.title} ({self.unit})" if self.unit else self.title

    @property
    def in_words(self) -> str:
        return self.words or self.title.lower()

    @property
    def difference_unit(self) -> str:
        """What follows a difference in a sentence."""
        return " points" if self.scale == 100 else ""

    @property
    def place(self) -> tuple[str, ...]:
        """The keys under which it lies in the analysis's numbers."""
        return self.at or (self.name,)
