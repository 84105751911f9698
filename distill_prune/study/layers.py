"""What layers are called whose own names are numbers, as in a sequence of modules."""

from __future__ import annotations

from collections.abc import Mapping

from distill_prune.plan.nodes import Graph
from distill_prune.store.store import Store

_KINDS = {2: "linear", 3: "conv", 4: "conv", 5: "conv"}
"""By the dimensions of a layer's weight."""


def layer_titles(graph: Graph, store: Store, numbers: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    """By the name of a weight what its layer is, numbered in the network's order: conv 1, conv 2, linear; none where layers
    have names of their own, or no mask is at hand.
    """
    from distill_prune.artifacts import Mask

    layers = {key: numbers[key].get("layers") for chain in graph.chains.values() for key in chain.values() if key in numbers}
    key, names = next(((key, names) for key, names in layers.items() if isinstance(names, Mapping) and names), ("", {}))
    if not names or not all(name.removesuffix(".weight").replace(".", "").isdigit() for name in names):
        return {}
    kept = store.noun("prune", key, Mask.of).kept
    kinds = {name: _KINDS.get(tensor.dim(), "layer") for name, tensor in kept.items()}
    order = list(kinds)
    alone = [kind for kind in kinds.values() if list(kinds.values()).count(kind) == 1]
    return {
        name: kind if kind in alone else f"{kind} {sum(kinds[other] == kind for other in order[: i + 1])}"
        for i, (name, kind) in enumerate(kinds.items())
    }
