"""How far a chain carries: verdicts on an arm at a level, and the largest sparsity at which they hold.

    matching: mean accuracy >= mean - sd (sample) of the dense networks, minus a margin where asked; at least 3 units
    stable:   mean test barrier < 0.02

are verdicts on means over initialisations. One initialisation is held to the same bounds by its own accuracy and barrier;
its reach is the largest sparsity of the pruned levels measured at which it holds, 0 where there is none.

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
from typing import Any

from distill_prune.analyze.estimate import Estimate, dependent, estimate

Record = Mapping[str, Any]

STABLE_BELOW = 0.02
DECIDABLE_FROM = 3


def least_matching(dense: Estimate | None, margin: float) -> float | None:
    """The lowest accuracy that is matching; None where the dense networks are too few to tell."""
    if dense is None or (dense["n"] or 0) < DECIDABLE_FROM:
        return None
    return (dense["mean"] or 0) - (dense["sd"] or 0) - margin


def matching(accuracy: Estimate | None, least: float | None) -> str:
    """yes, no or "not decidable"."""
    if accuracy is None or least is None or (accuracy["n"] or 0) < DECIDABLE_FROM:
        return "not decidable"
    return "yes" if (accuracy["mean"] or 0) >= least else "no"


def stable(barrier: Estimate | None) -> str:
    """yes, no or "not measured"."""
    if barrier is None or barrier["mean"] is None:
        return "not measured"
    return "yes" if barrier["mean"] < STABLE_BELOW else "no"


def reach(rows: Sequence[Record], levels: Mapping[int, Mapping[int, Record]], least: float | None) -> dict[str, dict[str, Any]]:
    """The largest matching and the largest stable sparsity of one arm, by its rows and by its units {level: {seed: unit}}.

    Each has `last` (of the verdicts; None where none is yes), `known` (whether any verdict was decided), `units` (estimate
    over initialisations; None where there is nothing to hold them to) and `at_least` (how many are censored).
    """
    pruned = [unit for level, held in levels.items() if level for unit in held.values()]
    accuracies = [(u, u["accuracy"]) for u in pruned if u.get("accuracy") is not None]
    barriers = [(u, u["barrier_test"]) for u in pruned if u.get("barrier_test") is not None]
    told = [r for r in rows if r["level"]]
    return {
        "matching": _largest("matching", told, [] if least is None else [(u, value >= least) for u, value in accuracies]),
        "stable": _largest("stable", told, [(u, value < STABLE_BELOW) for u, value in barriers]),
    }


def _largest(verdict: str, rows: Sequence[Record], looked: Sequence[tuple[Record, bool]]) -> dict[str, Any]:
    """Of one verdict, from an arm's pruned rows and from its pruned units, each with whether it holds."""
    by_seed: dict[int, list[tuple[float, bool]]] = {}
    for unit, holds in looked:
        by_seed.setdefault(unit["seed"], []).append((unit["sparsity"], holds))
    reached = [max((sparsity for sparsity, holds in found if holds), default=0.0) for found in by_seed.values()]
    return {
        "last": max((r["sparsity"] for r in rows if r[verdict] == "yes"), default=None),
        "known": any(r[verdict] in ("yes", "no") for r in rows),
        "units": (estimate if len(set(reached)) > 1 else dependent)(reached) if reached else None,
        "at_least": sum(max(found)[1] for found in by_seed.values()),
    }
