"""Checks before networks are compared or mixed: their number, architectures, masks and counters, and the examples.

Every check raises a UserError that names the copy and the tensor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from distill_prune.artifacts import Examples, Mask
from distill_prune.errors import UserError
from distill_prune.models import Model
from distill_prune.tree import State


def check_filled(analysis: str, parts: Mapping[str, Examples]) -> None:
    """No part is empty.

    Raises:
        UserError: a part that is asked for has no examples.
    """
    for name, examples in parts.items():
        if not len(examples):
            raise UserError(
                f"{analysis} is asked for on a set of no examples: {name}",
                got="0 examples",
                expected="at least one",
                fix=f"data with a {name} part, or leave compare.{analysis} out",
            )


def check_copies(what: str, model: Model, copies: Sequence[State], masks: Sequence[Mask], different_masks: bool) -> None:
    """There are at least two copies, of the network's architecture and, unless `different_masks`, of one mask.

    Raises:
        UserError: fewer than two copies, other architectures, or other masks where these are not asked for.
    """
    if len(copies) < 2:
        raise UserError(
            f"{what} needs two copies of a ticket",
            got=f"{len(copies)} copies",
            expected="at least 2",
            fix="retrain more copies: retrain.copies: 2",
        )
    check_architecture(model, {f"copy {i}": copy for i, copy in enumerate(copies)})
    if different_masks:
        return
    for i, mask in enumerate(masks[1:], 1):
        differing = [n for n, kept in masks[0].kept.items() if n not in mask.kept or not torch.equal(kept, mask.kept[n])]
        if differing:
            raise UserError(
                f"copies 0 and {i} have different masks: between them lie denser networks",
                got=f"they differ in {', '.join(differing)}",
                expected="copies of one ticket",
                fix="compare copies of one ticket, or set allow_different_masks: true",
            )


def check_architecture(model: Model, states: Mapping[str, State]) -> None:
    """All states are of the network.

    Raises:
        UserError: a state has tensors of other names or shapes than the network.
    """
    expected = model.module.state_dict()
    for name, state in states.items():
        differing = [
            f"{n} {_size(state, n)} (network: {_size(expected, n)})"
            for n in dict.fromkeys([*expected, *state])
            if _size(state, n) != _size(expected, n)
        ]
        if differing:
            raise UserError(
                f"{name} is of another architecture than the network",
                got=", ".join(differing),
                expected="tensors of equal names and shapes",
                fix="states of one model",
            )


def _size(state: Mapping[str, Tensor], name: str) -> str:
    return str(tuple(state[name].shape)) if name in state else "missing"


def check_counters(model: Model, copies: Sequence[State]) -> None:
    """Tensors that cannot be interpolated are equal in all copies.

    Raises:
        UserError: integer buffers differ, other than the counters of batch norms, which are measured anew.
    """
    counters = {f"{name}.num_batches_tracked".lstrip(".") for name in batch_norms(model.module)}
    for name, tensor in copies[0].items():
        if tensor.is_floating_point() or name in counters:
            continue
        if any(not torch.equal(tensor, other[name]) for other in copies[1:]):
            raise UserError(
                f"buffer '{name}' holds {tensor.dtype} values that differ between copies",
                expected="equal values: integers cannot be interpolated",
            )


def batch_norms(module: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    """The layers that keep batch statistics, by name."""
    return {n: m for n, m in module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}
