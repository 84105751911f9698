"""Paired differences: every arm minus its control within initialisations, with exact p-values and what may be claimed.

A difference is taken at equal seed and level, and in a scan at equal rewinding step. Its 95 % interval is Student's; p is
that of the exact sign-flip test (estimate.py); `p_holm` is p corrected for all rows of the same metric (Holm). A claim
needs 6 pairs, an interval without zero and, where the settings ask, a largest p; it is not corrected.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

from distill_prune.analyze.estimate import Estimate, estimate, holm, sign_flip_p, smallest_p

Record = Mapping[str, Any]

CLAIMS_FROM = 6
ROUNDING = 1e-14
"""How far, relative to the values subtracted, means of counts may be off: pairs that tie on paper must tie here."""


class Told(NamedTuple):
    """How a metric's differences are put into words."""

    what: str
    scale: float = 1.0
    unit: str = ""


PAIRED = {
    "accuracy": Told("accuracy", 100, " points"),
    "barrier_test": Told("test barrier", 100, " points"),
    "trace_per_weight": Told("trace per weight"),
    "trace_invariant": Told("rescaling-invariant trace"),
    "top_eigenvalue": Told("largest eigenvalue"),
    "disagreement": Told("disagreement of copies", 100, " points"),
}


def control_of(arm: Record, arms: Sequence[Record], versus: str) -> str | None:
    """The arm that `arm` is compared with: `versus`, in a scan at the arm's own rewinding step, for an arm of another task the
    first one of that task that was found on it; None where there is none."""
    task = next((a.get("task") for a in arms if a["name"] == versus), None)
    if arm.get("task") != task:
        names = [a["name"] for a in arms if a.get("task") == arm.get("task") and "control" not in a]
    elif "base" in arm:
        names = [a["name"] for a in arms if a.get("base") == versus and a.get("k") == arm.get("k")]
    else:
        names = [a["name"] for a in arms if a["name"] == versus]
    return next((n for n in names if n != arm["name"]), None)


def differences(units: Sequence[Record], arms: Sequence[Record], versus: str, claim_p: float) -> list[dict[str, Any]]:
    """One row an arm, pruned level and metric of `PAIRED` that both arms have; level 0 is shared by all arms."""
    labels = {a["name"]: a.get("label") or a["name"] for a in arms}
    held: dict[tuple[str, int], dict[int, Record]] = {}
    for u in units:
        held.setdefault((u["arm"], u["level"]), {}).setdefault(u["seed"], u)
    results: list[dict[str, Any]] = []
    levels = sorted({level for _, level in held} - {0})
    for arm, level in product(arms, levels):
        control = control_of(arm, arms, versus)
        if control is None:
            continue
        name = arm["name"]
        ours, theirs = held.get((name, level), {}), held.get((control, level), {})
        for metric in PAIRED:
            both = [(ours[s].get(metric), theirs[s].get(metric)) for s in sorted(ours.keys() & theirs.keys())]
            pairs = [(a, b) for a, b in both if a is not None and b is not None]
            if not pairs:
                continue
            apart = [a - b for a, b in pairs]
            difference = estimate(apart)
            p = sign_flip_p(apart, ROUNDING * sum(abs(a) + abs(b) for a, b in pairs))
            results.append(
                {
                    "arm": name,
                    "versus": control,
                    "level": level,
                    "metric": metric,
                    "difference": difference,
                    "p": p,
                    "p_smallest": smallest_p(len(pairs)),
                    "claim": _claim(labels[name], labels[control], metric, level, difference) if p <= claim_p else None,
                }
            )
    for metric in PAIRED:
        rows = [r for r in results if r["metric"] == metric]
        for row, corrected in zip(rows, holm([r["p"] for r in rows]), strict=True):
            row["p_holm"] = corrected
    return results


def _claim(arm: str, control: str, metric: str, level: int, difference: Estimate) -> str | None:
    """A sentence, from 6 units on and where the interval excludes zero."""
    low, high, n = difference["low"], difference["high"], difference["n"]
    if low is None or high is None or n is None or n < CLAIMS_FROM or low <= 0 <= high:
        return None
    told = PAIRED[metric]
    return (
        f"{told.what} of {arm} is {'higher' if low > 0 else 'lower'} than of {control} by "
        f"{told.scale * abs(difference['mean'] or 0):.3g}{told.unit} at level {level} (n = {n})"
    )


def carried(row: Record) -> str:
    """The difference of a row whose claim holds, in words: its direction, size and interval, p and n."""
    difference, told = row["difference"], PAIRED[row["metric"]]
    up = difference["mean"] > 0
    low, high = sorted(abs(told.scale * difference[end]) for end in ("low", "high"))
    return (
        f"{told.what} {'higher' if up else 'lower'} by {abs(told.scale * difference['mean']):.3g} "
        f"[{low:.3g}, {high:.3g}]{told.unit} (p = {row['p']:.2g}, n = {difference['n']})"
    )
