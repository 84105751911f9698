"""Networks of libraries, fitted to the data: channels, small images, with equal bits for equal seeds.

    channels     a first convolution of another number of channels is made anew, as torch draws one
    small        images below 64 pixels a side: the first reductions by 4 in all are left out. The first convolution, where it
                 has a stride, becomes 3x3 with stride 1, other convolutions get stride 1, pooling layers are left out
    means        over parts of an image are taken by products, for torch's own are not deterministic on CUDA
    sigmoids     that are hard are written out, for torch's own cannot be differentiated twice
    draws        dropout and stochastic depth are off: every draw of a training comes from a stream that its step names, and a
                 layer's would not

For a ResNet this is the usual form for CIFAR: a 3x3 stem without pooling. A vision transformer cuts its patches as ever.

References:
    | Deep Residual Learning for Image Recognition, section 4.2 (He et al., 2016), https://arxiv.org/abs/1512.03385
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import TypeAlias, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch._ops import OpOverload
from torch.utils._python_dispatch import TorchDispatchMode

from distill_prune.arithmetic import ceil_div
from distill_prune.errors import ConfigError
from distill_prune.rng import seeded

SMALL = 64
"""Images with a side below so many pixels are small."""
USUAL = 224
"""The side of the images that the networks of libraries are made for."""
REDUCTION = 4
"""By what the sides of small images are reduced less."""

Reductions: TypeAlias = tuple[str, ...]
"""Names of layers that reduce the image, and do not for small ones."""
_POOLS = (nn.MaxPool2d, nn.AvgPool2d)


def first_convolution(module: nn.Module) -> tuple[str, nn.Conv2d]:
    """The convolution that reads the image, with its name.

    Raises:
        ValueError: there is none.
    """
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d):
            return name, layer
    raise ValueError("the network has no convolution that reads an image")


class Undrawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Parameters that are made in its block hold no numbers of any meaning: what is built to look at shapes is built fast."""

    def __torch_dispatch__(
        self, func: OpOverload, types: Sequence[type], args: Sequence[object] = (), kwargs: Mapping[str, object] | None = None
    ) -> object:
        if func._schema.is_mutable and args and isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))


def outlined(build: Callable[[], nn.Module]) -> nn.Module:
    """The network that `build` makes, in evaluation mode, without numbers: for a look at shapes. Nothing is drawn."""
    with seeded(0), Undrawn():  # type: ignore[no-untyped-call]
        return build().to("meta").eval()


def reductions(outline: nn.Module) -> Reductions:
    """The layers of a network for three channels that reduce the image first, by 4 in all: of those with a stride the ones that
    see the largest maps. Layers side by side see maps of one size. The `outline` is passed through once."""
    maps: dict[str, tuple[int, int]] = {}

    def see(name: str, x: Tensor, y: Tensor) -> None:
        maps.setdefault(name, (x.shape[-1], y.shape[-1]))

    for name, layer in outline.named_modules():
        if isinstance(layer, (nn.Conv2d, *_POOLS)) and _stride(layer) > 1:
            layer.register_forward_hook(lambda _, inputs, y, name=name: see(name, inputs[0], y))
    outline(torch.empty(1, 3, USUAL, USUAL, device="meta"))
    chosen: list[str] = []
    left = REDUCTION
    for size in sorted({before for before, _ in maps.values()}, reverse=True):
        layers = [name for name, (before, _) in maps.items() if before == size]
        if left > 1:
            chosen += layers
            left //= max(round(size / maps[name][1]) for name in layers)
    return tuple(chosen)


def _stride(layer: nn.Conv2d | nn.MaxPool2d | nn.AvgPool2d) -> int:
    return max(_sides(layer.stride))


def without(module: nn.Module, names: Reductions) -> nn.Module:
    """`module`, whose layers of these names do not reduce the image any more."""
    first = first_convolution(module)[0]
    for name in names:
        layer = module.get_submodule(name)
        if not isinstance(layer, nn.Conv2d):
            _put(module, name, nn.Identity())
        elif name == first:
            _put(module, name, _convolution(layer, layer.in_channels, kernel_size=3, stride=1, padding=1))
        else:
            layer.stride = (1, 1)
    return module


def for_channels(module: nn.Module, channels: int) -> nn.Module:
    """`module`, whose first convolution reads images of so many channels."""
    name, layer = first_convolution(module)
    if layer.in_channels != channels:
        _put(module, name, _convolution(layer, channels))
    return module


def _convolution(layer: nn.Conv2d, channels: int, **changes: int) -> nn.Conv2d:
    """A new convolution in the place of the one that reads the image."""
    of_before = {name: getattr(layer, name) for name in ("kernel_size", "stride", "padding", "dilation")}
    return nn.Conv2d(channels, layer.out_channels, bias=layer.bias is not None, **{**of_before, **changes})


def _put(module: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(module.get_submodule(parent), last, layer)


class Means(nn.Module):
    """Means over the parts of an image, `sides` of them: those of `nn.AdaptiveAvgPool2d` as two products with matrices, whose
    gradient is deterministic on every device."""

    def __init__(self, sides: tuple[int, int]) -> None:
        super().__init__()
        self.sides = sides

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (_shares(n, side, x) for n, side in zip(x.shape[2:], self.sides, strict=True))
        return rows @ x @ columns.T


def _shares(pixels: int, parts: int, like: Tensor) -> Tensor:
    """The share (parts, pixels) that each pixel has in the mean of each part, which begins at floor(i pixels / parts)."""
    shares = torch.zeros(parts, pixels, dtype=like.dtype, device=like.device)
    for i in range(parts):
        begin, end = i * pixels // parts, ceil_div((i + 1) * pixels, parts)
        shares[i, begin:end] = 1 / (end - begin)
    return shares


class Hardsigmoid(nn.Module):
    """min(max(x + 3, 0), 6) / 6: that of torch, differentiable twice."""

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + 3) / 6


def repeatable(module: nn.Module) -> nn.Module:
    """`module` without dropout and stochastic depth, with means over parts of an image that are deterministic, and with
    activations that can be differentiated twice."""
    for name, layer in [*module.named_modules()]:
        if isinstance(layer, nn.modules.dropout._DropoutNd) or type(layer).__name__ == "StochasticDepth":  # torchvision's
            layer.p = 0.0
        elif type(layer).__name__ == "DropPath":  # timm's
            layer.drop_prob = 0.0
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            sides = _sides(cast(int | tuple[int, int], layer.output_size))  # None, a side as it is, is in no library
            if sides != (1, 1):  # one mean is a plain one
                _put(module, name, Means(sides))
        elif isinstance(layer, nn.Hardsigmoid):
            _put(module, name, Hardsigmoid())
    return module


def _sides(size: int | tuple[int, ...]) -> tuple[int, int]:
    height, width = size if isinstance(size, tuple) else (size, size)
    return height, width


Build: TypeAlias = Callable[[str, tuple[int, ...], int], nn.Module]
"""The network of a library by its name there, for images (C, H, W) and so many classes."""


def checked(build: Build, arch: str, shape: tuple[int, ...], classes: int) -> nn.Module:
    """What `build` makes, with logits (N, classes) of images (N, *shape).

    Raises:
        ConfigError: the network cannot take such images.
        ValueError: they are no images.
    """
    if len(shape) != 3:
        raise ValueError("it takes images (channels, height, width)")
    _check(build, arch, tuple(shape), classes)
    return build(arch, shape, classes)


@cache
def _check(build: Build, arch: str, shape: tuple[int, ...], classes: int) -> None:
    """Pass images of no numbers through the network, once in a process.

    Raises:
        ConfigError: it cannot take images of this shape, or does not give logits of so many classes.
    """
    try:
        logits = outlined(lambda: build(arch, shape, classes))(torch.empty(2, *shape, device="meta"))
        if not isinstance(logits, Tensor) or logits.shape != (2, classes):
            raise ValueError(f"an output {getattr(logits, 'shape', type(logits).__name__)} in place of logits (2, {classes})")
    except (RuntimeError, ValueError, AssertionError) as problem:
        raise ConfigError(
            f"network '{arch}' cannot take images of shape {tuple(shape)}",
            got=problem,
            fix=f"larger images (it is made for {USUAL}x{USUAL}), or another `arch`",
        ) from problem
