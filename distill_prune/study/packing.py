"""What goes into the archive of a study: its artifacts, and its pipeline file with everything resolved."""

from __future__ import annotations

import re
from typing import Any

import yaml

from distill_prune.plan.nodes import Graph
from distill_prune.store.store import Ref, Store


class _Dumper(yaml.SafeDumper):
    """Quotes what pipeline files read as a number and YAML 1.1 as a word: a title may be 1e3."""


_Dumper.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789"))


def contents(graph: Graph, store: Store) -> tuple[list[Ref], list[str], bytes]:
    """(what the store holds of a study, labels of what it does not, the study's pipeline file).

    The file holds what it extends and what was `--set`, and names stored sets and experts by their whole keys.
    """
    there = [Ref(n.stage, k) for k, n in graph.nodes.items() if store.has(n.stage, k)]
    missing = [n.label for k, n in graph.nodes.items() if not store.has(n.stage, k)]
    stored = {i for n in graph.nodes.values() for i in n.inputs.values()} | set(graph.sets.values())
    there += [r for r in store.all() if r.key in stored - graph.nodes.keys()]
    values: dict[str, Any] = graph.pipeline.model_dump(mode="json", exclude_unset=True)
    for method in values["distill"].values():
        if method["name"] == "stored":
            method["ref"] = store.find(method["ref"]).key
    if named := values.get("experts", {}).get("stored"):
        values["experts"]["stored"] = [store.find(ref).key for ref in named]
    text = yaml.dump(values, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)
    return there, missing, text.encode()
