"""State dicts of networks that torch.nn.utils.prune has pruned.

A pruned layer has `<mod>.weight_orig` (the parameter) and `<mod>.weight_mask` (a buffer of the same type and shape) in
place of `<mod>.weight` = weight_orig * weight_mask. In: pruned entries of weight_orig, which torch keeps, become zero. Out:
weight_orig holds the weights of the ticket (those that survivors are rewound to) or of its retrained copy, pruned entries
zero. The file loads with strict=True once `prune.custom_from_mask` was called on every prunable layer.

References:
    | https://docs.pytorch.org/tutorials/intermediate/pruning_tutorial.html
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch import Tensor

from distill_prune.artifacts import Ticket
from distill_prune.checkpoints.state_dicts import read_tensors
from distill_prune.errors import DataError
from distill_prune.interop import Export, Origin
from distill_prune.interop.files import one, publish, torch_bytes
from distill_prune.interop.networks import sparse_network, ticket_of
from distill_prune.settings import Entry

KIND = "ticket"
_ORIG, _MASK = "_orig", "_mask"


class Settings(Entry):
    name: Literal["torch-prune"] = "torch-prune"


def read(settings: Settings, paths: Sequence[Path], origin: Origin) -> Ticket:
    """The ticket of one state dict.

    Raises:
        DataError: a layer has one of its two tensors alone, another tensor than a weight is pruned, or the masks do not
            fit (see `ticket_of`).
    """
    path = one(paths, "a pruned state dict")
    entries = read_tensors(path)
    masks: dict[str, Tensor] = {}
    state: dict[str, Tensor] = {}
    for name, tensor in entries.items():
        whole = next((name.removesuffix(end) for end in (_ORIG, _MASK) if name.endswith(end)), name)
        weight = whole.rpartition(".")[2] == "weight"
        if whole == name or not (weight or {whole + _ORIG, whole + _MASK} <= set(entries)):
            state[name] = tensor
            continue
        if missing := next((whole + end for end in (_ORIG, _MASK) if whole + end not in entries), None):
            raise DataError(f"'{path}' has '{name}' without '{missing}'", expected="both, as torch.nn.utils.prune keeps them")
        if not weight:
            raise DataError(f"'{path}' prunes '{whole}'", expected="pruned weights alone", fix=f"prune.remove of '{whole}'")
        (masks if name.endswith(_MASK) else state)[whole] = tensor
    if not masks:
        raise DataError(f"'{path}' has no pruned layer", expected="<layer>.weight_orig and <layer>.weight_mask")
    return ticket_of(path, masks, state, origin.model)


def write(export: Export, path: Path) -> list[Path]:
    """One state dict.

    Raises:
        UserError: it is not a sparse network, or something stands at `path`.
    """
    state, mask = sparse_network(export, "torch-prune")
    out: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if name in mask.kept:
            out |= {name + _ORIG: tensor, name + _MASK: mask.kept[name].to(tensor.dtype)}
        else:
            out[name] = tensor
    return publish(path, torch_bytes(out))
