"""Units of a network that are interchangeable, and the order of one network's that is nearest to another network.

Channels of a convolution and units of a hidden linear layer may stand in any order, where all tensors that they meet follow:
the rows that make them, their bias and their norm, and the columns of every layer that reads them. The network stays the same
function. Weight matching looks for the permutation pi of B's units that minimizes

    |A - pi(B)|^2,   over all parameters, which maximizes <A, pi(B)>.

Given the order of all other layers, that of one layer is an assignment problem, solved exactly. Layers take turns, in a random
order, until none changes. What comes out is a local optimum.

A group is all that has to be permuted together: in a residual network one order goes along a skip path, from the layer in front
of it through the last convolution of every block that it passes. Behind `Flatten` a channel is a block of H W columns. Norms a
channel (batch, instance) and over all channels (layer) follow any order. Group norm of several channels a group follows an
order only where this keeps groups together: it is refused.

References:
    | Git Re-Basin: Merging Models modulo Permutation Symmetries, algorithm 1 (Ainsworth, Hayase and Srinivasa, 2023),
      https://arxiv.org/abs/2209.04836
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill_prune.errors import NonFiniteError, RunError, UserError
from distill_prune.models import Model
from distill_prune.rng import Streams
from distill_prune.tree import State, select, to

CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
BY_CHANNEL = (nn.ReLU, nn.Identity, nn.Dropout, nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d, nn.Tanh, nn.Sigmoid, nn.GELU)
"""Layers without parameters that treat all channels alike, each by itself."""
TOLERANCE = 1e-8
"""How far outputs of a network in another order may differ in float64, in parts of the largest."""


class Axis(NamedTuple):
    """The dimension of a tensor that a group permutes; it has one or more entries in a row for each unit."""

    tensor: str
    dim: int


@dataclass(frozen=True)
class Specification:
    """The groups of a network, each by the name of the layer that makes its units: how many, and what is permuted with them.
    `parameters` are the trained tensors of the network."""

    sizes: Mapping[str, int]
    axes: Mapping[str, tuple[Axis, ...]]
    parameters: tuple[str, ...]

    @property
    def units(self) -> int:
        return sum(self.sizes.values())


Orders = Mapping[str, Tensor]
"""By group: at place i the unit (an index) that comes to stand there."""


class Groups:
    """Collects the groups of a network, layer by layer. A layer is named as in the network; a group by its first layer.

    Networks that are no plain `nn.Sequential` have a method `units(groups)` that calls it along their forward pass.
    """

    def __init__(self, module: nn.Module, what: str) -> None:
        self._module, self._what = module, what
        self.sizes: dict[str, int] = {}
        self.axes: dict[str, list[Axis]] = {}

    def layer(self, name: str, reads: str | None, *, joins: str | None = None, last: bool = False) -> str:
        """A convolution or linear layer: it reads units of the group `reads` (None: inputs) and makes those of a new group, of
        the group `joins` where its outputs are added to theirs, or of no group where they are the network's outputs. The
        group of its outputs.

        Raises:
            UserError: it has a form that is no exact symmetry.
        """
        layer = self._module.get_submodule(name)
        if type(layer) not in (nn.Linear, *CONVOLUTIONS) or getattr(layer, "groups", 1) != 1:
            raise self.refused(name)
        size = layer.get_parameter("weight").shape[0]
        group = joins or name
        if not last and self.sizes.setdefault(group, size) != size:
            raise self.refused(name)
        if reads is not None:
            self._follow(name, "weight", 1, reads)
        for tensor in () if last else ("weight", "bias"):
            self._follow(name, tensor, 0, group)
        return group

    def norm(self, name: str, group: str | None) -> None:
        """A norm of the units of a group; an identity has nothing to permute.

        Raises:
            UserError: it has a form that is no exact symmetry.
        """
        layer = self._module.get_submodule(name)
        if type(layer) is nn.Identity or (type(layer) in BATCH_NORMS and group is None):
            return
        by_groups = type(layer) is nn.GroupNorm and layer.num_groups not in (1, layer.num_channels)
        if type(layer) not in (*BATCH_NORMS, nn.GroupNorm) or by_groups:
            raise self.refused(name)
        for tensor in ("weight", "bias", "running_mean", "running_var") if group is not None else ():
            self._follow(name, tensor, 0, group)  # type: ignore[arg-type]

    def drop(self, group: str) -> None:
        """The units of a group are the network's outputs, and keep their places."""
        del self.sizes[group], self.axes[group]

    def refused(self, name: str) -> UserError:
        """What is said of the layer that has no specification; `name` is empty for the whole network."""
        layer = self._module.get_submodule(name)
        groups = f" of {layer.num_groups} groups" if isinstance(layer, nn.GroupNorm) else ""
        kind = type(layer).__name__
        return no_specification(self._what, f"a layer {kind}{groups}, '{name}'" if name else f"a network {kind}")

    def _follow(self, layer: str, tensor: str, dim: int, group: str) -> None:
        values = getattr(self._module.get_submodule(layer), tensor, None)
        if values is None:
            return
        axis = Axis(f"{layer}.{tensor}", dim)
        if values.shape[dim] % self.sizes[group] or any(axis in axes for axes in self.axes.values()):
            raise self.refused(layer)
        self.axes.setdefault(group, []).append(axis)


def no_specification(what: str, got: str) -> UserError:
    """That it is not known which units of a network are interchangeable, which `what` asks for."""
    return UserError(
        f"{what} has no specification for this network: it is not known which of its units are interchangeable",
        got=got,
        expected="convnet, alexnet, lenet, lenet5, vgg, cifar_resnet or resnet, with norm: batch, instance, layer or none; "
        "or a plain nn.Sequential of such layers",
        fix=f"another network, or leave {what} out",
    )


def specification(model: Model, what: str) -> Specification:
    """The groups of a network. `what` asks for them, and is named where there are none.

    Raises:
        UserError: the network is of a kind whose interchangeable units are not known, or has a layer that is no exact symmetry.
    """
    module = model.module
    groups = Groups(module, what)
    units = getattr(module, "units", None)
    if len([*module.parameters()]) != len([*module.named_parameters(remove_duplicate=False)]):
        raise groups.refused("")  # layers that share weights share their order, too
    if callable(units):
        units(groups)
    elif type(module) is nn.Sequential:
        _sequential(groups, module, flat=len(model.shape) == 1)
    else:
        raise groups.refused("")
    return Specification(groups.sizes, {n: tuple(axes) for n, axes in groups.axes.items()}, model.parameters)


def _sequential(groups: Groups, module: nn.Sequential, *, flat: bool) -> None:
    """Layers in a row; `flat`: the inputs are vectors."""
    group: str | None = None
    for i, layer in enumerate(module):
        name = str(i)
        if isinstance(layer, nn.Flatten) and (layer.start_dim, layer.end_dim) == (1, -1):
            flat = True
        elif type(layer) in CONVOLUTIONS or (type(layer) is nn.Linear and flat):
            group = groups.layer(name, group)
        elif type(layer) in (*BATCH_NORMS, nn.GroupNorm):
            groups.norm(name, group)
        elif not isinstance(layer, BY_CHANNEL):
            raise groups.refused(name)
    if group is None or not flat:
        raise groups.refused("")
    groups.drop(group)


def permuted(spec: Specification, orders: Orders, state: Mapping[str, Tensor]) -> State:
    """The tensors of a state, a mask or a part of either, with their units in the given orders."""
    moved = dict(state)
    for group, order in orders.items():
        for name, dim in spec.axes[group]:
            if name in moved:
                tensor = moved[name]
                by_unit = _by_unit(tensor, dim, len(order))
                moved[name] = by_unit.index_select(dim, order.to(tensor.device)).reshape(tensor.shape)
    return moved


def _by_unit(tensor: Tensor, dim: int, size: int) -> Tensor:
    """The tensor with its dimension `dim` split in two: units, and the entries of each."""
    return tensor.reshape(*tensor.shape[:dim], size, -1, *tensor.shape[dim + 1 :])


def weight_matching(spec: Specification, a: Mapping[str, Tensor], b: Mapping[str, Tensor], draws: torch.Generator) -> Orders:
    """The orders of b's units that bring it near to a: a local optimum of the distance over all parameters, from b's own order.

    Computed on the CPU in float64. `draws` gives the order in which layers take turns.

    Raises:
        NonFiniteError: a parameter is infinite or NaN.
    """
    from scipy.optimize import linear_sum_assignment

    a, b = ({n: t.double() for n, t in to(select(s, spec.parameters), "cpu").items()} for s in (a, b))
    orders = {group: torch.arange(size) for group, size in spec.sizes.items()}
    names, changed = list(orders), True
    while changed:
        changed = False
        for turn in torch.randperm(len(names), generator=draws).tolist():
            group = names[turn]
            gains = _gains(spec, group, a, b, orders)
            if not bool(gains.isfinite().all()):
                raise NonFiniteError(f"weights that are matched at '{group}' are not finite", got="infinite or NaN")
            best = torch.from_numpy(linear_sum_assignment(gains.numpy(), maximize=True)[1])
            places = torch.arange(len(best))
            # Every change lowers the distance by more than rounding does, so that none comes back.
            rounding = 1e-12 * float(gains.abs().max()) * len(best)
            if float((gains[places, best] - gains[places, orders[group]]).sum()) > rounding:
                orders[group], changed = best, True
    return orders


def _gains(spec: Specification, group: str, a: State, b: State, orders: Orders) -> Tensor:
    """(n, n): the inner product of what belongs to a's unit i and to b's unit j, all other groups in their orders."""
    size, others = spec.sizes[group], {n: order for n, order in orders.items() if n != group}
    axes = [axis for axis in spec.axes[group] if axis.tensor in a]
    moved = permuted(spec, others, select(b, [axis.tensor for axis in axes]))
    gains = torch.zeros(size, size, dtype=torch.float64)
    for name, dim in axes:
        of_a, of_b = (_by_unit(s[name], dim, size).movedim(dim, 0).flatten(1) for s in (a, moved))
        gains += of_a @ of_b.T
    return gains


def check_same_function(model: Model, a: State, b: State, draws: torch.Generator) -> None:
    """Two states are one function, but for rounding, on random inputs in evaluation mode: b is a in another order.

    Raises:
        RunError: their outputs differ, because a specification is wrong.
    """
    x = torch.randn(8, *model.shape, generator=draws, dtype=torch.float64)
    first, second = (
        model({n: t.double() if t.is_floating_point() else t for n, t in to(s, "cpu").items()}, x).detach() for s in (a, b)
    )
    apart = float((first - second).abs().max())
    if not apart <= TOLERANCE * float(first.abs().max()):
        raise RunError(
            "a network with its units in another order is another function",
            got=f"outputs differ by {apart:.3g}",
            expected="equal outputs",
            fix="the specification of its units is wrong: report it, or correct the network's method `units`",
        )


def aligned(model: Model, spec: Specification, a: Mapping[str, Tensor], b: State, streams: Streams) -> tuple[Orders, State]:
    """The orders that bring b near to a, and b in them, checked to be the same function.

    Raises:
        NonFiniteError: a parameter is infinite or NaN.
        RunError: b in another order is another function.
    """
    orders = weight_matching(spec, a, b, streams("turns"))
    moved = permuted(spec, orders, b)
    check_same_function(model, b, moved, streams("inputs"))
    return orders, moved


def fixed(orders: Orders) -> float:
    """Share of units that stay at their place; 1 where a network has no hidden units."""
    places = torch.cat([order == torch.arange(len(order)) for order in orders.values()] or [torch.ones(1, dtype=torch.bool)])
    return float(places.double().mean())
