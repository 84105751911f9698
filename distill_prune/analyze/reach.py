"""Verdicts on an arm at a level, and the sparsest level at which they hold.

    matching: mean accuracy >= mean - sd (sample) of the dense networks, minus a margin where asked; at least 3 units
    stable:   mean test barrier < 0.02

are verdicts on means over initialisations. A single initialisation is judged by the same bounds. Its reach is the largest
sparsity among the pruned levels measured at which it is within them, 0 where there is none.

Limits. A reach is one of the sparsities measured, so its interval over initialisations (Student) is rough and may leave
[0, 1]. It is the largest of several noisy verdicts: a level that fails before it does not end it, and more levels can only
raise it. Where an initialisation still holds at the sparsest level measured, its true reach lies at or above that level
(it is censored, and counted): the mean and its interval are then too low. Where all reach the same level the steps between
levels are too coarse for an interval, and none is given. The error of the dense networks' bound is not in it.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis (Frankle et al., 2020): stable below 2 points
    | The Lottery Ticket Hypothesis for Pre-trained BERT Networks (Chen et al., 2020): matching within one deviation
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distill_prune.analyze.estimate import Estimate, dependent
from distill_prune.analyze.metric import ACCURACY, BARRIER
from distill_prune.analyze.records import ReachOf, Row, Unit, value, verdict_on
from distill_prune.analyze.sets import Place, over
from distill_prune.analyze.verdict import DECIDABLE_FROM, MATCHING, STABLE, STABLE_BELOW, Property, Verdict


def least_matching(dense: Estimate | None, margin: float) -> float | None:
    """The lowest accuracy that is matching; None where the dense networks are too few to tell."""
    if dense is None or dense["n"] < DECIDABLE_FROM:
        return None
    return dense["mean"] - (dense["sd"] or 0) - margin


def matching(accuracy: Estimate | None, least: float | None) -> Verdict:
    """Of the mean accuracy of an arm at a level."""
    if accuracy is None or least is None or accuracy["n"] < DECIDABLE_FROM:
        return Verdict.NOT_DECIDABLE
    return Verdict.of(accuracy["mean"] >= least)


def stable(barrier: Estimate | None) -> Verdict:
    """Of the mean test barrier of an arm at a level."""
    if barrier is None:
        return Verdict.NOT_MEASURED
    return Verdict.of(barrier["mean"] < STABLE_BELOW)


def reach(rows: Sequence[Row], levels: Mapping[int, Mapping[Place, Unit]], least: float | None) -> tuple[ReachOf, ReachOf]:
    """The largest matching and the largest stable sparsity of one arm, by its rows and by its units {level: {place: unit}}.

    Each has `last` (of the verdicts; None where none is yes), `known` (whether any verdict was decided), `units` (estimate
    over initialisations; None where there is nothing to compare them with) and `at_least` (how many are censored).
    """
    pruned = [unit for level, units in levels.items() if level for unit in units.values()]
    accuracies = [(u, accuracy) for u in pruned if (accuracy := value(u, ACCURACY)) is not None]
    barriers = [(u, barrier) for u in pruned if (barrier := value(u, BARRIER)) is not None]
    pruned_rows = [r for r in rows if r["level"]]
    return (
        _largest(MATCHING, pruned_rows, [] if least is None else [(u, v >= least) for u, v in accuracies]),
        _largest(STABLE, pruned_rows, [(u, v < STABLE_BELOW) for u, v in barriers]),
    )


def _largest(prop: Property, rows: Sequence[Row], units: Sequence[tuple[Unit, bool]]) -> ReachOf:
    """Of one property, from an arm's pruned rows and from its pruned units, each with whether it has the property."""
    at: dict[Place, list[tuple[float, bool]]] = {}
    for unit, holds in units:
        at.setdefault(Place.of(unit), []).append((unit["sparsity"], holds))
    reached = {place: max((sparsity for sparsity, holds in levels if holds), default=0.0) for place, levels in at.items()}
    verdicts = [(r["sparsity"], verdict_on(r, prop)) for r in rows]
    return {
        "last": max((sparsity for sparsity, verdict in verdicts if verdict is Verdict.YES), default=None),
        "known": any(verdict is not None and verdict.decided for _, verdict in verdicts),
        "units": (over(reached) if len({*reached.values()}) > 1 else dependent([*reached.values()])) if reached else None,
        "at_least": sum(max(levels)[1] for levels in at.values()),
    }
