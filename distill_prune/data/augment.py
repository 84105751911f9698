"""Differentiable augmentation of batches of images (DSA), with parameters drawn apart from their use.

A strategy is written as text:

    none                                       nothing
    color_crop_cutout_flip_scale_rotate        DSA: ONE of the named families, drawn uniformly a call
    crop+flip                                  ALL of the named families, in the order written
    flip+color+crop_scale_rotate               IDC: all of the parts, of the last one drawn uniformly

Parameters are drawn for every sample by itself. With u ~ U[0, 1) and images x (N, C, H, W):

    color     x + (u - 1/2), then (x - m) 2u + m with m the mean over channels, then (x - m) (u + 1/2) + m with m the
              mean of the image
    crop      shift by integers in [-s, s] with s = side / 8, zeros beyond the border
    cutout    a rectangle of half the side set to zero, its centre anywhere in the image
    flip      left and right exchanged with probability 1/2
    scale     factors in [1/1.2, 1.2] for width and height each, about the centre
    rotate    an angle within 15 degrees, about the centre

Scale and rotate sample bilinearly, zeros beyond the border. Every family is linear or affine in x and can be
differentiated any number of times.

References:
    | Dataset Condensation with Differentiable Siamese Augmentation (Zhao and Bilen, 2021), https://arxiv.org/abs/2102.08259
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import AfterValidator
from torch import Tensor

from distill_prune.errors import Misfit, nearest
from distill_prune.tree import moved

CROP_RATIO, CUTOUT_RATIO, SCALE_RATIO, ROTATE_DEGREES = 0.125, 0.5, 1.2, 15.0

Parameters = Mapping[str, Tensor]


@dataclass(frozen=True)
class Draw:
    """What one call does: families in order, and each family's parameters; every tensor is (N,). Draws are made on the CPU."""

    families: tuple[str, ...]
    parameters: Mapping[str, Parameters]

    def tensors(self) -> list[Tensor]:
        """All parameters, in one order."""
        return [t for parameters in self.parameters.values() for t in parameters.values()]

    def over(self, tensors: Iterator[Tensor]) -> Draw:
        """The same with other parameters, in that order."""
        return Draw(self.families, {name: {key: next(tensors) for key in p} for name, p in self.parameters.items()})


def _part(side: int, ratio: float) -> int:
    return int(side * ratio + 0.5)


def _draw_color(n: int, height: int, width: int, generator: torch.Generator) -> Parameters:
    u = torch.rand(3, n, generator=generator)
    return {"brightness": u[0] - 0.5, "saturation": 2 * u[1], "contrast": u[2] + 0.5}


def _color(x: Tensor, p: Parameters) -> Tensor:
    x = x + p["brightness"].view(-1, 1, 1, 1)
    mean = x.mean(1, keepdim=True)
    x = (x - mean) * p["saturation"].view(-1, 1, 1, 1) + mean
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * p["contrast"].view(-1, 1, 1, 1) + mean


def _draw_crop(n: int, height: int, width: int, generator: torch.Generator) -> Parameters:
    most = {"down": _part(height, CROP_RATIO), "right": _part(width, CROP_RATIO)}
    return {name: torch.randint(-s, s + 1, (n,), generator=generator) for name, s in most.items()}


def _crop(x: Tensor, p: Parameters) -> Tensor:
    channels, height, width = x.shape[1:]
    pad_h, pad_w = _part(height, CROP_RATIO), _part(width, CROP_RATIO)
    row = width + 2 * pad_w
    rows, columns = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    window = ((rows + pad_h).unsqueeze(1) * row + columns + pad_w).view(1, -1)
    index = window + (p["down"] * row + p["right"]).view(-1, 1)
    padded = F.pad(x, (pad_w, pad_w, pad_h, pad_h)).flatten(2)
    return padded.gather(2, index.unsqueeze(1).expand(-1, channels, -1)).view_as(x)


def _draw_cutout(n: int, height: int, width: int, generator: torch.Generator) -> Parameters:
    """The first row and column of the rectangle, which may lie outside; an even size has one more place, as in DSA."""
    begins = {}
    for name, side in (("top", height), ("left", width)):
        size = _part(side, CUTOUT_RATIO)
        begins[name] = torch.randint(0, side + 1 - size % 2, (n,), generator=generator) - size // 2
    return begins


def _cutout(x: Tensor, p: Parameters) -> Tensor:
    inside = []
    for begin, side in ((p["top"], x.shape[2]), (p["left"], x.shape[3])):
        offset = torch.arange(side, device=x.device) - begin.view(-1, 1)
        inside.append((offset >= 0) & (offset < _part(side, CUTOUT_RATIO)))
    hole = inside[0].unsqueeze(2) & inside[1].unsqueeze(1)
    return x * (~hole).unsqueeze(1).to(x.dtype)


def _draw_flip(n: int, height: int, width: int, generator: torch.Generator) -> Parameters:
    return {"flip": torch.rand(n, generator=generator) < 0.5}


def _flip(x: Tensor, p: Parameters) -> Tensor:
    return torch.where(p["flip"].view(-1, 1, 1, 1), x.flip(3), x)


def _draw_scale(n: int, height: int, width: int, generator: torch.Generator) -> Parameters:
    u = torch.rand(2, n, generator=generator) * (SCALE_RATIO - 1 / SCALE_RATIO) + 1 / SCALE_RATIO
    return {"horizontal": u[0], "vertical": u[1]}


def _scale(x: Tensor, p: Parameters) -> Tensor:
    zero = torch.zeros_like(p["horizontal"])
    return _warp(x, [p["horizontal"], zero, zero, p["vertical"]])


def _draw_rotate(n: int, height: int, width: int, generator: torch.Generator) -> Parameters:
    return {"angle": (torch.rand(n, generator=generator) - 0.5) * (2 * ROTATE_DEGREES * math.pi / 180)}


def _rotate(x: Tensor, p: Parameters) -> Tensor:
    cos, sin = p["angle"].cos(), p["angle"].sin()
    return _warp(x, [cos, -sin, sin, cos])


def _warp(x: Tensor, matrix: list[Tensor]) -> Tensor:
    """Bilinear samples of `x` at (a h + b v, c h + d v), where (h, v) in [-1, 1]^2 runs over the centres of its pixels.

    `matrix` holds a, b, c and d, each (N,). The values are grid_sample's with align_corners and zeros, whose backward
    pass is not deterministic on CUDA and cannot be differentiated again; a gather's can.
    """
    n, channels, height, width = x.shape
    a, b, c, d = matrix
    theta = torch.stack([a, b, torch.zeros_like(a), c, d, torch.zeros_like(a)], 1).view(n, 2, 3)
    grid = F.affine_grid(theta, [n, channels, height, width], align_corners=True).view(n, -1, 2)
    # Positions (column, row) in an image with one more zero pixel before and two after; what lies further out is zero.
    last = torch.stack([x.new_full((), width + 1), x.new_full((), height + 1)])  # filled there: nothing is copied from the host
    place = ((grid + 1) * ((last - 2) / 2) + 1).clamp_(min=0).minimum(last)
    corner = place.floor()
    share = place - corner
    shares = torch.stack([1 - share, share], 1)
    weight = (shares[:, :, None, :, 1] * shares[:, None, :, :, 0]).view(n, 1, 4, -1)
    row = width + 3
    first = (corner[..., 1] * row + corner[..., 0]).long()
    beside = torch.arange(2, device=x.device)
    index = first.unsqueeze(1) + (row * beside.unsqueeze(1) + beside).view(1, 4, 1)
    padded = F.pad(x, (1, 2, 1, 2)).flatten(2)
    corners = padded.gather(2, index.view(n, 1, -1).expand(-1, channels, -1)).view(n, channels, 4, -1)
    return (corners * weight).sum(2).view_as(x)


_FAMILIES: dict[str, tuple[Callable[[int, int, int, torch.Generator], Parameters], Callable[[Tensor, Parameters], Tensor]]] = {
    "color": (_draw_color, _color),
    "crop": (_draw_crop, _crop),
    "cutout": (_draw_cutout, _cutout),
    "flip": (_draw_flip, _flip),
    "scale": (_draw_scale, _scale),
    "rotate": (_draw_rotate, _rotate),
}

FAMILIES = tuple(_FAMILIES)
WORDS: Mapping[str, str] = {
    "none": "nothing",
    "color": "brightness, saturation and contrast",
    "crop": "a shift by at most an eighth of the side",
    "cutout": "a rectangle of half the side set to zero",
    "flip": "left and right exchanged, every second time",
    "scale": "width and height changed by at most a fifth",
    "rotate": "turned by at most 15 degrees",
    "a_b": "one of the named, drawn a batch",
    "a+b": "all of the named, in this order",
}
"""What a strategy is made of, each in a few words."""


@functools.cache
def _parse(strategy: str) -> tuple[tuple[str, ...], ...]:
    """The parts of a strategy in order, each the families of which a call uses one."""
    if strategy == "none":
        return ()
    parts = tuple(tuple(part.split("_")) for part in strategy.split("+"))
    names = [name for part in parts for name in part]
    for name in names:
        if name not in _FAMILIES:
            known = FAMILIES if len(names) > 1 else (*FAMILIES, "none")
            raise Misfit(f"unknown augmentation '{name}' in '{strategy}'", expected=nearest(name, known))
    if len(set(names)) < len(names):
        raise Misfit("a family is given twice", got=strategy)
    return parts


def _check(strategy: str) -> str:
    _parse(strategy)
    return strategy


Augment = Annotated[str, AfterValidator(_check)]
"""An augmentation strategy, as the head of this file describes. Enters keys as written."""


def draw(strategy: str, shape: tuple[int, ...], generator: torch.Generator) -> Draw:
    """The parameters of one call on a batch of the given shape (N, C, H, W).

    Raises:
        ValueError: the strategy cannot be read.
    """
    names = tuple(
        part[int(torch.randint(len(part), (1,), generator=generator)) if len(part) > 1 else 0] for part in _parse(strategy)
    )
    n, _, height, width = shape
    return Draw(names, {name: _FAMILIES[name][0](n, height, width, generator) for name in names})


def apply(x: Tensor, draw: Draw) -> Tensor:
    """The batch `x` (N, C, H, W), augmented as drawn; the same draw gives the same result."""
    for name in draw.families:
        parameters = {
            k: t.to(device=x.device, dtype=x.dtype if t.is_floating_point() else t.dtype)
            for k, t in draw.parameters[name].items()
        }
        x = _FAMILIES[name][1](x, parameters)
    return x


def placed(draws: Sequence[Draw], device: str | torch.device) -> list[Draw]:
    """The same draws on `device`, copied there all together."""
    there = iter(moved([t for draw in draws for t in draw.tensors()], device))
    return [draw.over(there) for draw in draws]


@dataclass(frozen=True)
class LaneDraw:
    """What one step does to the batches of several trainings: those that drew the same families, by index, share a draw."""

    members: Sequence[Sequence[int]]
    draws: Sequence[Draw]

    def tensors(self) -> list[Tensor]:
        """All tensors, in one order."""
        return [t for draw in self.draws for t in draw.tensors()]

    def over(self, tensors: Iterator[Tensor]) -> LaneDraw:
        """The same with other tensors, in that order."""
        return LaneDraw(self.members, [draw.over(tensors) for draw in self.draws])


def draw_lanes(strategy: str, shape: tuple[int, ...], streams: Sequence[torch.Generator]) -> LaneDraw:
    """The draws of several streams, each for a batch of the given shape (N, C, H, W)."""
    by_families: dict[tuple[str, ...], list[int]] = {}
    draws = [draw(strategy, shape, stream) for stream in streams]
    for index, one in enumerate(draws):
        by_families.setdefault(one.families, []).append(index)
    joined = [
        Draw(families, {name: _joined([draws[i].parameters[name] for i in members]) for name in families})
        for families, members in by_families.items()
    ]
    return LaneDraw(list(by_families.values()), joined)


def apply_lanes(x: Tensor, drawn: LaneDraw) -> Tensor:
    """Batches `x` (R, N, C, H, W), each augmented as its stream drew. Those of the same families are augmented together:
    parameters are of one sample each."""
    if len(drawn.draws) == 1:
        return apply(x.flatten(0, 1), drawn.draws[0]).reshape(x.shape)
    batches: list[Tensor] = list(x)
    for members, one in zip(drawn.members, drawn.draws, strict=True):
        images = apply(torch.cat([batches[i] for i in members]), one)
        for i, batch in zip(members, torch.split(images, x.shape[1]), strict=True):
            batches[i] = batch
    return torch.stack(batches)


def _joined(parameters: Sequence[Parameters]) -> Parameters:
    """The parameters of several batches as those of one."""
    return {key: torch.cat([p[key] for p in parameters]) for key in parameters[0]}
