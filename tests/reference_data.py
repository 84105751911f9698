"""Slow, obvious twins of the data room: one sample, one pixel at a time. And small made files to read."""

from __future__ import annotations

import io
import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from distill_prune.artifacts import Images
from distill_prune.data import npz


def pixel(image: Tensor, channel: int, row: int, column: int) -> float:
    """The value of one pixel; zero beyond the border."""
    _, height, width = image.shape
    return float(image[channel, row, column]) if 0 <= row < height and 0 <= column < width else 0.0


def color(image: Tensor, brightness: float, saturation: float, contrast: float) -> Tensor:
    image = image + brightness
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            mean = image[:, row, column].mean()
            image[:, row, column] = (image[:, row, column] - mean) * saturation + mean
    return (image - image.mean()) * contrast + image.mean()


def crop(image: Tensor, down: float, right: float) -> Tensor:
    result = torch.empty_like(image)
    for c, i, j in np.ndindex(*image.shape):
        result[c, i, j] = pixel(image, c, i + int(down), j + int(right))
    return result


def cutout(image: Tensor, top: float, left: float) -> Tensor:
    height, width = int(image.shape[1] * 0.5 + 0.5), int(image.shape[2] * 0.5 + 0.5)
    result = image.clone()
    for c, i, j in np.ndindex(*image.shape):
        if top <= i < top + height and left <= j < left + width:
            result[c, i, j] = 0
    return result


def flip(image: Tensor, flip: float) -> Tensor:
    result = image.clone()
    for c, i, j in np.ndindex(*image.shape):
        result[c, i, j] = image[c, i, image.shape[2] - 1 - j] if flip else image[c, i, j]
    return result


def warp(image: Tensor, a: float, b: float, c: float, d: float) -> Tensor:
    """Bilinear samples at (a h + b v, c h + d v), corners being the centres of the corner pixels."""
    _, height, width = image.shape
    result = torch.empty_like(image)
    for channel, i, j in np.ndindex(*image.shape):
        h, v = 2 * j / (width - 1) - 1, 2 * i / (height - 1) - 1
        column, row = (a * h + b * v + 1) / 2 * (width - 1), (c * h + d * v + 1) / 2 * (height - 1)
        left, top = math.floor(column), math.floor(row)
        result[channel, i, j] = sum(
            pixel(image, channel, r, k) * (1 - abs(row - r)) * (1 - abs(column - k))
            for r in (top, top + 1)
            for k in (left, left + 1)
        )
    return result


def scale(image: Tensor, horizontal: float, vertical: float) -> Tensor:
    return warp(image, horizontal, 0, 0, vertical)


def rotate(image: Tensor, angle: float) -> Tensor:
    return warp(image, math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle))


FAMILIES = {"color": color, "crop": crop, "cutout": cutout, "flip": flip, "scale": scale, "rotate": rotate}


def augmented(x: Tensor, families: tuple[str, ...], parameters: dict[str, dict[str, Tensor]]) -> Tensor:
    """Each sample by itself, family after family."""
    images = []
    for n, image in enumerate(x):
        for family in families:
            image = FAMILIES[family](image, **{k: float(t[n]) for k, t in parameters[family].items()})
        images.append(image)
    return torch.stack(images)


def quotas(counts: list[int], total: int) -> list[int]:
    """Largest remainders, one seat at a time, in exact arithmetic."""
    ideal = [Fraction(total * c, sum(counts)) for c in counts]
    seats = [math.floor(i) for i in ideal]
    remainders = [i - s for i, s in zip(ideal, seats, strict=True)]
    while sum(seats) < total:
        best = max(range(len(counts)), key=lambda c: (remainders[c], -c))
        seats[best] += 1
        remainders[best] = Fraction(-1)
    return seats


def zca(pixels: np.ndarray, eps: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and whitening matrix of rows of pixels, by the eigenvectors of their covariance, in float64."""
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    values, vectors = np.linalg.eigh(np.cov(flat, rowvar=False))
    return flat.mean(0), vectors @ np.diag((values + eps) ** -0.5) @ vectors.T


RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 6, 5, 3), dtype=np.uint8)
LABELS = np.arange(60, dtype=np.uint8) % 3
GOOD = {"x": PIXELS, "y": LABELS}


def save(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def folder(path: Path, train: dict[str, Any], test: dict[str, Any] | None = None) -> npz.Settings:
    path.mkdir(exist_ok=True)
    save(path / "train.npz", **train)
    save(path / "test.npz", **(train if test is None else test))
    return npz.Settings(path=str(path))


def packed(images: list[np.ndarray], kind: str = "webp") -> dict[str, Any]:
    """Images encoded end to end, as in the packed form."""
    encoded = []
    for image in images:
        file = io.BytesIO()
        if kind == "webp":
            Image.fromarray(image).save(file, "WEBP", lossless=True, exact=True)
        else:
            Image.fromarray(image).save(file, "JPEG", quality=95)
        encoded.append(file.getvalue())
    return {kind: np.frombuffer(b"".join(encoded), np.uint8), "offsets": np.cumsum([0, *map(len, encoded)]).astype(np.int64)}


def part(images: Images, name: str) -> torch.Tensor:
    return images.split == ("train", "validation", "test").index(name)
