"""Metrics: the numbers of a ticket that a study compares, each declared once, by the analysis that measures it.

An analysis of copies may have `METRICS`, a tuple of `Metric`. The summary's rows, the paired tests, the answer, the figures
and tables of the report and `diff` read these declarations and no list of their own; a plugin's are read like the built-in
ones. Metrics of an analysis of sets are shown by `diff` alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from distill_prune.analyze import ANALYSES
from distill_prune.errors import ConfigError, RunError

ACCURACY, BARRIER = "accuracy", "barrier_test"
"""The metrics that verdicts are of (verdict.py)."""

ROWS = ("accuracy", "connectivity", "curvature", "disagreement", "spectrum", "diagonal", "metrics")
TESTS = ("accuracy", "connectivity", "curvature", "spectrum", "disagreement")
"""Built-in analyses in the order that stored summaries have: of the metrics of a row, and of the rows of paired tests."""

_OF_TICKETS = tuple(n for n in ANALYSES.own if n in ROWS)

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

_TAKEN = frozenset(
    (
        *("arm", "seed", "level", "sparsity", "n", "k", "key", "label", "remaining", "total"),
        *("matching", "stable", "iou", "chance", "z"),
        *("synthetic", "distillation", "interpolation", "layerwise", "between", "scan", "layer_traces", "diagonal"),
        *("histograms", "density", "layers", "transfer", "costs", "overlap"),
    )
)
"""Names that rows, tickets and figures have for something else."""


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
        unit: of the values times `scale`; a share has the scale 100, and its differences are in points.
        at: where it lies in the analysis's numbers, key by key; (`name`,) if empty. A number, or an estimate.
        part: which number of the estimate.
        log: whether its axis is logarithmic where all values are positive.
        group: the figures that it is drawn with, one of `GROUPS`; None: it has no figure.
        words: its name in sentences; the title in lower case if empty.
        tested: whether its differences between arms are tested and drawn.
        question: what the answer says of its differences; None: nothing.
        column: its heading in the table of all levels; `heading` if empty, None: no column.
        beside: its name in `diff`; `name` if empty, None: not shown there.
        some_tasks: whether only some tasks are scored by it: then its absence is not worth a remark.
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


def declared(analysis: str) -> tuple[Metric, ...]:
    """The metrics of an analysis; none where it declares none.

    Raises:
        ConfigError: a plugin's declaration cannot be used.
    """
    entry = ANALYSES[analysis]
    metrics = entry.METRICS
    if analysis not in ANALYSES.own:
        _check(analysis, entry.TAKES, metrics)
    return metrics


def _check(analysis: str, takes: str, metrics: object) -> None:
    """Look at a plugin's declaration as far as a study would fail, or mix two numbers up, after hours."""
    what = f"METRICS of the analysis '{analysis}'"
    if not isinstance(metrics, tuple) or not all(isinstance(m, Metric) for m in metrics):
        raise ConfigError(what, got=repr(metrics), expected="a tuple of distill_prune.analyze.metric.Metric")
    if metrics and takes not in ("copies", "set"):
        raise ConfigError(what, got=f"an analysis that takes '{takes}'", expected="one that takes 'copies' or 'set'")
    taken = {*_TAKEN, *(m.name for own in ROWS for m in declared(own))}
    for m in metrics:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", m.name):
            raise ConfigError(f"{what}: a name", got=repr(m.name), expected="small letters, digits and underscores")
        if m.name in taken or m.name.startswith(("paired_", "landscape_")):
            raise ConfigError(f"{what}: the name '{m.name}' is taken", mend=f"another one, like '{analysis}_{m.name}'")
        if m.group is not None and m.group not in GROUPS:
            raise ConfigError(f"{what}: the group of '{m.name}'", got=repr(m.group), expected=f"one of {', '.join(GROUPS)}")
        if not m.title:
            raise ConfigError(f"{what}: '{m.name}' has no title", mend=f'Metric("{m.name}", "What it is called")')
        taken.add(m.name)


def foreign(analyses: Iterable[str]) -> tuple[str, ...]:
    """Those of the analyses that are plugins' and declare metrics of tickets, in alphabetical order.

    Raises:
        ConfigError: a declaration cannot be used, or two analyses declare metrics of one name.
    """
    by_name: dict[str, str] = {}
    names = [n for n in sorted(analyses) if n not in ANALYSES.own and declared(n) and ANALYSES[n].TAKES == "copies"]
    for analysis in names:
        for m in declared(analysis):
            if (other := by_name.setdefault(m.name, analysis)) != analysis:
                raise ConfigError(f"the analyses '{other}' and '{analysis}' both have a metric '{m.name}'", mend="other names")
    return tuple(names)


def in_rows(more: Iterable[str] = ()) -> tuple[Metric, ...]:
    """The metrics of a summary's row, in its order; `more` are plugins' analyses."""
    return (*_of(ROWS), *_of(more))


def tested(more: Iterable[str] = ()) -> tuple[Metric, ...]:
    """The metrics whose differences are tested, in the order of the rows."""
    return tuple(m for m in (*_of(TESTS), *_of(more)) if m.tested)


def on_page(more: Iterable[str] = ()) -> tuple[Metric, ...]:
    """The metrics that have a title: in the order of the table of analyses, what only some tasks are scored by after the
    others, and what has no figure last."""
    titled = [m for m in (*_of(_OF_TICKETS), *_of(more)) if m.title]
    return tuple(sorted(titled, key=lambda m: (m.group is None, m.some_tasks)))


def columns(more: Iterable[str] = ()) -> tuple[Metric, ...]:
    """The metrics that have a column in the table of all levels, in the order of the table of analyses."""
    return tuple(m for m in (*_of(_OF_TICKETS), *_of(more)) if m.title and m.column is not None)


def beside(more: Iterable[str] = ()) -> dict[str, tuple[str, Metric]]:
    """The analysis and the metric by its name in `diff`, which lists tickets' first."""
    analyses = [*_OF_TICKETS, "evaluation", *more]
    return {m.beside or m.name: (n, m) for n in analyses for m in declared(n) if m.beside is not None}


def _of(analyses: Iterable[str]) -> Iterator[Metric]:
    for analysis in analyses:
        yield from declared(analysis)


def readings(analysis: str, numbers: Mapping[str, object]) -> dict[str, float | None]:
    """The values of an analysis's metrics by name; a metric that its numbers do not have is left out.

    Raises:
        RunError: there is something else than a number or an estimate where a metric should lie.
    """
    values: dict[str, float | None] = {}
    for m in declared(analysis):
        node: object = numbers
        for key in m.place:
            node = node.get(key, _ABSENT) if isinstance(node, Mapping) else _ABSENT
        if isinstance(node, Mapping):
            node = node.get(m.part, _ABSENT)
        if node is _ABSENT:
            continue
        if node is not None and (isinstance(node, bool) or not isinstance(node, int | float)):
            raise RunError(
                f"the metric '{m.name}' of the analysis '{analysis}'",
                got=f"{node!r} under {' / '.join(m.place)}",
                expected="a number or an estimate",
            )
        values[m.name] = node
    return values


_ABSENT = object()
