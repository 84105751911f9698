"""Made-up studies as plain records, what to ask of their summaries, and slow, obvious twins of the statistics."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from reference_analyze import ARMS, COSTS

from distill_prune.analyze import summary
from distill_prune.analyze.answer import Answer, compare
from distill_prune.analyze.inputs import Study
from distill_prune.analyze.sentences import sentences

Record = dict[str, Any]


def summarise(units: Sequence[Record], arms: Any = ARMS, pairs: Any = (), costs: Any = COSTS, **settings: Any) -> Record:
    numbers = summary.measure(summary.Settings(**settings), Study(units, arms, pairs, costs)).numbers
    json.dumps(numbers, allow_nan=False)
    return numbers


def verdict_and_rest(numbers: Record, versus: str = "real") -> tuple[str, str]:
    """The answer's first sentence and the others, made of the numbers anew."""
    records = [numbers[name] for name in ("arms", "rows", "paired", "scan", "onset")]
    first, *rest = sentences(Answer(compare(*records, versus)))
    assert " ".join([first, *rest]) == numbers["answer"]
    return first, " ".join(rest)


def row_of(numbers: Record, arm: str, level: int) -> Record:
    (row,) = [r for r in numbers["rows"] if r["arm"] == arm and r["level"] == level]
    return row


def unit(arm: str, seed: int, level: int, **metrics: float | None) -> Record:
    """A unit at sparsity 1 - 0.8^level."""
    return {"arm": arm, "seed": seed, "level": level, "sparsity": 1 - 0.8**level, **metrics}


def arm(name: str, **more: Any) -> Record:
    return {
        "name": name,
        "images": "real",
        "recipe": "retrain",
        "criterion": "magnitude",
        "label": "",
        "learned": False,
        **more,
    }


TWO = [arm("real"), arm("syn", images="synthetic", learned=True)]


def scan_arms(*ks: str) -> list[Record]:
    """`real`, `syn` and the control `shuffled` at every step, the first one as the base."""
    first = [*TWO, arm("shuffled", control={"of": "real", "kind": "shuffled"})]
    found = [a | {"k": ks[0]} for a in first]
    return found + [a | {"name": f"{a['name']}@{k}", "base": a["name"], "k": k} for k in ks[1:] for a in first]


KS = ("0it", "10it", "50it")
BARRIER = {"real": [0.05, 0.01, 0.01], "syn": [0.05, 0.05, 0.01]}
ACCURACY = {"real": [0.8, 0.95, 0.95], "syn": [0.95, 0.95, 0.95]}


def name_at(base: str, k: str, first: str = KS[0]) -> str:
    return base if k == first else f"{base}@{k}"


def units_of_scan(
    barrier: Any, accuracy: Any = ACCURACY, ks: Sequence[str] = KS, seeds: Any = range(3), dense_barrier: Any = None
) -> list[Record]:
    """Level 1 of `real` and `syn` by {arm: one value a step}; dense networks at 0.9, 0.91, 0.92, all arms' of a step."""
    units = []
    for i, k in enumerate(ks):
        for s in seeds:
            for base in ("real", "syn", "shuffled"):
                place = name_at(base, k, ks[0])
                dense = None if dense_barrier is None else dense_barrier[i]
                units.append(unit(place, s, 0, accuracy=0.9 + 0.01 * (s % 3), barrier_test=dense))
                if base in barrier:
                    units.append(unit(place, s, 1, accuracy=accuracy[base][i] + 0.001 * s, barrier_test=barrier[base][i]))
    return units


def closed_testing(ps: Sequence[float]) -> list[float]:
    """Adjusted p-values by closed testing with Bonferroni's test of every intersection, which is what Holm's come to."""
    m = len(ps)
    subsets = [s for size in range(1, m + 1) for s in itertools.combinations(range(m), size)]
    return [max(min(1.0, len(s) * min(ps[j] for j in s)) for s in subsets if i in s) for i in range(m)]


def sign_flips_exactly(differences: Sequence[Fraction]) -> float:
    """The share of all signings whose sum is at least as far from zero, in exact arithmetic."""
    target = abs(sum(differences))
    signs = itertools.product((1, -1), repeat=len(differences))
    reaching = sum(abs(sum(s * d for s, d in zip(signing, differences, strict=True))) >= target for signing in signs)
    return reaching / 2 ** len(differences)
