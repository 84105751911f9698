"""Analyses by name. An entry has `Settings`, `TAKES` (kind of tuple it measures) and `measure(...) -> Measurements`.

`TAKES` is "copies" (the retrained copies of one ticket), "pair" (two masks), "set" (one synthetic set) or "study" (the
measurements of all of these).
"""

from __future__ import annotations

from distill_prune.table import Table

ANALYSES = Table(
    "analysis",
    {
        "accuracy": "distill_prune.analyze.accuracy",
        "connectivity": "distill_prune.analyze.connectivity",
        "curvature": "distill_prune.analyze.curvature",
        "overlap": "distill_prune.analyze.overlap",
        "evaluation": "distill_prune.analyze.evaluation",
        "summary": "distill_prune.analyze.summary",
    },
)
