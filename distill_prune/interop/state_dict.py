"""Plain state dicts of PyTorch: every tensor, with pruned weights exactly zero. The mask is not said.

In: the network must be known (`--set model.name=...`), and the mask is where its prunable weights are not zero; a surviving
weight that happens to be zero is taken as pruned. Out: of a ticket the weights that survivors are rewound to, of a retrained
copy the trained ones. The file loads with strict=True into the network as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from distill_prune.artifacts import Ticket
from distill_prune.checkpoints.state_dicts import read_tensors
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import one, publish, torch_bytes
from distill_prune.interop.networks import sparse_network, ticket_of_zeros
from distill_prune.settings import Entry

KIND = "ticket"


class Settings(Entry):
    name: Literal["state-dict"] = "state-dict"


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> Ticket:
    """The ticket of one state dict.

    Raises:
        UserError: the network is not known.
        DataError: the file is another network's, or no weight survives.
    """
    path = one(paths, "a state dict")
    return ticket_of_zeros(path, read_tensors(path), origin.model)


def write(export: Export, path: Path) -> list[Path]:
    """One state dict.

    Raises:
        UserError: it is not a sparse network, or something stands at `path`.
    """
    return publish(path, torch_bytes(sparse_network(export, "state-dict")[0]))
