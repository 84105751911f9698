"""Foreign formats by name: what people already have comes in, what was found goes out.

What an entry has is `Format`. What a format lacks and is not given is refused, naming the option. Files of PyTorch are loaded
with `weights_only=True`: a pickle that would execute is refused. `write` makes its files aside and renames them: nothing half
written is left, and nothing that stands there is overwritten.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from distill_prune.artifacts import SyntheticSet, Ticket, Trajectory, Transform, Weights
from distill_prune.models import Model
from distill_prune.settings import Settings as AnySettings
from distill_prune.table import EntryModule, Table

Kind = Literal["set", "experts", "ticket", "weights"]

Noun = SyntheticSet | Ticket | Trajectory


class Format(EntryModule, Protocol):
    """An entry of the table. Its settings are options of `import --set`: what the format itself does not say."""

    Settings: type[AnySettings]
    KIND: Kind
    """A SyntheticSet, a list of Trajectory, a Ticket, or the Weights of a retrained network."""
    read: Callable[[AnySettings, Sequence[Path], Origin], Noun | list[Noun]] | None = None
    """What `KIND` says, out of files; None where the format cannot be imported."""
    write: Callable[[Export, Path], Sequence[Path]] | None = None
    """The files that it has written; None where the format cannot be exported."""


FORMATS: Table[Format] = Table(
    "format",
    "formats",
    Format,
    {
        "mtt": "distill_prune.interop.mtt",
        "mtt-experts": "distill_prune.interop.mtt_experts",
        "datm": "distill_prune.interop.datm",
        "dc": "distill_prune.interop.dc",
        "idc": "distill_prune.interop.idc",
        "ddranking": "distill_prune.interop.ddranking",
        "png": "distill_prune.interop.png",
        "npz": "distill_prune.interop.npz",
        "torch-prune": "distill_prune.interop.torch_prune",
        "openlth": "distill_prune.interop.openlth",
        "bert-tickets": "distill_prune.interop.bert_tickets",
        "state-dict": "distill_prune.interop.state_dict",
        "safetensors": "distill_prune.interop.safetensors_file",
        "onnx": "distill_prune.interop.onnx",
    },
)


@dataclass(frozen=True)
class Origin:
    """What the importer is told about the data that a foreign file was made from.

    `classes` are the names of the classes (None where `--set dataset=...` or `classes=[...]` was not given). `transform` is
    that of the prepared data set in the store that `--set dataset=REF` names (None where none was named). `shape` is (C, H, W)
    of that data set. `model` is the network that `--set model.name=...` describes, for formats of networks.
    """

    classes: tuple[str, ...] | None = None
    transform: Transform | None = None
    shape: tuple[int, ...] | None = None
    model: Model | None = None


@dataclass(frozen=True)
class Export:
    """What is exported: the noun, and what the store knows of it besides.

    `model` is the network of a ticket or of weights, `mask` its mask (in `ticket`, for retrained weights the ticket that they
    are a copy of), `shape` (C, H, W) its input.
    """

    noun: SyntheticSet | Ticket | Weights | tuple[Trajectory, ...]
    model: Model | None = None
    ticket: Ticket | None = None
    shape: tuple[int, ...] | None = None
