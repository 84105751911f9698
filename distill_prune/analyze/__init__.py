"""Analyses by name. An entry has `Settings`, `TAKES` (kind of tuple it measures) and `measure(settings, ...) -> Measurements`.

`TAKES` is "copies" (the retrained copies of one ticket), "pair" (two masks), "set" (one synthetic set) or "study" (the
measurements of all of these). `measure` is called by the names of its parameters, with what it asks for:

    copies    model, copies, masks, parts, train, validation, test, streams, progress
    pair      a, b
    set       model, synthetic, parts, transform, streams, device, progress, network
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
        "ranking": "distill_prune.analyze.ranking",
        "summary": "distill_prune.analyze.summary",
    },
)
