"""Which trainings can share their steps, and which artifacts take the same work, as far as their settings tell.

What a set holds is not known before it is made, but how much is: so many examples of every class. Sets of equal form are alike
here, be they of one method in several draws or of several methods.
"""

from __future__ import annotations

from collections.abc import Mapping

from distill_prune.plan.jobs import DistillJob
from distill_prune.plan.nodes import Node
from distill_prune.settings import Json, canonical_json, digest

SIZED = ("data", "images", "set", "distilled")
"""Inputs on whose size the work on an artifact depends."""


def company(node: Node, nodes: Mapping[str, Node]) -> str | None:
    """What artifacts have in common whose trainings can share their steps; None where nothing is shared."""
    if node.job.lanes == 1 or not node.job.trains():
        return None
    examples = _size(node.inputs.get("images", node.inputs.get("data", "")), nodes)
    return canonical_json([node.stage, type(node.job).__name__, node.job.company(), examples])


def work_of(node: Node, nodes: Mapping[str, Node]) -> str:
    """What is equal where the work on artifacts is."""
    sizes = {role: _size(node.inputs[role], nodes) for role in SIZED if role in node.inputs}
    conditions = node.job.lanes, node.job.threads
    return digest([node.stage, type(node.job).__name__, node.job.company(), sizes, len(node.inputs), *conditions])


def _size(key: str, nodes: Mapping[str, Node]) -> Json:
    """What decides how many examples an artifact holds, and of what kind: of a set that is made here its form and its data, of
    all else the artifact itself."""
    node = nodes.get(key)
    if node is None or not isinstance(node.job, DistillJob):
        return key
    return [node.inputs["data"], node.job.form()]
