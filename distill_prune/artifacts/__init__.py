"""The nouns that stages make and read. They are frozen, and checked where they are built, so that later code has no checks.

Each noun is turned into `Parts` (tensors by name, and JSON numbers) and back; the store writes and reads these.
"""

from distill_prune.artifacts.basis import Cost, Measurements, Parts
from distill_prune.artifacts.formation import decode
from distill_prune.artifacts.images import SPLITS, Examples, Images, Transform
from distill_prune.artifacts.sentences import Sentences
from distill_prune.artifacts.synthetic import LabelKind, Rows, SyntheticSet, Trajectory
from distill_prune.artifacts.tickets import Mask, Ticket, Weights

__all__ = [
    "SPLITS",
    "Cost",
    "Examples",
    "Images",
    "LabelKind",
    "Mask",
    "Measurements",
    "Parts",
    "Rows",
    "Sentences",
    "SyntheticSet",
    "Ticket",
    "Trajectory",
    "Transform",
    "Weights",
    "decode",
]
