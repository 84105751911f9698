"""R replicas of one network in one step: lanes.

    state      R states, every tensor with a first dimension of R
    inputs     (R, N, C, H, W) -> (N, R C, H, W): the channels of lane r are r C .. (r + 1) C - 1
    conv       one convolution with R times its groups
    norm       over R C channels, with R times its groups; batch norm keeps running statistics by lane
    linear     (N, R F) -> (R, N, F); y_r = b_r + x_r W_r^T, one batched product
    outputs    (N, R K) -> (R, N, K)

Everything else acts on one channel at a time, or keeps the order of channels when it flattens, and stays as it is: pooling,
ReLU, means over pixels, sums of residual blocks. The gradient of a sum of the lanes' losses is, lane by lane, the gradient of
each. A network that joins, splits or mixes channels takes them from other lanes: it is refused, for its outputs show it. What a
lane computes does not depend on its neighbours, to the bit where `training.flat` updates the parameters: that is
measured (tests/test_lanes.py), for torch promises it nowhere.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from distill_prune.errors import UserError
from distill_prune.models import Model
from distill_prune.rng import stream
from distill_prune.tree import State


class _Lanes(nn.Module):
    """A layer of R replicas in place of `layer`: its tensors, each with a first dimension of R."""

    def __init__(self, layer: nn.Module, lanes: int) -> None:
        super().__init__()
        self.lanes = lanes
        for name, parameter in layer.named_parameters(recurse=False):
            stacked = parameter.detach().expand(lanes, *parameter.shape).clone()
            self.register_parameter(name, nn.Parameter(stacked, requires_grad=parameter.requires_grad))
        for name, buffer in layer.named_buffers(recurse=False):
            self.register_buffer(name, buffer.expand(lanes, *buffer.shape).clone())

    def flat(self, name: str) -> Tensor | None:
        """A tensor of the layer with the lanes' first dimensions joined, as a view; None where the layer has none."""
        tensor = self._parameters.get(name, self._buffers.get(name))
        return None if tensor is None else tensor.flatten(0, 1)


class Conv2d(_Lanes):
    def __init__(self, layer: nn.Conv2d, lanes: int) -> None:
        super().__init__(layer, lanes)
        self.stride, self.padding, self.dilation, self.groups = layer.stride, layer.padding, layer.dilation, layer.groups

    def forward(self, x: Tensor) -> Tensor:
        weight = self.flat("weight")
        assert weight is not None  # every convolution has one
        return F.conv2d(x, weight, self.flat("bias"), self.stride, self.padding, self.dilation, self.groups * self.lanes)


class GroupNorm(_Lanes):
    def __init__(self, layer: nn.GroupNorm, lanes: int) -> None:
        super().__init__(layer, lanes)
        self.groups, self.eps = layer.num_groups, layer.eps

    def forward(self, x: Tensor) -> Tensor:
        return F.group_norm(x, self.groups * self.lanes, self.flat("weight"), self.flat("bias"), self.eps)


class BatchNorm2d(_Lanes):
    num_batches_tracked: Tensor

    def __init__(self, layer: nn.BatchNorm2d, lanes: int) -> None:
        super().__init__(layer, lanes)
        self.momentum, self.eps = layer.momentum, layer.eps

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.num_batches_tracked.add_(1)
        # Running means are flat views, which torch updates in place.
        means, variances = self.flat("running_mean"), self.flat("running_var")
        momentum = 0.0 if self.momentum is None else self.momentum
        return F.batch_norm(x, means, variances, self.flat("weight"), self.flat("bias"), self.training, momentum, self.eps)


ALIGNED = 4
"""Products take another order of additions where a matrix begins at other bytes than others do: with rows of a multiple of so
many numbers, all lanes' begin alike."""


class Linear(_Lanes):
    weight: Tensor

    def forward(self, x: Tensor) -> Tensor:
        outputs, inputs = self.weight.shape[1:]
        more_outputs, more_inputs = -outputs % ALIGNED, -inputs % ALIGNED
        by_lane = _padded(x.view(len(x), self.lanes, -1).transpose(0, 1), more_inputs)
        weight = _padded(self.weight, more_inputs, more_outputs).transpose(1, 2)
        bias = self._parameters.get("bias")
        if bias is None:
            y = torch.bmm(by_lane, weight)
        else:
            # 1 b + 1 0: the sum over examples in the bias's gradient is a product too, of two rows. A plain sum adds up in
            # another order by lane, and so does the product of one row on some processors.
            rows = torch.bmm(x.new_ones(self.lanes, len(x), 2), _padded(bias.unsqueeze(1), more_outputs, 1))
            y = torch.baddbmm(rows, by_lane, weight)
        return y[..., :outputs].transpose(0, 1).flatten(1)


def _padded(matrices: Tensor, columns: int, rows: int = 0) -> Tensor:
    """Matrices with so many more columns and rows of zeros."""
    return F.pad(matrices, (0, columns, 0, rows)) if columns or rows else matrices


_LAYERS: Mapping[type[nn.Module], Callable[[nn.Module, int], nn.Module]] = {
    nn.Conv2d: Conv2d,  # type: ignore[dict-item]
    nn.GroupNorm: GroupNorm,  # type: ignore[dict-item]
    nn.BatchNorm2d: BatchNorm2d,  # type: ignore[dict-item]
    nn.Linear: Linear,
}


def laned(module: nn.Module, lanes: int) -> nn.Module:
    """A network of `lanes` replicas of `module`, each at its state: (N, lanes C, H, W) to (N, lanes K).

    Raises:
        UserError: a layer with tensors of its own is of a kind that has no laned form.
    """
    network = copy.deepcopy(module)
    for name, layer in list(network.named_modules()):
        tensors = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        make = _LAYERS.get(type(layer))
        if make is None and tensors:
            raise UserError(
                f"the layer '{name or 'outermost'}' of the network has no form for several lanes",
                got=type(layer).__name__,
                expected=", ".join(kind.__name__ for kind in _LAYERS),
                fix="lanes: 1",
            )
        if make is not None:
            parent, _, last = name.rpartition(".")
            if not name:
                return make(layer, lanes)
            setattr(network.get_submodule(parent), last, make(layer, lanes))
    return network


def stacked(states: Sequence[State]) -> State:
    """One state of all lanes from a state of each: every tensor with a first dimension of R."""
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def side_by_side(x: Tensor) -> Tensor:
    """Inputs (R, N, C, ...) of R lanes as the laned network takes them: (N, R C, ...)."""
    return x.transpose(0, 1).flatten(1, 2)


def outputs(y: Tensor, lanes: int) -> Tensor:
    """Outputs (R, N, K) from those of the laned network, (N, R K)."""
    return y.view(len(y), lanes, -1).transpose(0, 1)


def network(model: Model, states: Sequence[State], device: str | torch.device = "cpu") -> nn.Module:
    """A laned network of a model at the given states, one a lane.

    Raises:
        UserError: a layer has no laned form, or the network does not keep lanes apart.
    """
    if model.identity not in _apart:
        _check_apart(model)
        _apart.add(model.identity)
    module = laned(model.module, len(states))
    first = next(t for t in states[0].values() if t.is_floating_point())
    module.to(device=device, dtype=first.dtype)
    module.load_state_dict(stacked(states), strict=True)
    return module


_apart: set[str] = set()
"""Identities of the models whose lanes are known to be apart."""
_FAR = 1e-6
"""The relative distance of outputs, in float64, that no rounding explains."""


def _check_apart(model: Model) -> None:
    states, draws = [_uneven(model, lane) for lane in range(2)], stream(0, "lanes")
    x = torch.randn(2, 2, *model.shape, generator=draws, dtype=torch.float64)
    module = laned(model.module, 2).to(torch.float64).eval()
    module.load_state_dict(stacked(states), strict=True)
    with torch.no_grad():
        alone = torch.stack([model(state, images) for state, images in zip(states, x, strict=True)])
        try:
            together = outputs(module(side_by_side(x)), 2)
        except RuntimeError as problem:  # shapes that do not fit where channels are joined or split
            far: object = problem
        else:
            if together.shape == alone.shape and bool((together - alone).abs().max() <= _FAR * alone.abs().max()):
                return
            far = "outputs that depend on the other lanes"
    raise UserError("the network cannot be trained in lanes: it joins, splits or mixes channels", got=far, fix="lanes: 1")


def _uneven(model: Model, lane: int) -> State:
    """A drawn state in float64, with other numbers wherever all of a tensor's are equal, as those of norms."""
    state, draws = model.drawn(lane, "lanes"), stream(lane, "lanes", "uneven")
    for name, tensor in state.items():
        if tensor.is_floating_point():
            even = bool((tensor == tensor.flatten()[:1]).all()) if tensor.numel() else False
            shift = torch.rand(tensor.shape, generator=draws, dtype=torch.float64) if even else 0.0
            state[name] = tensor.double() + shift
    return state
