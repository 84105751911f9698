"""What a study that can claim nothing lacks: more initialisations, and what they take."""

from __future__ import annotations

from distill_prune.analyze.paired import CLAIMS_FROM
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.store.store import Store
from distill_prune.study.costs import prices
from distill_prune.study.outcome import Next


def further(graph: Graph, store: Store, workers: int) -> Next | None:
    """The seeds from which on a difference can be claimed, with the artifacts and seconds that they take more; None where the
    study has as many, or compares nothing."""
    p = graph.pipeline
    if len(p.seeds) >= CLAIMS_FROM or not graph.units:
        return None
    new = (seed for seed in range(CLAIMS_FROM + len(p.seeds)) if seed not in p.seeds)
    seeds = (*p.seeds, *(next(new) for _ in range(CLAIMS_FROM - len(p.seeds))))
    grown = build(p.model_copy(update={"seeds": seeds}), store)
    known = prices(grown, store)
    missing = [key for key, node in grown.nodes.items() if not store.has(node.stage, key)]
    return {
        "option": f"--set seeds=[{','.join(map(str, seeds))}]",
        "artifacts": len(missing),
        "seconds": sum(known[key].seconds for key in missing) / workers,
        "workers": workers,
    }
