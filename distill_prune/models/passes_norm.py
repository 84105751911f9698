"""The passes of norms (chain.py). Each standardises groups of n values,

    xhat = (x - m) r,   r = 1 / sqrt(v + eps),   F(q) = r (q - mean q - mean(q xhat) xhat) = (d xhat / dx)^T q
    R{xhat} = F(R{x}) = h,   R{F(q)} = F(R{q}) - r (mean(R{x} xhat) F(q) + mean(q xhat) h + mean(q h) xhat)

and one kernel of torch gives F(q) with the sums of q xhat and of q. All else that multiplies q, h and x in the last line is a
number of a group or a channel: a derivative along a direction reads the maps a few times, where autograd's double backward
makes some twenty of their size.

References:
    | Group Normalization (Wu and He, 2018), https://arxiv.org/abs/1803.08494
    | Batch Normalization (Ioffe and Szegedy, 2015), https://arxiv.org/abs/1502.03167
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from distill_prune.models.passes import Tensors

aten = torch.ops.aten


class Norm(ABC):
    """A norm with weights and biases. Numbers of a channel are (rows, groups, channels of a group), the `sizes`; those of a
    group are (rows, groups, 1). Rows are examples, or a single one where statistics are of the batch."""

    def __init__(self, eps: float) -> None:
        self.eps = eps

    @abstractmethod
    def sizes(self, x: Tensor) -> tuple[int, int, int]:
        """Rows, groups, and channels of a group."""

    @abstractmethod
    def by_row(self, x: Tensor, weight: Tensor, /) -> Tensor:
        """A weight (C,) for each row, as torch's kernel takes them: (rows C,)."""

    @abstractmethod
    def summed(self, maps: Tensor) -> Tensor:
        """Sums of a channel."""

    @abstractmethod
    def standardised(self, x: Tensor, weights: Tensor, biases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """weight xhat + bias, m and r."""

    @abstractmethod
    def transposed(self, q: Tensor, x: Tensor, m: Tensor, r: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """F(weight q), and the sums of q xhat and of q of a channel."""

    def forward(self, w: Tensors, x: Tensor) -> tuple[Tensor, Tensors]:
        weights = self.by_row(x, w[0])
        y, m, r = self.standardised(x, weights, self.by_row(x, w[1]))
        groups = (*self.sizes(x)[:2], 1)
        return y, (x, m.view(groups), r.view(groups), weights)

    def backward(self, _w: Tensors, record: Tensors, g: Tensor, _to_input: bool) -> tuple[Tensor, Tensors, Tensors]:
        gx, by_xhat, plain = self.transposed(g, *record)
        return gx, (by_xhat.sum(0).view(-1), plain.sum(0).view(-1)), (*record, g, by_xhat, plain)

    def directed(self, w: Tensors, u: Tensors, record: Tensors, rx: Tensor | None) -> tuple[Tensor, Tensors]:
        """R{y} = w h + u_w xhat + u_b."""
        assert rx is not None  # the first tensors of a chain are those of a product
        x, m, r, weights = record[:4]
        sizes = self.sizes(x)
        h, by_xhat, _ = self.transposed(rx, x, m, r, torch.ones_like(weights))
        of_x = r * u[0].view(1, *sizes[1:])
        constant = torch.addcmul(u[1].view(1, *sizes[1:]), of_x, m, value=-1)
        ry = torch.addcmul(_spread(constant, sizes), x, _spread(of_x, sizes))
        return ry.addcmul_(h, w[0].view(-1, 1, 1)), (h, by_xhat)

    def pulled(
        self, w: Tensors, u: Tensors, record: Tensors, more: Tensors, rg: Tensor, _to_input: bool
    ) -> tuple[Tensor, Tensors]:
        """R{F(w g)} = F(w R{g}) + of_g g - (of_h h + of_x x + constant) / n."""
        x, m, r, weights, g, by_xhat, plain = record
        h, rx_by_xhat = more
        sizes, n = self.sizes(x), x.numel() // r.numel()
        rgx, rg_by_xhat, rg_plain = self.transposed(rg, x, m, r, weights)
        by_h = self.summed(g * h)
        scaled = r * w[0].view(1, *sizes[1:])
        of_g = r * torch.addcmul(u[0].view(1, *sizes[1:]), scaled, _total(rx_by_xhat), value=-1 / n)
        of_h = _total(scaled * by_xhat)
        of_x = r * _total(torch.addcmul(by_xhat * of_g, scaled, by_h))
        constant = torch.addcmul(_total(plain * of_g), of_x, m, value=-1)
        rgx.addcmul_(g, _spread(of_g, sizes)).addcmul_(h, _spread(of_h, sizes), value=-1 / n)
        rgx.addcmul_(x, _spread(of_x, sizes), value=-1 / n).sub_(_spread(constant, sizes), alpha=1 / n)
        return rgx, ((rg_by_xhat + by_h).sum(0).view(-1), rg_plain.sum(0).view(-1))


def _total(sums: Tensor) -> Tensor:
    """Numbers of a group from those of its channels."""
    return sums if sums.shape[2] == 1 else sums.sum(2, keepdim=True)


def _spread(numbers: Tensor, sizes: tuple[int, int, int]) -> Tensor:
    """Numbers of channels or groups as factors of maps (B, C, H, W)."""
    return numbers.expand(sizes).reshape(sizes[0], -1, 1, 1)


class GroupNorm(Norm):
    """To torch's kernels all channels of a batch are channels of one example, so that their sums are of an example each."""

    def __init__(self, layer: nn.GroupNorm) -> None:
        super().__init__(layer.eps)
        self.groups = layer.num_groups

    def sizes(self, x: Tensor) -> tuple[int, int, int]:
        return len(x), self.groups, x.shape[1] // self.groups

    def by_row(self, x: Tensor, weight: Tensor) -> Tensor:
        return weight.expand(x.shape[:2]).reshape(-1)

    def summed(self, maps: Tensor) -> Tensor:
        return maps.sum((2, 3)).view(self.sizes(maps))

    def _counts(self, x: Tensor) -> tuple[int, int, int, int]:
        channels = len(x) * x.shape[1]
        return 1, channels, x.numel() // channels, len(x) * self.groups

    def standardised(self, x: Tensor, weights: Tensor, biases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, m, r = aten.native_group_norm(x, weights, biases, *self._counts(x), self.eps)
        return y, m, r

    def transposed(self, q: Tensor, x: Tensor, m: Tensor, r: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        backward, groups, mask = aten.native_group_norm_backward, (1, r.numel()), (True, True, True)
        gx, *sums = backward(q, x, m.view(groups), r.view(groups), weights, *self._counts(x), mask)
        by_xhat, plain = (t.view(self.sizes(x)) for t in sums)
        return gx, by_xhat, plain


class BatchNorm(Norm):
    def __init__(self, layer: nn.BatchNorm2d) -> None:
        super().__init__(layer.eps)

    def sizes(self, x: Tensor) -> tuple[int, int, int]:
        return 1, x.shape[1], 1

    def by_row(self, _x: Tensor, weight: Tensor) -> Tensor:
        return weight

    def summed(self, maps: Tensor) -> Tensor:
        return maps.sum((0, 2, 3)).view(self.sizes(maps))

    def standardised(self, x: Tensor, weights: Tensor, biases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y, m, r = aten.native_batch_norm(x, weights, biases, None, None, True, 0.0, self.eps)
        return y, m, r

    def transposed(self, q: Tensor, x: Tensor, m: Tensor, r: Tensor, weights: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        statistics, mask = (None, None, m.view(-1), r.view(-1)), (True, True, True)
        gx, *sums = aten.native_batch_norm_backward(q, x, weights, *statistics, True, self.eps, mask)
        by_xhat, plain = (t.view(self.sizes(x)) for t in sums)
        return gx, by_xhat, plain
