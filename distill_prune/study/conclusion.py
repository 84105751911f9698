"""The answer of a finished study, out of a store."""

from __future__ import annotations

from typing import cast

from distill_prune.analyze.declared import foreign, in_rows
from distill_prune.analyze.metric import Metric
from distill_prune.analyze.records import Summary
from distill_prune.plan.nodes import Graph
from distill_prune.run import measured
from distill_prune.run.devices import usual_workers
from distill_prune.store.store import Store
from distill_prune.study.further import further
from distill_prune.study.outcome import Document, outcome
from distill_prune.study.study import answer


def conclusion(graph: Graph, store: Store) -> Document:
    """What the study says, as data.

    Raises:
        DamagedArtifact: the summary, or what was measured of a set, is not in the store or is damaged.
    """
    numbers = {key: measured.numbers(store, "compare", key) for key in (graph.summary, *(m.key for m in graph.set_measures))}
    more = further(graph, store, usual_workers(graph.pipeline.threads))
    summary = cast("Summary", numbers[graph.summary])
    return outcome(answer(graph, numbers), summary, metrics(graph), more, graph.pipeline.claim_p)


def metrics(graph: Graph) -> dict[str, Metric]:
    """The metrics of the study's rows, by name."""
    return {metric.name: metric for metric in in_rows(foreign(graph.pipeline.compare))}
