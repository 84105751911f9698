"""The graph of one evaluation of a set that is in the store: the same artifact as a pipeline's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from distill_prune.analyze import ANALYSES
from distill_prune.errors import StoreError, UserError
from distill_prune.models import MODELS
from distill_prune.pipeline.config import Pipeline, entry, validated
from distill_prune.pipeline.files import override
from distill_prune.pipeline.graph import Graph
from distill_prune.pipeline.jobs import CompareJob
from distill_prune.pipeline.store import Store


def evaluation_graph(store: Store, ref: str, assignments: Sequence[str]) -> tuple[Graph, str]:
    """The graph that holds the evaluation of the set `ref`, and the evaluation's key.

    Raises:
        StoreError: `ref` is no synthetic set, or its data set is not in the store.
        UserError: the set was made without a network, and none was named.
    """
    found = store.find(ref)
    if found.stage != "distill":
        raise StoreError(
            f"'{ref}' is not a synthetic set", got=f"{found.stage}/{found.key[:12]}", mend="`distill-prune ls distill`"
        )
    manifest = store.manifest("distill", found.key)
    raw: dict[str, Any] = {"model": manifest["settings"].get("model") or {}}
    override(raw, assignments)
    model = raw.pop("model")
    if not model:
        raise UserError(
            "the set was made without a network, so the one to evaluate it with must be named",
            mend="--set model.name=convnet --set model.width=16 ...",
        )
    data = manifest["inputs"]["data"]
    if not store.has("data", data):
        raise StoreError(f"the set's data, {data[:12]}, are not in the store", mend="`distill-prune data PIPELINE` makes them")
    job = CompareJob(
        analysis=validated(ANALYSES["evaluation"].Settings, raw, "", "--set"),
        model=entry(MODELS, model, "model", "--set"),
        threads=manifest["threads"],
    )
    graph = Graph(_bare(job.threads))
    key = graph.add("compare", job, {"data": data, "set": found.key}, f"evaluation of {ref}", "compare evaluation")
    return graph, key


def _bare(threads: int) -> Pipeline:
    """A pipeline of nothing but its number of threads."""
    return Pipeline.model_construct(threads=threads, device="cpu")  # type: ignore[call-arg]
