"""Which artifacts are made early, so that the time left is soon known: the first of each kind.

By urgency alone analyses come last, all kinds of them at once: until then nothing of the run says how long they take.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from distill_prune.plan.nodes import Graph, Node


def firsts_early(graph: Graph, missing: Collection[str], urgency: Mapping[str, float]) -> dict[str, float]:
    """Urgencies where the first `missing` artifact of each kind, with all that it is made from, is as urgent as the least
    urgent of its inputs: it is made right after them.

    A kind of one artifact has no more to forecast once it is made, and stays where it is.
    """
    sizes: dict[str, int] = {}
    firsts: dict[str, Node] = {}
    behind: dict[str, int] = {}  # missing artifacts that an artifact waits for, one after another
    for key, node in graph.nodes.items():
        if key in missing:
            behind[key] = 1 + max((behind.get(used, 0) for used in node.inputs.values()), default=0)
            sizes[node.kind] = sizes.get(node.kind, 0) + 1
            first = firsts.get(node.kind)
            if first is None or behind[key] < behind[first.key]:
                firsts[node.kind] = node
    early, stack = set[str](), [node.key for kind, node in firsts.items() if sizes[kind] > 1]
    while stack:
        key = stack.pop()
        if key in behind and key not in early:
            early.add(key)
            stack += graph.nodes[key].inputs.values()
    order = dict(urgency)
    for key in (key for key in graph.nodes if key in early):
        inputs = [order[used] for used in graph.nodes[key].inputs.values() if used in behind]
        order[key] = max(order[key], min(inputs, default=0.0))
    return order
