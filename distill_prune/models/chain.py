"""Gradients of a chain of layers and their derivatives along a direction, in closed form and without autograd.

    L = sum_b l(z_b, y_b) / B,   z = f(w, x);   l is the cross-entropy of softmax(z_b) and probabilities y_b
    g = dL/dw;   R{.} = d/de (.) at w + e u, e = 0
    (d2L/dw2) u = R{dL/dw},   d<g, u>/dx = R{dL/dx},   d<g, u>/dy = -R{z} / B

R is a derivative, so one more pass forwards and backwards through the layers gives all three: each layer differentiates its
own two passes along u (passes.py), and needs for that a record of them. Autograd, asked to differentiate its own backward pass,
takes three times as many operations and keeps more.

References:
    | Fast Exact Multiplication by the Hessian (Pearlmutter, 1994)
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from distill_prune.models.passes import Conv, Layer, Linear, Patches, Tensors
from distill_prune.models.passes_fixed import AvgPool, Flatten, MaxPool, ReLU
from distill_prune.models.passes_norm import BatchNorm, GroupNorm
from distill_prune.models.pooling import HalvingPool


class Record(NamedTuple):
    """What a gradient leaves for products at the same place: each layer's tensors and record, and the softmax of the outputs
    (B, K)."""

    tensors: list[Tensors]
    layers: list[Tensors]
    softmax: Tensor


class Product(NamedTuple):
    """Along a direction u: (d2L/dw2) u (P,), d<g, u>/dx (B, C, H, W), and d<g, u>/dy (B, K), which may be left out where y are
    classes."""

    parameters: Tensor
    inputs: Tensor
    labels: Tensor | None


@dataclass(frozen=True)
class Chain:
    """Layers in order, and the shapes of each one's tensors. `first` is the first layer that has some.

    `by_example`: no layer has statistics of a batch, so that gradients of parts of a batch add up to that of the whole.
    """

    layers: tuple[Layer, ...]
    shapes: tuple[tuple[torch.Size, ...], ...]
    first: int
    by_example: bool

    @classmethod
    def of(cls, module: nn.Module, shape: tuple[int, ...]) -> Chain | None:
        """The chain of a network for inputs (C, H, W); None where it is no chain, or a layer has no closed form."""
        if type(module) is not nn.Sequential:
            return None
        layers: list[Layer] = []
        x = torch.empty(1, *shape, device="meta")
        for part in module:
            layer = _passes(part, x.shape[1:])
            if layer is None:
                return None
            layers.append(layer)
            x = copy.deepcopy(part).to("meta").eval()(x)
        shapes = tuple(tuple(p.shape for p in part.parameters()) for part in module)
        first = next((i for i, own in enumerate(shapes) if own), len(shapes))
        if x.dim() != 2 or first == len(shapes) or not isinstance(layers[first], Conv | Patches | Linear):
            return None
        return cls(tuple(layers), shapes, first, not any(isinstance(layer, BatchNorm) for layer in layers))

    def _tensors(self, vector: Tensor) -> list[Tensors]:
        """Views of a vector (P,), by layer."""
        sizes = [shape.numel() for shapes in self.shapes for shape in shapes]
        parts = iter(torch.split(vector, sizes))
        return [[next(parts).view(shape) for shape in shapes] for shapes in self.shapes]

    def gradient(self, theta: Tensor, x: Tensor, y: Tensor, count: int) -> tuple[Tensor, Record]:
        """The gradient (P,) at parameters (P,) of the summed cross-entropy, divided by `count`; `y` are classes (B,) or
        probabilities (B, K)."""
        w = self._tensors(theta)
        records: list[Tensors] = []
        gradients: list[Tensor] = []
        for layer, tensors in zip(self.layers, w, strict=True):
            x, record = layer.forward(tensors, x)
            records.append(record)
        softmax = x.softmax(1)
        g = (softmax - probabilities(y, softmax)) / count
        for i in reversed(range(self.first, len(self.layers))):
            g, of_tensors, records[i] = self.layers[i].backward(w[i], records[i], g, i > self.first)
            gradients[:0] = of_tensors
        return torch.cat([t.reshape(-1) for t in gradients]), Record(w, records, softmax)

    def product(self, direction: Tensor, record: Record, count: int) -> Product:
        """The products along a direction (P,), where the gradient left `record`."""
        rx, rg, parameters = self._along(direction, record, count, True)
        return Product(parameters, rg, rx / -count)

    def curvature(self, direction: Tensor, record: Record, count: int) -> Tensor:
        """(d2L/dw2) u (P,) alone along a direction u (P,), where the gradient left `record`."""
        return self._along(direction, record, count, False)[2]

    def _along(self, direction: Tensor, record: Record, count: int, to_input: bool) -> tuple[Tensor, Tensor, Tensor]:
        """R of the outputs, of the gradient of the inputs (of no meaning without `to_input`) and of that of the parameters."""
        w, u = record.tensors, self._tensors(direction)
        more: list[Tensors] = []
        parts: list[Tensor] = []
        rx: Tensor | None = None
        for i, layer in enumerate(self.layers):
            further: Tensors = ()
            if i >= self.first:
                rx, further = layer.directed(w[i], u[i], record.layers[i], rx)
            more.append(further)
        assert rx is not None  # there is a layer with tensors
        rg = torch._softmax_backward_data(rx, record.softmax, 1, rx.dtype) / count
        for i in reversed(range(0 if to_input else self.first, len(self.layers))):
            wanted = to_input or i > self.first
            rg, of_tensors = self.layers[i].pulled(w[i], u[i], record.layers[i], more.pop(), rg, wanted)
            parts[:0] = of_tensors
        return rx, rg, torch.cat([t.reshape(-1) for t in parts])


def probabilities(y: Tensor, like: Tensor) -> Tensor:
    """Labels as probabilities of the shape and type of `like` (B, K)."""
    if y.is_floating_point():
        return y
    return (y.unsqueeze(1) == torch.arange(like.shape[1], device=y.device)).to(like.dtype)


def _passes(layer: nn.Module, shape: torch.Size) -> Layer | None:
    """The passes of a module for inputs (B, *shape); None where there is no closed form here."""
    if type(layer) is nn.Conv2d and layer.padding_mode == "zeros" and not isinstance(layer.padding, str):
        few = layer.groups == 1 and layer.in_channels * layer.weight[0, 0].numel() <= layer.out_channels
        return Patches(layer, shape) if few else Conv(layer)
    if type(layer) is nn.Linear and len(shape) == 1:
        return Linear()
    if type(layer) is nn.GroupNorm and layer.affine and len(shape) == 3:
        return GroupNorm(layer)
    if type(layer) is nn.BatchNorm2d and layer.affine:
        return BatchNorm(layer)
    if type(layer) is nn.ReLU:
        return ReLU()
    if type(layer) is nn.Flatten and (layer.start_dim, layer.end_dim) == (1, -1):
        return Flatten(shape)
    if (
        isinstance(layer, nn.AvgPool2d)
        and type(layer) in (nn.AvgPool2d, HalvingPool)
        and (layer.stride, layer.padding) == (layer.kernel_size, 0)
    ):
        plain = not layer.ceil_mode and layer.divisor_override is None
        return AvgPool(layer.kernel_size, shape) if plain and isinstance(layer.kernel_size, int) else None
    if type(layer) is nn.MaxPool2d and (layer.stride, layer.padding, layer.dilation) == (layer.kernel_size, 0, 1):
        plain = not layer.ceil_mode and not layer.return_indices
        return MaxPool(layer.kernel_size, shape) if plain and isinstance(layer.kernel_size, int) else None
    return None
