"""Analyses by name. An entry has `Settings`, `TAKES` (kind of tuple it measures) and `measure(settings, ...) -> Measurements`.

`TAKES` is "copies" (the retrained copies of one ticket), "tickets" (those of two), "pair" (two masks), "set" (one synthetic
set) or "study" (the measurements of all of these). `measure` is called by the names of its parameters, with what it asks for:

    copies    model, copies, masks, start, parts, train, validation, test, distilled, streams, progress
    tickets   model, copies_a, copies_b, mask_a, mask_b, train, test, streams, progress
    pair      a, b
    set       model, synthetic, parts, transform, streams, device, progress, network

An entry may have `METRICS`, the numbers of a ticket that studies compare (metric.py).
"""

from __future__ import annotations

from distill_prune.table import Table

ANALYSES = Table(
    "analysis",
    {
        "accuracy": "distill_prune.analyze.accuracy",
        "metrics": "distill_prune.analyze.metrics",
        "connectivity": "distill_prune.analyze.connectivity",
        "disagreement": "distill_prune.analyze.disagreement",
        "layerwise": "distill_prune.analyze.layerwise",
        "between": "distill_prune.analyze.between",
        "landscape": "distill_prune.analyze.landscape",
        "curvature": "distill_prune.analyze.curvature",
        "spectrum": "distill_prune.analyze.spectrum",
        "diagonal": "distill_prune.analyze.diagonal",
        "overlap": "distill_prune.analyze.overlap",
        "evaluation": "distill_prune.analyze.evaluation",
        "ranking": "distill_prune.analyze.ranking",
        "summary": "distill_prune.analyze.summary",
    },
)
