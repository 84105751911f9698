"""Masks of BERT-Tickets: `mask.pt`, the entries of a pruned BERT's state dict that are masks.

    bert.encoder.layer.<i>.{attention.self.{query,key,value}, attention.output.dense, intermediate.dense, output.dense}
        .weight_mask, and bert.pooler.dense.weight_mask

The file has no weights. A ticket needs them: the pre-trained ones, which survivors are rewound to, are read from the state
dict that `state` names, with or without `bert.` before its names. `model.pt` beside it is a pickled network, and refused.

References:
    | The Lottery Ticket Hypothesis for Pre-trained BERT Networks (Chen et al., 2020), https://arxiv.org/abs/2007.12223
    | https://github.com/VITA-Group/BERT-Tickets
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from distill_prune.artifacts import Ticket
from distill_prune.checkpoints.state_dicts import read_tensors
from distill_prune.errors import DataError, UserError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import one, publish, torch_bytes
from distill_prune.interop.networks import sparse_network, ticket_of
from distill_prune.limits import Budget
from distill_prune.settings import Entry

KIND = "ticket"
_BERT, _MASK = "bert.", "_mask"


class Settings(Entry):
    """`state` is the path of a state dict with the pre-trained weights (.pt or .safetensors)."""

    name: Literal["bert-tickets"] = "bert-tickets"
    state: str = Field("", description="a state dict with the pre-trained weights (.pt or .safetensors)")


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> Ticket:
    """The ticket of a mask file and of the pre-trained weights.

    Raises:
        UserError: `state` is not given.
        DataError: the file holds something else than masks of weights, or they do not fit (see `ticket_of`).
    """
    path = one(paths, "a mask of BERT-Tickets")
    if not settings.state:
        raise UserError(f"'{path}' has masks, but no weights", fix="--set state=PATH of the pre-trained state dict")
    budget = Budget(path)
    entries = read_tensors(path, budget)
    if odd := next((n for n in entries if not n.endswith(f".weight{_MASK}")), None):
        raise DataError(f"'{odd}' of '{path}' is not a mask of a weight", expected="names that end in .weight_mask")
    state = read_tensors(Path(settings.state).expanduser(), budget)
    masks = {}
    for name, mask in entries.items():
        weight = name.removesuffix(_MASK)
        bare = weight.removeprefix(_BERT)
        masks[next((n for n in (weight, bare, _BERT + bare) if n in state), weight)] = mask
    return ticket_of(path, masks, state, origin.model)


def write(export: Export, path: Path) -> list[Path]:
    """The masks alone, by BERT's names.

    Raises:
        UserError: it is not a sparse BERT, or something stands at `path`.
    """
    _, mask = sparse_network(export, "bert-tickets")
    out = {}
    for name, kept in mask.kept.items():
        inside = re.search(r"(^|\.)((encoder\.layer\.\d+|pooler)\..+)", name)
        if inside is None:
            raise UserError(
                f"'{name}' has no name in a BERT", expected="encoder.layer.<i>... or pooler...", fix="--to torch-prune"
            )
        out[f"{_BERT}{inside[2]}{_MASK}"] = kept.float()
    return publish(path, torch_bytes(out))
