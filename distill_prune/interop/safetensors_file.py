"""Safetensors files: every tensor, with pruned weights exactly zero; `state_dict` in a format that cannot execute.

The mask is not said: in, the network must be known, and the mask is where its prunable weights are not zero.

References:
    | https://github.com/huggingface/safetensors
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from safetensors.torch import save

from distill_prune.artifacts import Ticket
from distill_prune.checkpoints.state_dicts import SAFE, read_tensors
from distill_prune.errors import UserError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import one, publish
from distill_prune.interop.networks import sparse_network, ticket_of_zeros
from distill_prune.settings import Entry
from distill_prune.tree import clone

KIND = "ticket"


class Settings(Entry):
    name: Literal["safetensors"] = "safetensors"


def _named(path: Path) -> Path:
    if path.suffix != SAFE:
        raise UserError(f"'{path}' is not the name of a safetensors file", expected=f"a name that ends in {SAFE}")
    return path


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> Ticket:
    """The ticket of one file.

    Raises:
        UserError: the network is not known, or the name is another format's.
        DataError: the file is damaged or another network's, or no weight survives.
    """
    path = _named(one(paths, "a safetensors file"))
    return ticket_of_zeros(path, read_tensors(path), origin.model)


def write(export: Export, path: Path) -> list[Path]:
    """One file.

    Raises:
        UserError: it is not a sparse network, the name is another format's, or something stands at `path`.
    """
    return publish(_named(path), save(clone(sparse_network(export, "safetensors")[0]), {"format": "pt"}))
