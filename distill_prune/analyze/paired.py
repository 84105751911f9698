"""Paired differences: every arm minus its control within initialisations, with exact p-values and what may be claimed.

A difference is taken at equal seed and level, in a scan at equal rewinding step, and of several draws of the sets at equal
draw. Its 95 % interval is Student's, over several draws that of sets.py; p is that of the exact sign-flip test; `p_holm` is p
corrected for all rows of the same metric (Holm). A claim needs 6 initialisations, and 6 sets where there are several, an
interval without zero and, where the settings ask, a largest p; it is not corrected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product

from distill_prune.analyze.declared import tested
from distill_prune.analyze.estimate import Estimate, holm
from distill_prune.analyze.metric import Metric
from distill_prune.analyze.records import ArmRecord, PairedRow, Unit
from distill_prune.analyze.sets import by_arm_and_level, exact_p, known, minus, over

CLAIMS_FROM = 6
ROUNDING = 1e-14
"""How far, relative to the values subtracted, means of counts may be off: pairs that tie on paper must tie here."""


PAIRED = {m.name: m for m in tested()}
"""The built-in metrics whose differences are tested."""


def control_of(arm: ArmRecord, arms: Sequence[ArmRecord], versus: str) -> str | None:
    """The arm that `arm` is compared with; None where there is none.

    It is `versus`; in a scan, `versus` at the rewinding step of `arm`; for an arm of another task, the first arm of that
    task whose masks come from it.
    """
    task = next((a.get("task") for a in arms if a["name"] == versus), None)
    if arm.get("task") != task:
        names = [a["name"] for a in arms if a.get("task") == arm.get("task") and "control" not in a]
    elif "base" in arm:
        names = [a["name"] for a in arms if a.get("base") == versus and a.get("k") == arm.get("k")]
    else:
        names = [a["name"] for a in arms if a["name"] == versus]
    return next((n for n in names if n != arm["name"]), None)


def differences(
    units: Sequence[Unit],
    arms: Sequence[ArmRecord],
    versus: str,
    claim_p: float,
    metrics: Mapping[str, Metric] = PAIRED,
) -> list[PairedRow]:
    """One row an arm, pruned level and metric that both arms have; level 0 is shared by all arms."""
    labels = {a["name"]: a.get("label") or a["name"] for a in arms}
    units_by_place = by_arm_and_level(units)
    rows: list[PairedRow] = []
    levels = sorted({level for _, level in units_by_place} - {0})
    for arm, level in product(arms, levels):
        control = control_of(arm, arms, versus)
        if control is None:
            continue
        name = arm["name"]
        treated, controls = units_by_place.get((name, level), {}), units_by_place.get((control, level), {})
        for metric in metrics.values():
            by_pair, size = minus(known(treated, metric.name), known(controls, metric.name))
            if not by_pair:
                continue
            difference = over(by_pair)
            p, smallest = exact_p(by_pair, ROUNDING * size)
            rows.append(
                {
                    "arm": name,
                    "versus": control,
                    "level": level,
                    "metric": metric.name,
                    "difference": difference,
                    "p": p,
                    "p_smallest": smallest,
                    "claim": _claim(labels[name], labels[control], metric, level, difference) if p <= claim_p else None,
                }
            )
    for metric_name in metrics:
        family = [r for r in rows if r["metric"] == metric_name]
        for row, corrected in zip(family, holm([r["p"] for r in family]), strict=True):
            row["p_holm"] = corrected
    return rows


def _claim(arm: str, control: str, metric: Metric, level: int, difference: Estimate) -> str | None:
    """A sentence, from 6 units on and where the interval excludes zero."""
    low, high, n = difference["low"], difference["high"], difference["n"]
    if low is None or high is None or n < CLAIMS_FROM or low <= 0 <= high:
        return None
    return (
        f"{metric.in_words} of {arm} is {'higher' if low > 0 else 'lower'} than of {control} by "
        f"{metric.scale * abs(difference['mean']):.3g}{metric.difference_unit} at level {level} (n = {n})"
    )


def carried(row: PairedRow, metric: Metric) -> str:
    """The difference of a row whose claim holds, in words: its direction, size and interval, p and n."""
    difference = row["difference"]
    direction = "higher" if difference["mean"] > 0 else "lower"
    low, high = sorted(abs(metric.scale * (end or 0.0)) for end in (difference["low"], difference["high"]))
    return (
        f"{metric.in_words} {direction} by {abs(metric.scale * difference['mean']):.3g} "
        f"[{low:.3g}, {high:.3g}]{metric.difference_unit} (p = {row['p']:.2g}, n = {difference['n']})"
    )
