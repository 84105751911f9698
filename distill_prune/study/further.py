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
    draws = p.distill_seeds
    if min(len(p.seeds), len(draws or p.seeds)) >= CLAIMS_FROM or not graph.units:
        return None
    changes = {"seeds": _grown(p.seeds), **({"distill_seeds": _grown(draws)} if draws else {})}
    grown = build(p.model_copy(update=changes), store)
    known = prices(grown, store)
    missing = [key for key, node in grown.nodes.items() if not store.has(node.stage, key)]
    return {
        "option": " ".join(f"--set {name}=[{','.join(map(str, numbers))}]" for name, numbers in changes.items()),
        "artifacts": len(missing),
        "seconds": sum(known[key].seconds for key in missing) / workers,
        "workers": workers,
    }


def _grown(seeds: tuple[int, ...]) -> tuple[int, ...]:
    """As many as a claim needs: those that are there, and the smallest others."""
    new = (seed for seed in range(CLAIMS_FROM + len(seeds)) if seed not in seeds)
    return (*seeds, *(next(new) for _ in range(CLAIMS_FROM - len(seeds))))
