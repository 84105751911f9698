"""The passes of layers that multiply their input by weights: forwards, backwards, and both along a direction (chain.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Tensors = Sequence[Tensor]


class Layer(Protocol):
    """The passes of a layer f with tensors `w`; `u` is their direction, and R of a tensor is named with an r before it."""

    def forward(self, w: Tensors, x: Tensor, /) -> tuple[Tensor, Tensors]:
        """The output, and a record."""

    def backward(self, w: Tensors, record: Tensors, g: Tensor, to_input: bool, /) -> tuple[Tensor, Tensors, Tensors]:
        """The gradients of the input (of no meaning without `to_input`) and of `w` from that of the output, and a record in
        place of the first."""

    def directed(self, w: Tensors, u: Tensors, record: Tensors, rx: Tensor | None, /) -> tuple[Tensor, Tensors]:
        """R of the output, and a further record; no `rx` stands for zero."""

    def pulled(
        self, w: Tensors, u: Tensors, record: Tensors, more: Tensors, rg: Tensor, to_input: bool, /
    ) -> tuple[Tensor, Tensors]:
        """R of the gradients that `backward` gives."""


class Conv:
    def __init__(self, layer: nn.Conv2d) -> None:
        self.stride, self.padding, self.dilation, self.groups = layer.stride, layer.padding, layer.dilation, layer.groups

    def _forward(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)

    def _backward(self, g: Tensor, x: Tensor, weight: Tensor, mask: Sequence[bool]) -> tuple[Tensor, Tensor, Tensor]:
        """The gradients of x, weight and bias that `mask` asks for."""
        place = self.stride, self.padding, self.dilation, False, (0, 0), self.groups
        gx, gweight, gbias = torch.ops.aten.convolution_backward(g, x, weight, (len(weight),), *place, mask)
        return gx, gweight, gbias

    def forward(self, w: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        return self._forward(x, *w), (x,)

    def backward(self, w: Tensors, record: Tensors, g: Tensor, to_input: bool) -> tuple[Tensor, Tensors, Tensors]:
        (x,) = record
        gx, *gw = self._backward(g, x, w[0], (to_input, True, len(w) > 1))
        return gx if to_input else g, gw[: len(w)], (x, g)

    def directed(self, w: Tensors, u: Tensors, record: Tensors, rx: Tensor | None) -> tuple[Tensor, Tensors]:
        ry = self._forward(record[0], *u)
        return (ry, ()) if rx is None else (ry.add_(self._forward(rx, w[0])), (rx,))

    def pulled(
        self, w: Tensors, u: Tensors, record: Tensors, more: Tensors, rg: Tensor, to_input: bool
    ) -> tuple[Tensor, Tensors]:
        x, g = record
        rgx, *rgw = self._backward(rg, x, w[0], (to_input, True, len(w) > 1))
        if more or to_input:
            by_u, by_rx, _ = self._backward(g, more[0] if more else x, u[0], (to_input, bool(more), False))
            if more:
                rgw[0].add_(by_rx)
            if to_input:
                rgx.add_(by_u)
        return rgx if to_input else rg, rgw[: len(w)]


class Patches:
    """A convolution as a product with patches of its input, which take no more memory than its output: several times as fast
    as torch's kernels on a CPU where channels are few."""

    def __init__(self, layer: nn.Conv2d, shape: torch.Size) -> None:
        assert not isinstance(layer.padding, str)
        self.place = layer.kernel_size, layer.dilation, layer.padding, layer.stride
        self.size = shape[1], shape[2]
        sides = zip(self.size, *self.place, strict=True)
        self.out = [
            (side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
            for side, kernel, dilation, padding, stride in sides
        ]

    def _patches(self, x: Tensor) -> Tensor:
        """(B, C k k, H W)."""
        return F.unfold(x, *self.place)

    def _product(self, w: Tensors, patches: Tensor) -> Tensor:
        weight = w[0].flatten(1).expand(len(patches), -1, -1)
        maps = torch.baddbmm(w[1].view(1, -1, 1), weight, patches) if len(w) > 1 else torch.bmm(weight, patches)
        return maps.view(len(maps), -1, *self.out)

    def _to_input(self, weight: Tensor, g: Tensor) -> Tensor:
        return torch.bmm(weight.flatten(1).t().expand(len(g), -1, -1), g.flatten(2))

    def forward(self, w: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        patches = self._patches(x)
        return self._product(w, patches), (patches,)

    def backward(self, w: Tensors, record: Tensors, g: Tensor, to_input: bool) -> tuple[Tensor, Tensors, Tensors]:
        (patches,) = record
        gx = F.fold(self._to_input(w[0], g), self.size, *self.place) if to_input else g
        return gx, self._to_tensors(w, g, patches), (patches, g)

    def _to_tensors(self, w: Tensors, g: Tensor, patches: Tensor) -> Tensors:
        weight = torch.bmm(g.flatten(2), patches.transpose(1, 2)).sum(0).view(w[0].shape)
        return (weight, g.sum((0, 2, 3)))[: len(w)]

    def directed(self, w: Tensors, u: Tensors, record: Tensors, rx: Tensor | None) -> tuple[Tensor, Tensors]:
        ry = self._product(u, record[0])
        if rx is None:
            return ry, ()
        patches = self._patches(rx)
        return ry.add_(self._product(w[:1], patches)), (patches,)

    def pulled(
        self, w: Tensors, u: Tensors, record: Tensors, more: Tensors, rg: Tensor, to_input: bool
    ) -> tuple[Tensor, Tensors]:
        patches, g = record
        rgw = self._to_tensors(w, rg, patches)
        if more:
            rgw[0].add_(self._to_tensors(w[:1], g, more[0])[0])
        if not to_input:
            return rg, rgw
        return F.fold(self._to_input(w[0], rg).add_(self._to_input(u[0], g)), self.size, *self.place), rgw


class Linear:
    def forward(self, w: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        return F.linear(x, *w), (x,)

    def backward(self, w: Tensors, record: Tensors, g: Tensor, to_input: bool) -> tuple[Tensor, Tensors, Tensors]:
        (x,) = record
        return g @ w[0] if to_input else g, (g.t() @ x, g.sum(0))[: len(w)], (x, g)

    def directed(self, w: Tensors, u: Tensors, record: Tensors, rx: Tensor | None) -> tuple[Tensor, Tensors]:
        ry = F.linear(record[0], *u)
        return (ry, ()) if rx is None else (ry.addmm_(rx, w[0].t()), (rx,))

    def pulled(
        self, w: Tensors, u: Tensors, record: Tensors, more: Tensors, rg: Tensor, to_input: bool
    ) -> tuple[Tensor, Tensors]:
        x, g = record
        rgweight = rg.t() @ x
        if more:
            rgweight.addmm_(g.t(), more[0])
        rgx = (rg @ w[0]).addmm_(g, u[0]) if to_input else rg
        return rgx, (rgweight, rg.sum(0))[: len(w)]
