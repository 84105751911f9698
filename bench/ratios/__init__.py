"""The rows of the table of performance, a function each, imported on use: what a row measures, and both sides of it."""

from __future__ import annotations

import importlib

from measure import Row, Scene

ROWS = {
    "copies": "copies",
    "levels": "copies",
    "digits_lanes": "studies",
    "epoch": "epoch",
    "cifar10_compiled": "studies",
    "barrier_cifar": "barrier",
    "barrier_digits": "barrier",
    "gradient": "gradient",
    "trace": "trace",
    "commands": "commands",
}
"""Every row, in the order of the table, and the module that its function stands in."""


def row(name: str, scene: Scene) -> Row:
    """The row of this name, ready to be measured."""
    made: Row = vars(importlib.import_module(f"ratios.{ROWS[name]}"))[name](scene)
    return made
