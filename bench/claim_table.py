"""Every claim (claims.py) with its figures and its verdict: the table of docs/results.md, which `results.py` writes.

A verdict (verdicts.py) comes from finished records (docs/results/*.json) alone; without a record of the claim's own pipeline it
is "not yet run".
"""

from __future__ import annotations

from collections.abc import Mapping

from claims import CLAIMS, Claim
from verdicts import NOT_RUN, NOT_SHOWN, Record

AGAIN = {"fashion-masks-small": "fashion-masks-small-2"}
"""A study's record, and that of a second run with the same seeds on a processor that rounds otherwise. Neither is chosen: a
claim has a verdict where both give it."""


def _runs(claim: Claim, records: Mapping[str, Record]) -> list[tuple[str, ...]]:
    """The names of the records of a claim, and of its second run, of those at hand."""
    runs = [claim.records, tuple(AGAIN.get(name, "") for name in claim.records)]
    return [run for run in runs if all(name in records for name in run)]


def judged(records: Mapping[str, Record]) -> list[tuple[Claim, str, str]]:
    """Each claim with the figures in words and the verdict, by the records at hand."""
    rows = []
    for claim in CLAIMS:
        figures, verdicts = ["–"], {NOT_RUN}
        if runs := _runs(claim, records):
            figures, verdicts = [], set()
            for run in runs:
                written, verdict = claim.judge([records[name] for name in run])
                figures.append(written)
                verdicts.add(verdict)
        rows.append((claim, "; run again: ".join(figures), verdicts.pop() if len(verdicts) == 1 else NOT_SHOWN))
    return rows


def table(records: Mapping[str, Record]) -> str:
    """The claims as a Markdown table."""
    lines = ["| claim | paper | ours: mean [95% interval] | study | verdict |", "|---|---|---|---|---|"]
    for claim, figures, verdict in judged(records):
        names = [name for run in _runs(claim, records) for name in run]
        study = ", ".join(f"[{n}](results/{n}.md)" for n in names) or f"`{claim.pipeline}`"
        lines.append(f"| {claim.what} | {claim.paper} | {figures} | {study} | {verdict} |")
    return "\n".join(lines) + "\n"
