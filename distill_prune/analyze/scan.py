"""The same arms at several rewinding steps k: where copies become stable, and tickets matching, measured together.

Onset: the first k of a scan from which on the verdict is yes at every later k, too. A k at which the verdict is "no", "not
measured" or "not decidable" ends what came before it. Each k is compared with the dense networks of the same k.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis, sections 3 and 4 (Frankle et al., 2020),
      https://arxiv.org/abs/1912.05671
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from distill_prune.analyze.metric import ACCURACY, BARRIER
from distill_prune.analyze.records import ArmRecord, OnsetRow, Row, ScanRow, verdict_on
from distill_prune.analyze.verdict import MATCHING, STABLE, Property, Verdict
from distill_prune.duration import Duration

SHOWN = ("sparsity", ACCURACY, BARRIER, MATCHING.name, STABLE.name)


def scan(arms: Sequence[ArmRecord], rows: Sequence[Row]) -> list[ScanRow]:
    """One row an arm as it is called at the first step, level (the dense one, too) and k in ascending order, out of the
    summary's `rows`; none without a scan."""
    base_and_k = {a["name"]: (a.get("base", a["name"]), a["k"]) for a in arms if "k" in a}
    ks = ascending([k for _, k in base_and_k.values()])
    bases = list(dict.fromkeys(base for base, _ in base_and_k.values()))
    scanned = [_scanned(r, *base_and_k[r["arm"]]) for r in rows if r["arm"] in base_and_k]
    return sorted(scanned, key=lambda r: (bases.index(r["arm"]), r["level"], ks.index(r["k"])))


def _scanned(row: Row, base: str, k: str) -> ScanRow:
    numbers = cast(dict[str, object], row)
    return cast(ScanRow, {"arm": base, "k": k, "level": row["level"], **{key: numbers[key] for key in SHOWN}})


def onsets(scanned: Sequence[ScanRow]) -> list[OnsetRow]:
    """From which k on each arm is stable and matching, level by level, out of `scan`. Dense networks that several arms
    share stand there once, under the first of them; they are matching by definition."""
    rows_by_place: dict[tuple[str, int], list[ScanRow]] = {}
    for row in scanned:
        rows_by_place.setdefault((row["arm"], row["level"]), []).append(row)
    onset: list[OnsetRow] = []
    shared: list[list[ScanRow]] = []
    for (arm, level), rows in rows_by_place.items():
        if level == 0:
            numbers: list[ScanRow] = [{**r, "arm": ""} for r in rows]
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


def _from(rows: Sequence[ScanRow], prop: Property) -> str | None:
    """The first k of the last unbroken run of yes that reaches the end."""
    first = None
    for row in reversed(rows):
        if verdict_on(row, prop) is not Verdict.YES:
            break
        first = row["k"]
    return first


def ascending(steps: Sequence[str]) -> list[str]:
    """The distinct rewinding steps in ascending order. Steps and epochs cannot be compared: those keep the order given."""
    ordered: list[Duration] = []
    for step in map(Duration.of, dict.fromkeys(steps)):
        ordered.insert(next((i for i, other in enumerate(ordered) if step < other), len(ordered)), step)
    return [str(step) for step in ordered]
