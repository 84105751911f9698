"""The passes of layers without weights whose output is linear in their input around each input (chain.py): ReLU, pooling."""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from distill_prune.models.passes import Tensors

aten = torch.ops.aten


class Fixed(ABC):
    """A layer without tensors of its own, whose output is linear in its input around each input."""

    @abstractmethod
    def linear(self, record: Tensors, rx: Tensor, /) -> Tensor:
        """The output's change for a change of the input; the output itself where `record` is empty."""

    @abstractmethod
    def transposed(self, record: Tensors, g: Tensor, /) -> Tensor:
        """The input's gradient from that of the output."""

    def forward(self, _w: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        return self.linear((), x), ()

    def backward(self, _w: Tensors, record: Tensors, g: Tensor, _to_input: bool) -> tuple[Tensor, Tensors, Tensors]:
        return self.transposed(record, g), (), record

    def directed(self, _w: Tensors, _u: Tensors, record: Tensors, rx: Tensor | None) -> tuple[Tensor, Tensors]:
        assert rx is not None  # the first tensors of a chain are before it
        return self.linear(record, rx), ()

    def pulled(
        self, _w: Tensors, _u: Tensors, record: Tensors, _more: Tensors, rg: Tensor, _to_input: bool
    ) -> tuple[Tensor, Tensors]:
        return self.transposed(record, rg), ()


class ReLU(Fixed):
    def forward(self, _w: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        y = F.relu(x)
        return y, (y,)

    def linear(self, record: Tensors, rx: Tensor) -> Tensor:
        return self.transposed(record, rx)

    def transposed(self, record: Tensors, g: Tensor) -> Tensor:
        masked: Tensor = aten.threshold_backward(g, record[0], 0)
        return masked


class Flatten(Fixed):
    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape

    def linear(self, _record: Tensors, rx: Tensor) -> Tensor:
        return rx.flatten(1)

    def transposed(self, _record: Tensors, g: Tensor) -> Tensor:
        return g.view(-1, *self.shape)


class AvgPool(Fixed):
    """Means of squares of `side` pixels: products of strips of `side` rows with one matrix, several times as fast as torch's
    kernels for small squares on a CPU. A compiler fuses those of torch with their neighbours."""

    def __init__(self, side: int, shape: torch.Size) -> None:
        self.side, (_, self.height, self.width) = side, shape
        self.rows, self.columns = self.height // side, self.width // side

    def linear(self, _record: Tensors, rx: Tensor) -> Tensor:
        if torch.compiler.is_compiling():
            return F.avg_pool2d(rx, self.side)
        strips = rx[:, :, : self.rows * self.side].reshape(-1, self.side * self.width)
        return (strips @ _strip(self.side, self.width, rx.dtype, rx.device)).view(*rx.shape[:2], self.rows, self.columns)

    def transposed(self, _record: Tensors, g: Tensor) -> Tensor:
        images, channels = g.shape[:2]
        if torch.compiler.is_compiling():
            side, like = [self.side] * 2, g.new_empty(images, channels, self.height, self.width)
            spread: Tensor = aten.avg_pool2d_backward(g, like, side, side, [0, 0], False, True, None)
            return spread
        strips = g.reshape(-1, self.columns) @ _strip(self.side, self.width, g.dtype, g.device).t()
        maps = strips.view(images, channels, -1, self.width)
        left = self.height - self.rows * self.side
        return F.pad(maps, (0, 0, 0, left)) if left else maps


@functools.cache
def _strip(side: int, width: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """The matrix (side width, width // side) that pools a strip of `side` rows."""
    units = torch.eye(side * width, dtype=dtype, device=device)
    return F.avg_pool2d(units.view(-1, 1, side, width), side).flatten(1)


class MaxPool(Fixed):
    """Maxima of squares that do not overlap."""

    def __init__(self, side: int, shape: torch.Size) -> None:
        self.side, self.shape = side, shape

    def forward(self, _w: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        y, place = F.max_pool2d_with_indices(x, [self.side] * 2)
        return y, (place,)

    def linear(self, record: Tensors, rx: Tensor) -> Tensor:
        (place,) = record
        return rx.flatten(2).gather(2, place.flatten(2)).view(place.shape)

    def transposed(self, record: Tensors, g: Tensor) -> Tensor:
        (place,) = record
        maps = g.new_zeros(*g.shape[:2], self.shape[1] * self.shape[2])
        return maps.scatter(2, place.flatten(2), g.flatten(2)).view(-1, *self.shape)
