"""Analyses by name. What an entry has is `Analysis`; what its `measure` is given, one record for each kind, is in `inputs`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, Protocol

from distill_prune.argument import check_argument
from distill_prune.errors import ConfigError
from distill_prune.settings import Entry
from distill_prune.table import EntryModule, Table

if TYPE_CHECKING:
    from distill_prune.analyze.inputs import Input
    from distill_prune.analyze.metric import Metric
    from distill_prune.artifacts import Measurements

Takes = Literal["copies", "tickets", "pair", "set", "study"]
"""The retrained copies of one ticket, those of two, two masks, one synthetic set, or the measurements of all of these."""


class Analysis(EntryModule, Protocol):
    """An entry of the table. `TAKES` is the kind of record that it measures."""

    Settings: type[Entry]
    TAKES: Takes
    MIN_COPIES: int = 1
    """The fewest copies of a ticket that it can be asked for."""
    DISTILLED: bool = False
    """Whether it looks at the learned images of the study, `copies.distilled`."""
    LANES: bool = False
    """Whether it lets networks share their steps where a pipeline asks for lanes, and reads `lanes` of its record."""
    METRICS: tuple[Metric, ...] = ()
    """The numbers of a ticket or set that studies compare."""

    def measure(self, settings: Entry, given: Input, /) -> Measurements:
        """The numbers of one record: `given` is the record of `inputs` that `TAKES` names."""


def check_takes(entry: Analysis, what: str) -> None:
    """Refuse somebody else's analysis that asks for what there is not.

    Raises:
        ConfigError: `TAKES` is of no known kind, `measure` has other parameters than the settings and one record, or it
            reads what that record has not.
    """
    from distill_prune.analyze.inputs import INPUTS

    # A study asks for its summary by name: another one would never be called.
    kinds = [kind for kind in INPUTS if kind != "study"]
    if entry.TAKES not in kinds:
        raise ConfigError(f"{what}: TAKES", got=repr(entry.TAKES), expected=" or ".join(kinds))
    flags = {"distilled": ("DISTILLED", entry.DISTILLED), "lanes": ("LANES", entry.LANES)}
    undeclared = {name: flag for name, (flag, declared) in flags.items() if not declared}
    check_argument("measure", entry.measure, INPUTS[entry.TAKES], what, undeclared)


ANALYSES: Table[Analysis] = Table(
    "analysis",
    "analyses",
    Analysis,
    {
        "accuracy": "distill_prune.analyze.accuracy",
        "metrics": "distill_prune.analyze.metrics",
        "connectivity": "distill_prune.analyze.connectivity",
        "disagreement": "distill_prune.analyze.disagreement",
        "layerwise": "distill_prune.analyze.layerwise",
        "between": "distill_prune.analyze.between",
        "rebasin": "distill_prune.analyze.rebasin",
        "landscape": "distill_prune.analyze.landscape",
        "curvature": "distill_prune.analyze.curvature",
        "spectrum": "distill_prune.analyze.spectrum",
        "diagonal": "distill_prune.analyze.diagonal",
        "overlap": "distill_prune.analyze.overlap",
        "evaluation": "distill_prune.analyze.evaluation",
        "ranking": "distill_prune.analyze.ranking",
        "summary": "distill_prune.analyze.summary",
    },
    check_takes,
)
