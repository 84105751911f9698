"""Foreign formats by name: what people already have comes in, what was found goes out.

An entry has `Settings` (frozen; what the format itself does not say, as options of `import --set`), `KIND`, and

    read(settings, paths, origin: Origin) -> what KIND says      where the format can be imported
    write(held: Held, path) -> list[Path]                        where it can be exported

`KIND` is "set" (a SyntheticSet), "experts" (a list of Trajectory), "ticket" (a Ticket) or "weights" (a retrained network).
A module without `read` cannot be imported, one without `write` cannot be exported. What a format lacks and is not given is
refused, naming the option. Files of PyTorch are loaded with `weights_only=True`: a pickle that would execute is refused.
`write` makes its files aside and renames them: nothing half written is left, and nothing that stands there is overwritten.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

from distill_prune.artifacts import SyntheticSet, Ticket, Trajectory, Transform, Weights
from distill_prune.models import Model
from distill_prune.settings import Entry
from distill_prune.table import Table

Kind = Literal["set", "experts", "ticket", "weights"]

FORMATS = Table(
    "format",
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
class Held:
    """What is exported: the noun, and what the store knows of it besides.

    `model` is the network of a ticket or of weights, `mask` its mask (in `ticket`, for retrained weights the ticket that they
    are a copy of), `shape` (C, H, W) its input.
    """

    noun: SyntheticSet | Ticket | Weights | tuple[Trajectory, ...]
    model: Model | None = None
    ticket: Ticket | None = None
    shape: tuple[int, ...] | None = None


@runtime_checkable
class Importable(Protocol):
    """The module of a format that can be imported."""

    KIND: Kind
    Settings: type[Entry]

    def read(
        self, settings: Entry, paths: Sequence[Path], origin: Origin, /
    ) -> SyntheticSet | Ticket | Sequence[Trajectory]: ...


@runtime_checkable
class Exportable(Protocol):
    """The module of a format that can be exported."""

    KIND: Kind

    def write(self, held: Held, path: Path, /) -> list[Path]: ...
