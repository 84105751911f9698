"""The nouns that stages make and read. They are frozen, and checked where they are built, so that later code has no checks.

Each noun is turned into `Parts` (tensors by name, and JSON numbers) and back; the store writes and reads these.
"""

from distill_prune.artifacts.basis import Cost, Measurements, MeasurementsNumbers, Parts
from distill_prune.artifacts.convex import Line, Rows
from distill_prune.artifacts.formation import decode
from distill_prune.artifacts.images import SPLITS, DataNumbers, Examples, Images, Transform
from distill_prune.artifacts.sentences import Sentences
from distill_prune.artifacts.synthetic import LabelKind, SetNumbers, SyntheticSet, Trajectory, TrajectoryNumbers
from distill_prune.artifacts.tickets import Mask, Ticket, TicketNumbers, Weights, WeightsNumbers

__all__ = [
    "SPLITS",
    "Cost",
    "DataNumbers",
    "Examples",
    "Images",
    "LabelKind",
    "Line",
    "Mask",
    "Measurements",
    "MeasurementsNumbers",
    "Parts",
    "Rows",
    "Sentences",
    "SetNumbers",
    "SyntheticSet",
    "Ticket",
    "TicketNumbers",
    "Trajectory",
    "TrajectoryNumbers",
    "Transform",
    "Weights",
    "WeightsNumbers",
    "decode",
]
