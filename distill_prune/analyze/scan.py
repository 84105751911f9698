"""The same arms at several rewinding steps k: where copies become stable, and tickets matching, measured together.

Onset: the first k of a scan from which on the verdict is yes at every later k, too. A k at which the verdict is "no", "not
measured" or "not decidable" ends what came before it. Every k is held to the dense networks of its own k.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis, sections 3 and 4 (Frankle et al., 2020),
      https://arxiv.org/abs/1912.05671
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distill_prune.analyze.metric import ACCURACY, BARRIER
from distill_prune.analyze.verdict import MATCHING, STABLE, Property, Verdict
from distill_prune.duration import Duration

Record = Mapping[str, Any]

SHOWN = ("sparsity", ACCURACY, BARRIER, MATCHING.name, STABLE.name)


def scan(arms: Sequence[Record], rows: Sequence[Record]) -> list[dict[str, Any]]:
    """One row an arm as it is called at the first step, level (the dense one, too) and k in ascending order, out of the
    summary's `rows`; none without a scan."""
    base_and_k = {a["name"]: (a.get("base", a["name"]), a["k"]) for a in arms if "k" in a}
    ks = ascending([k for _, k in base_and_k.values()])
    bases = list(dict.fromkeys(base for base, _ in base_and_k.values()))
    scanned = [
        {"arm": base_and_k[r["arm"]][0], "k": base_and_k[r["arm"]][1], "level": r["level"], **{key: r[key] for key in SHOWN}}
        for r in rows
        if r["arm"] in base_and_k
    ]
    return sorted(scanned, key=lambda r: (bases.index(r["arm"]), r["level"], ks.index(r["k"])))


def onsets(scanned: Sequence[Record]) -> list[dict[str, Any]]:
    """From which k on each arm is stable and matching, level by level, out of `scan`. Dense networks that several arms
    share stand there once, under the first of them; they are matching by definition."""
    rows_by_place: dict[tuple[str, int], list[Record]] = {}
    for row in scanned:
        rows_by_place.setdefault((row["arm"], row["level"]), []).append(row)
    onset, shared = [], []
    for (arm, level), rows in rows_by_place.items():
        if level == 0:
            numbers = [{key: r[key] for key in ("k", *SHOWN)} for r in rows]
            if numbers in shared:
                continue
            shared.append(numbers)
        onset.append(
            {
                "arm": arm,
                "level": level,
                "sparsity": rows[0]["sparsity"],
                "stable_at": _from(rows, STABLE),
                "matching_at": _from(rows, MATCHING),
                "ks": [r["k"] for r in rows],
            }
        )
    return onset


def _from(rows: Sequence[Record], prop: Property) -> str | None:
    """The first k of the last unbroken run of yes that reaches the end."""
    first = None
    for row in reversed(rows):
        if row[prop.name] != Verdict.YES:
            break
        first = row["k"]
    return first


def ascending(steps: Sequence[str]) -> list[str]:
    """The distinct rewinding steps in ascending order. Steps and epochs cannot be compared: those keep the order given."""
    ordered: list[Duration] = []
    for step in map(Duration.of, dict.fromkeys(steps)):
        ordered.insert(next((i for i, other in enumerate(ordered) if step < other), len(ordered)), step)
    return [str(step) for step in ordered]
