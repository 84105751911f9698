"""Estimates over initialisations and over sets, where a study draws every set several times.

    one draw an initialisation, each once    y_i  = mu + e_i                  var(mean) = s^2 / n
    nested: draw i has several               y_ij = mu + a_i + e_ij           var(mean) = s_I^2 / I, of the I means over a draw
    crossed: each initialisation has all     y_ij = mu + a_i + b_j + e_ij     var(mean) = (MS_a + MS_b - MS_e) / (I J)

a_i is the effect of one of I sets, b_j that of one of J initialisations, and MS are the mean squares of the two-way table. All
intervals cover another distillation (or draw of a subset) as well as another initialisation. That of the crossed table has the
degrees of freedom of Satterthwaite, and is never narrower than the one that sets alone, or initialisations alone, would give.

`n` of such an estimate is the smaller of the two counts, which is what a claim can rest on. A value without a draw depends on
no set. The exact test (estimate.py) flips signs of the means over a draw; crossed also those of the means over an
initialisation, and the larger p counts.

References:
    | Variance Components, chapter 4 (Searle, Casella and McCulloch, 1992)
    | An approximate distribution of estimates of variance components (Satterthwaite, 1946)
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum, auto
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from distill_prune.analyze.estimate import Estimate, dependent, estimate, interval, sign_flip_p, smallest_p
from distill_prune.analyze.records import Pair, Unit, value


class Place(NamedTuple):
    """An initialisation, and the draw of the sets that it was pruned with; None where it depends on no draw."""

    seed: int
    draw: int | None = None

    @classmethod
    def of(cls, record: Unit | Pair) -> Place:
        return cls(record["seed"], record.get("draw"))


Values = Mapping[Place, float]


R = TypeVar("R", Unit, Pair)


def by_place(records: Iterable[R]) -> dict[Place, R]:
    """The first record of each place."""
    first: dict[Place, R] = {}
    for record in records:
        first.setdefault(Place.of(record), record)
    return first


def by_arm_and_level(units: Iterable[Unit]) -> dict[tuple[str, int], dict[Place, Unit]]:
    """The first unit of each place of every arm at every level."""
    groups: dict[tuple[str, int], dict[Place, Unit]] = {}
    for unit in units:
        groups.setdefault((unit["arm"], unit["level"]), {}).setdefault(Place.of(unit), unit)
    return groups


def known(units: Mapping[Place, Mapping[str, object]], metric: str) -> dict[Place, float]:
    """A metric by place, where it was measured."""
    return {place: float(v) for place, unit in units.items() if (v := value(unit, metric)) is not None}


def minus(units: Values, others: Values) -> tuple[dict[Place, float], float]:
    """Differences within initialisations, and the sum of the sizes of what was subtracted.

    Where both depend on a draw they are of the same one; what depends on none stands beside each.
    """
    differences: dict[Place, float] = {}
    size = 0.0
    by_draw, plain = (units, others) if any(p.draw is not None for p in units) else (others, units)
    for place in sorted(by_draw, key=lambda p: (p.seed, p.draw is not None, p.draw or 0)):
        partner = place if place in plain else Place(place.seed)
        if partner in plain:
            a, b = (place, partner) if by_draw is units else (partner, place)
            differences[place] = units[a] - others[b]
            size += abs(units[a]) + abs(others[b])
    return differences, size


class Design(Enum):
    """How initialisations and draws of the sets stand to one another."""

    PLAIN = auto()
    """Every value is a unit of its own."""
    NESTED = auto()
    """Each initialisation has one draw, and a draw has several."""
    CROSSED = auto()
    """Each initialisation has every draw."""
    GAPS = auto()
    """Crossed, with values missing."""


def design(values: Values) -> Design:
    """The design that values come from, by their places."""
    draws, seeds = _draws(values), {p.seed for p in values}
    if not draws or any(p.draw is None for p in values) or len(values) == len(draws) == len(seeds):
        return Design.PLAIN
    if len(values) == len(seeds):
        return Design.NESTED
    return Design.CROSSED if len(values) == len(draws) * len(seeds) else Design.GAPS


def over(values: Values) -> Estimate:
    """The estimate over the initialisations, and over the sets where there are several draws. At least one value.

    With several draws it has `sets`, their number, and the components `sd_sets` and `sd_seeds` (standard deviations of a_i and
    b_j by moments, 0 at least), where the table tells them apart. A table with gaps has no interval.
    """
    match design(values):
        case Design.PLAIN:
            plain, sets = estimate(list(values.values())), len(_draws(values))
            return {**plain, "sets": sets} if sets > 1 else plain
        case Design.NESTED:
            return _nested(_groups(values))
        case Design.CROSSED:
            return _crossed(_table(values))
        case Design.GAPS:
            return {**dependent(list(values.values())), "n": 1}


def exact_p(values: Values, rounding: float = 0.0) -> tuple[float, float]:
    """The p-value of the paired test of differences, and the smallest that it can have."""
    families: list[list[float]]
    match design(values):
        case Design.PLAIN:
            families = [list(values.values())]
        case Design.NESTED:
            families = [[_mean(group) for group in _groups(values)]]
        case Design.CROSSED:
            table = _table(values)
            families = [means.tolist() for means in (table.mean(1), table.mean(0)) if len(means) > 1]
        case Design.GAPS:
            return 1.0, 1.0
    return max(sign_flip_p(f, rounding) for f in families), max(smallest_p(len(f)) for f in families)


def _draws(values: Values) -> list[int]:
    return sorted({p.draw for p in values if p.draw is not None})


def _groups(values: Values) -> list[list[float]]:
    """Of a nested study: the values of each draw."""
    return [[v for place, v in values.items() if place.draw == draw] for draw in _draws(values)]


def _table(values: Values) -> npt.NDArray[np.float64]:
    """Of a crossed study: values (draws, initialisations)."""
    seeds = sorted({p.seed for p in values})
    return np.array([[values[Place(seed, draw)] for seed in seeds] for draw in _draws(values)])


def _nested(groups: Sequence[Sequence[float]]) -> Estimate:
    """Means over a draw are the units."""
    means = estimate([_mean(group) for group in groups])
    flat = [v for group in groups for v in group]
    within_freedom = len(flat) - len(groups)
    result: Estimate = {**means, "sd": estimate(flat)["sd"], "sets": len(groups)}
    if within_freedom > 0 and means["sd"] is not None:
        within = math.fsum((v - _mean(g)) ** 2 for g in groups for v in g) / within_freedom
        inverse = math.fsum(1 / len(g) for g in groups) / len(groups)
        result["sd_sets"] = math.sqrt(max(0.0, means["sd"] ** 2 - within * inverse))
        result["sd_seeds"] = math.sqrt(within)
    return result


def _crossed(y: npt.NDArray[np.float64]) -> Estimate:
    """Of a full table (draws, initialisations)."""
    sets, seeds = y.shape
    if min(sets, seeds) == 1:
        return {**estimate(y.ravel().tolist()), "sets": sets}
    mean = float(y.mean())
    of_sets, of_seeds = y.mean(1) - mean, y.mean(0) - mean
    rest = y - mean - of_sets[:, None] - of_seeds[None, :]
    squares = np.array([seeds * (of_sets**2).sum(), sets * (of_seeds**2).sum(), (rest**2).sum()])
    freedoms = np.array([sets - 1, seeds - 1, (sets - 1) * (seeds - 1)])
    a, b, e = (squares / freedoms).tolist()
    both, larger = a + b - e, max(a, b)
    if both > larger:
        variance, freedom = both, both**2 / float((np.array([a, b, e]) ** 2 / freedoms).sum())
    else:
        variance, freedom = larger, float(freedoms[0 if a >= b else 1])
    i = interval(mean, math.sqrt(variance / y.size), freedom)
    return {
        "mean": i["mean"],
        "se": i["se"],
        "low": i["low"],
        "high": i["high"],
        "sd": estimate(y.ravel().tolist())["sd"],
        "n": min(sets, seeds),
        "sets": sets,
        "sd_sets": math.sqrt(max(0.0, (a - e) / seeds)),
        "sd_seeds": math.sqrt(max(0.0, (b - e) / sets)),
    }


def _mean(values: Sequence[float]) -> float:
    return math.fsum(values) / len(values)
