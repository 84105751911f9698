"""How many initialisations are matching, and how many are stable: counts with exact intervals.

A single initialisation is judged by the bounds that the verdicts on means have (reach.py). With y of n of them in favour,
the 95% interval of the share is that of Clopper and Pearson, by quantiles of Beta distributions:

    low = B(0.025; y, n - y + 1) (0 where y = 0),   high = B(0.975; y + 1, n - y) (1 where y = n)

It covers the share at least 95 times in 100, at any n. The error of the dense networks' bound is not in it. Where an
initialisation has several draws of its set, it is judged by its mean over them, and the interval is conditional on these draws.

References:
    | The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial (Clopper and Pearson, 1934)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from typing_extensions import TypedDict

from distill_prune.analyze.records import ArmRecord, Unit
from distill_prune.analyze.sets import Place, known
from distill_prune.analyze.summary import held_to
from distill_prune.analyze.verdict import MATCHING, STABLE, STABLE_BELOW, Property


class Share(TypedDict):
    """Of the `n` initialisations of an arm at a level that were measured, `yes` have a property: its interval as fractions."""

    arm: str
    level: int
    sparsity: float
    property: str
    yes: int
    n: int
    low: float
    high: float


def shares(units: Sequence[Unit], arms: Sequence[ArmRecord], margin: float) -> list[Share]:
    """A row for each arm, pruned level and property; none where a property was not measured, or nothing is to match with.

    A unit whose ticket is missing has no sparsity, and counts for nothing.
    """
    lines: list[Share] = []
    for arm, levels, least in held_to([u for u in units if "sparsity" in u], arms, margin):
        for level, by_place in levels.items():
            if level == 0 or not by_place:
                continue
            if least is not None:
                lines += _share(arm, level, by_place, MATCHING, (v >= least for v in _values(by_place, MATCHING)))
            lines += _share(arm, level, by_place, STABLE, (v < STABLE_BELOW for v in _values(by_place, STABLE)))
    return lines


def _values(units: Mapping[Place, Unit], prop: Property) -> list[float]:
    """One an initialisation."""
    draws: dict[int, list[float]] = {}
    for place, v in known(units, prop.metric).items():
        draws.setdefault(place.seed, []).append(v)
    return [sum(values) / len(values) for values in draws.values()]


def _share(arm: ArmRecord, level: int, units: Mapping[Place, Unit], prop: Property, holding: Iterable[bool]) -> list[Share]:
    verdicts = list(holding)
    if not verdicts:
        return []
    low, high = clopper_pearson(sum(verdicts), len(verdicts))
    sparsity = sum(u["sparsity"] for u in units.values()) / len(units)
    return [
        {
            "arm": arm["name"],
            "level": level,
            "sparsity": sparsity,
            "property": prop.name,
            "yes": sum(verdicts),
            "n": len(verdicts),
            "low": low,
            "high": high,
        }
    ]


def clopper_pearson(yes: int, n: int) -> tuple[float, float]:
    """The exact 95% interval of a share of which `yes` of `n` are in favour."""
    from scipy.special import betaincinv

    low = float(betaincinv(yes, n - yes + 1, 0.025)) if yes else 0.0
    high = float(betaincinv(yes + 1, n - yes, 0.975)) if yes < n else 1.0
    return low, high
