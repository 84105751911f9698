"""The graph of the measurements of a set that is in the store: the same artifacts as a pipeline's."""

from __future__ import annotations

from collections.abc import Sequence

from distill_prune.analyze import ANALYSES
from distill_prune.errors import ConfigError, StoreError, UserError, nearest
from distill_prune.models import MODELS, resolved
from distill_prune.plan.config import Pipeline
from distill_prune.plan.files import override
from distill_prune.plan.jobs import CompareJob
from distill_prune.plan.nodes import Graph, SetMeasure
from distill_prune.plan.places import SET
from distill_prune.plan.validate import entry, validated
from distill_prune.settings import Json, canonical
from distill_prune.store.store import Store


def evaluation_graph(store: Store, ref: str, assignments: Sequence[str], analyses: Sequence[str] = ("evaluation",)) -> Graph:
    """The graph that holds the analyses of the set `ref`, as its `set_measures`.

    `assignments` change the evaluation (`nets=3`), the network (`model.width=32`), add networks (`architectures.NAME.name=...`)
    or say on which prepared data set an imported set is tested (`dataset=KEY`).

    Raises:
        StoreError: `ref` is no synthetic set, or its data set is not in the store.
        UserError: the set was made without a network, and none was named.
    """
    synthetic = store.find(ref)
    if synthetic.stage != "distill":
        raise StoreError(
            f"'{ref}' is not a synthetic set",
            got=f"{synthetic.stage}/{synthetic.key[:12]}",
            fix="`distill-prune ls distill`",
        )
    manifest = store.manifest("distill", synthetic.key)
    raw: dict[str, Json] = {"model": canonical(manifest.settings.get("model") or {})}
    override(raw, assignments)
    model, others, dataset = raw.pop("model"), raw.pop("architectures", None) or {}, raw.pop("dataset", None)
    if not model:
        raise UserError(
            "the set was made without a network, so the one to evaluate it with must be named",
            fix="--set model.name=convnet --set model.width=16 ...",
        )
    if not isinstance(others, dict):
        raise ConfigError("'architectures' in --set", got=repr(others), expected="a mapping of names to networks")
    data = _data(store, manifest.inputs.get("data", ""), dataset)
    graph = Graph(_bare(manifest.threads))
    fields = {a: set(ANALYSES[a].Settings.model_fields) for a in analyses}
    if unknown := sorted(raw.keys() - set().union(*fields.values())):
        known = set().union(*fields.values(), {"model", "architectures", "dataset"}) - {"name"}
        raise ConfigError(f"unknown key '{unknown[0]}' in --set", expected=nearest(unknown[0], known))
    network = resolved(entry(MODELS, model, ["model"], SET))
    further = {name: resolved(entry(MODELS, other, ["architectures", name], SET)) for name, other in others.items()}
    for analysis in analyses:
        chosen = {key: value for key, value in raw.items() if key in fields[analysis]}
        settings = validated(ANALYSES[analysis].Settings, chosen, (), SET)
        for name, tested in {"": network, **(further if analysis == "evaluation" else {})}.items():
            job = CompareJob(analysis=settings, model=tested)
            label = f"{analysis} of {ref}" + (f" with {name}" if name else "")
            key = graph.add("compare", job, {"data": data, "set": synthetic.key}, label, f"compare {analysis}")
            graph.set_measures.append(SetMeasure(ref, analysis, name, key))
    return graph


def _data(store: Store, made_from: str, dataset: object) -> str:
    """The key of the data set to test on: the one that the set was made from, unless another is named."""
    if dataset is not None:
        data = store.find(str(dataset))
        if data.stage != "data":
            raise StoreError(f"dataset '{dataset}' is not a prepared data set", got=f"{data.stage}/{data.key[:12]}")
        return data.key
    if not made_from:
        raise UserError(
            "the set was imported without its data set, so the one to test it on must be named",
            fix="--set dataset=KEY: `distill-prune data PIPELINE` makes one, `distill-prune ls data` lists them",
        )
    if not store.has("data", made_from):
        raise StoreError(
            f"the set's data, {made_from[:12]}, are not in the store", fix="`distill-prune data PIPELINE` makes them"
        )
    return made_from


def _bare(threads: int) -> Pipeline:
    """A pipeline of nothing but its number of threads."""
    return Pipeline.model_construct(threads=threads, device="cpu")  # type: ignore[call-arg]
