"""Between foreign names of a network's tensors and ours, and between masks of foreign kinds and tickets.

Where the network is known (`--set model.name=...`), a foreign tensor is ours of the same name if all names agree, but for a
beginning that all of them have, as wrappers of modules leave it (`module.`, `_orig_mod.`). If they do not, modules are paired
in order, and the tensors of a pair by their last names (`weight`, `bias`, `running_mean`, ...), all of equal shapes; this can
tell layers of equal shapes by their order alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from distill_prune.artifacts import Mask, Ticket, Weights
from distill_prune.errors import DataError, UserError
from distill_prune.interop import Export
from distill_prune.models import Model
from distill_prune.tree import State, select

_MEND = "--set model.name=... and the settings of the network that the file was made with"


def sparse_network(export: Export, form: str) -> tuple[State, Mask]:
    """The state of what is exported, pruned weights zero, and its mask.

    Raises:
        UserError: it is not a sparse network.
    """
    ticket = export.noun if isinstance(export.noun, Ticket) else export.ticket
    if not isinstance(export.noun, Ticket | Weights) or ticket is None:
        raise UserError(
            f"'{form}' is a format of sparse networks",
            got=type(export.noun).__name__,
            expected="a ticket, or the retrained copy of one",
        )
    return ticket.mask.apply(export.noun.state), ticket.mask


def ticket_of(path: Path, masks: Mapping[str, Tensor], state: State, model: Model | None) -> Ticket:
    """The ticket, as a level 0, of masks by the name of their weight and of the state that they belong to.

    Floating-point tensors come in torch's default type, pruned weights as zero. Without a `model` the file's names stay.

    Raises:
        DataError: a mask is not binary, has no weight, the wrong shape, or is missing; the state is another network's, or
            not finite; no weight survives.
    """
    for name, mask in masks.items():
        if name not in state:
            raise DataError(f"the mask of '{name}' in '{path}' has no weights", fix="a state of the same network")
        if mask.shape != state[name].shape:
            raise DataError(
                f"the mask of '{name}' in '{path}' has the wrong shape",
                got=tuple(mask.shape),
                expected=tuple(state[name].shape),
            )
        if not state[name].is_floating_point():
            raise DataError(
                f"the weights '{name}' of '{path}' are no numbers to train", got=state[name].dtype, expected="floats"
            )
        odd = mask[(mask != 0) & (mask != 1)]
        if len(odd):
            raise DataError(f"the mask of '{name}' in '{path}' is not binary", got=odd[0].item(), expected="0 and 1 alone")
    kept = {name: mask != 0 for name, mask in masks.items()}
    state = {name: _number(path, name, tensor) for name, tensor in state.items()}
    if model is not None:
        names = _pairs(path, state, model)
        kept = _complete(path, {names[n]: t for n, t in kept.items()}, model)
        state = select({names[n]: t for n, t in state.items()}, model.module.state_dict())
    if not any(bool(t.any()) for t in kept.values()):
        raise DataError(f"no weight survives in '{path}'", got=f"{len(kept)} masks without a one")
    survivors = Mask(kept)
    return Ticket(survivors, survivors.apply(state), 0)


def ticket_of_zeros(path: Path, state: State, model: Model | None) -> Ticket:
    """The ticket of weights times mask, where the mask is not said: every prunable weight that is not exactly zero survives.

    A surviving weight that happens to be zero is taken as pruned: nothing in such a file tells them apart.

    Raises:
        UserError: the network is not known, so nothing says which tensors are prunable.
        DataError: the state is another network's, or no weight survives.
    """
    if model is None:
        raise UserError(f"'{path}' does not say which of its tensors are prunable", expected="a known network", fix=_MEND)
    names = _pairs(path, state, model)
    return ticket_of(path, {n: state[n] != 0 for n, ours in names.items() if ours in model.prunable}, state, model)


def _number(path: Path, name: str, tensor: Tensor) -> Tensor:
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.to(torch.get_default_dtype())
    if not bool(torch.isfinite(tensor).all()):
        raise DataError(f"'{name}' of '{path}' is not finite", got=f"{int((~torch.isfinite(tensor)).sum())} bad values")
    return tensor


def _complete(path: Path, kept: Mapping[str, Tensor], model: Model) -> dict[str, Tensor]:
    """The masks in the model's order: one for each prunable weight, and for nothing else."""
    for name in kept:
        if name not in model.prunable:
            raise DataError(
                f"'{path}' prunes '{name}', which is not prunable in this network", expected=", ".join(model.prunable)
            )
    for name in model.prunable:
        if name not in kept:
            raise DataError(f"'{path}' has no mask of layer '{name}'", fix="a mask of ones where nothing was pruned")
    return {name: kept[name] for name in model.prunable}


def _modules(names: Iterable[str]) -> list[dict[str, str]]:
    """Of each module that owns tensors, in order, their full names by their last."""
    layers: dict[str, dict[str, str]] = {}
    for name in names:
        module, _, last = name.rpartition(".")
        layers.setdefault(module, {})[last] = name
    return list(layers.values())


def _pairs(path: Path, foreign: State, model: Model) -> dict[str, str]:
    """Our name of every foreign one.

    Raises:
        DataError: naming the first tensor that has no counterpart, or another shape.
    """
    ours = model.module.state_dict()
    first = next(iter(ours))
    begins = [name.removesuffix(first) for name in foreign if name == first or name.endswith(f".{first}")]
    named = ({begin + name: name for name in ours} for begin in begins)
    pairs = next((names for names in named if set(foreign) == set(names)), {})
    for here, there in [] if pairs else itertools.zip_longest(_modules(foreign), _modules(ours), fillvalue={}):
        if odd := next((n for last, n in here.items() if last not in there), None):
            raise DataError(f"'{odd}' of '{path}' has no counterpart in the network", fix=_MEND)
        if odd := next((n for last, n in there.items() if last not in here), None):
            raise DataError(f"'{path}' has no counterpart of the network's '{odd}'", fix=_MEND)
        pairs |= {n: there[last] for last, n in here.items()}
    for name, our_name in pairs.items():
        theirs, expected = foreign[name], ours[our_name]
        if theirs.shape != expected.shape or theirs.is_floating_point() != expected.is_floating_point():
            raise DataError(
                f"'{name}' of '{path}' does not fit the network",
                got=f"{tuple(theirs.shape)} {theirs.dtype}",
                expected=f"{tuple(expected.shape)} {expected.dtype} of '{our_name}'",
                fix=_MEND,
            )
    return pairs
