"""The kinds of faults of the campaign, imported on use: what a kind promises, and one trial of it."""

from __future__ import annotations

import importlib

from fault_kinds.kind import Kind

KINDS = {
    "kills": "kills",
    "ray": "ray_nodes",
    "drivers": "drivers",
    "gc": "collected",
    "damage": "damage",
    "hostile": "hostile",
    "full": "disks",
    "inodes": "disks",
    "readonly": "disks",
    "users": "users",
    "links": "users",
}
"""Every kind, in the order of the table, and the module that has it."""


def kind(name: str) -> Kind:
    """The kind of this name."""
    chosen: Kind = vars(importlib.import_module(f"fault_kinds.{KINDS[name]}"))[name.upper()]
    return chosen
