"""Data sets: examples, their split, and the transform into a network's input space."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.artifacts.basis import Numbers, Parts, Text, finite
from distill_prune.errors import DataError
from distill_prune.tree import State

SPLITS = ("train", "validation", "test")
_TENSORS = {
    "normalize": {"mean", "std"},
    "zca": {"mean_vector", "transform_matrix", "transform_inv"},
    "pixels": set[str](),
    "text": set[str](),
}


@dataclass(frozen=True)
class Transform:
    """From pixels in [0, 1] to network input, fitted on the training part.

    `normalize`: (x - mean) / std per channel, tensors `mean`, `std` (C,).
    `zca`: (flat x - mean_vector) transform_matrix, tensors `mean_vector` (1, D), `transform_matrix`, `transform_inv` (D, D).
    `pixels`: no tensors; x as it is. For sets in pixel space, which the data beside them transform.
    `text`: no tensors; x as it is: tokens (N, 2, L), or word embeddings in their place (N, S, D).
    """

    kind: str
    tensors: State

    def __post_init__(self) -> None:
        need = _TENSORS.get(self.kind)
        if need is None or set(self.tensors) != need:
            raise DataError(f"transform '{self.kind}'", got=sorted(self.tensors), expected=f"{' or '.join(_TENSORS)}, whole")
        for name, tensor in self.tensors.items():
            finite(f"transform.{name}", tensor)

    def to(self, device: str | torch.device) -> Transform:
        """The same with its tensors on `device`."""
        if all(t.device == torch.device(device) for t in self.tensors.values()):
            return self
        return Transform(self.kind, {n: t.to(device) for n, t in self.tensors.items()})

    def apply(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1] (N, C, H, W) to network input of the same shape."""
        if not self.tensors:
            return x
        if self.kind == "normalize":
            mean, std = (self.tensors[n].to(x).view(1, -1, 1, 1) for n in ("mean", "std"))
            return (x - mean) / std
        mean, matrix = self.tensors["mean_vector"].to(x), self.tensors["transform_matrix"].to(x)
        return ((x.flatten(1) - mean) @ matrix).view_as(x)

    def invert(self, x: Tensor) -> Tensor:
        """Network input (N, C, H, W) back to pixels, not clipped."""
        if not self.tensors:
            return x
        if self.kind == "normalize":
            mean, std = (self.tensors[n].to(x).view(1, -1, 1, 1) for n in ("mean", "std"))
            return x * std + mean
        mean, inverse = self.tensors["mean_vector"].to(x), self.tensors["transform_inv"].to(x)
        return (x.flatten(1) @ inverse + mean).view_as(x)

    def same_space(self, other: Transform) -> bool:
        """Whether both map into the same input space, value by value."""
        return self.kind == other.kind and all(torch.equal(t, other.tensors[n]) for n, t in self.tensors.items())


@dataclass(frozen=True)
class Examples:
    """Labelled examples, ready for a network: `x` (N, C, H, W) as stored, `y` of a kind in objective.py.

    Without a `transform`, `x` is network input; with one, it holds pixels, and white is `scale`. Examples of text are tokens
    or word embeddings:

        tokens       (N, 2, L) integers: word pieces, 0 in the padding, and segments, 0 in the padding, 1 in a first and 2 in a
                     second sentence. Task t of a union adds 2 t to segments; a word piece that is asked adds 2.
        embeddings   (N, S, D) floats, without padding
    """

    x: Tensor
    y: Tensor
    transform: Transform | None = None
    scale: float = 1.0

    def __post_init__(self) -> None:
        if len(self.x) != len(self.y):
            raise DataError("examples and labels differ in number", got=f"{len(self.x)} and {len(self.y)}")

    def __len__(self) -> int:
        return len(self.x)

    @property
    def shape(self) -> torch.Size:
        """(C, H, W); (2, L) of tokens."""
        return self.x.shape[1:]

    @property
    def text(self) -> bool:
        """Whether an example is a sentence, of two dimensions: (2, L) of tokens, (S, D) of word embeddings."""
        return self.x.dim() == 3

    @property
    def tokens(self) -> bool:
        """Whether these are word pieces."""
        return self.text and not self.x.is_floating_point()

    @property
    def lengths(self) -> Tensor | None:
        """The length (N,) of every sentence without its padding; None where examples have one size."""
        return (self.x[:, 1] > 0).sum(1) if self.tokens else None

    def inputs(self, index: Tensor | slice) -> Tensor:
        """Network input (B, C, H, W) of the rows in `index`."""
        x = self.x[index]
        return x if self.transform is None else self.transform.apply(x.float() / self.scale)

    def to(self, device: str | torch.device) -> Examples:
        transform = None if self.transform is None else self.transform.to(device)
        return replace(self, x=self.x.to(device), y=self.y.to(device), transform=transform)

    def take(self, index: Tensor) -> Examples:
        """The rows in `index`, as examples."""
        return replace(self, x=self.x[index], y=self.y[index])

    def ready(self) -> Examples:
        """The same with the transform applied once to everything: for sets that are small or whitened."""
        return self if self.transform is None else Examples(self.inputs(slice(None)), self.y)


class DataNumbers(Numbers):
    """Of a data set of any kind."""

    classes: list[Text]
    counts: dict[str, int]
    transform: str
    shape: list[int]


class ImagesNumbers(DataNumbers):
    scale: int | float = Field(gt=0)


@dataclass(frozen=True)
class Images:
    """A prepared data set: pixels (N, C, H, W), labels (N,), split (N,) into train 0, validation 1 and test 2."""

    pixels: Tensor
    labels: Tensor
    split: Tensor
    classes: tuple[str, ...]
    transform: Transform
    scale: float
    title: str = "data"

    def __post_init__(self) -> None:
        n = len(self.pixels)
        if self.pixels.dim() != 4 or self.labels.shape != (n,) or self.split.shape != (n,):
            raise DataError(
                f"data '{self.title}' has the wrong shape",
                got=f"pixels {tuple(self.pixels.shape)}, labels {tuple(self.labels.shape)}",
                expected="pixels (N, C, H, W), labels (N,)",
            )
        low, high = int(self.labels.min()), int(self.labels.max())
        if low < 0 or high >= len(self.classes):
            raise DataError(
                f"data '{self.title}' has labels outside its classes",
                got=f"labels {low}..{high}",
                expected=f"0..{len(self.classes) - 1}",
            )
        finite("pixels", self.pixels)
        for i, name in enumerate(SPLITS):
            if name != "validation" and not bool((self.split == i).any()):
                raise DataError(f"data '{self.title}' has no {name} examples")

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W)."""
        return tuple(self.pixels.shape[1:])

    def examples(self, part: str) -> Examples:
        """The examples of `train`, `validation` or `test`."""
        rows = (self.split == SPLITS.index(part)).nonzero().squeeze(1)
        whole = Examples(self.pixels[rows], self.labels[rows], self.transform, self.scale)
        return whole.ready() if self.transform.kind == "zca" or whole.x.dtype != torch.uint8 else whole

    def parts(self) -> Parts:
        tensors = {"pixels": self.pixels, "labels": self.labels, "split": self.split}
        tensors |= {f"transform.{n}": t for n, t in self.transform.tensors.items()}
        counts = {name: int((self.split == i).sum()) for i, name in enumerate(SPLITS)}
        return Parts(
            tensors,
            {
                "classes": list(self.classes),
                "scale": self.scale,
                "counts": counts,
                "transform": self.transform.kind,
                "shape": list(self.pixels.shape[1:]),
            },
        )

    @classmethod
    def of(cls, p: Parts) -> Images:
        n = ImagesNumbers.model_validate(p.numbers)
        pixels = p.tensor("pixels", 4, "bytes or floats")
        labels, split = (p.tensor(name, 1, "integers") for name in ("labels", "split"))
        return cls(pixels, labels, split, tuple(n.classes), transform_of(n.transform, p, pixels.shape[1:]), n.scale)


def transform_of(kind: str, p: Parts, shape: torch.Size) -> Transform:
    """The transform among an artifact's tensors, of examples of the given shape, (C, H, W) but in text.

    Raises:
        ValueError: it is of another shape.
        DataError: it is not whole.
    """
    prefix = "transform."
    transform = Transform(kind, {n.removeprefix(prefix): t for n, t in p.tensors.items() if n.startswith(prefix)})
    channels, pixels = shape[0], shape.numel()
    sizes = {"mean": {1, channels}, "std": {1, channels}, "mean_vector": {pixels}}
    for name, tensor in transform.tensors.items():
        if not tensor.is_floating_point() or tensor.numel() not in sizes.get(name, {pixels**2}):
            raise ValueError(f"tensor '{prefix}{name}' has the shape {tuple(tensor.shape)}, for examples of {tuple(shape)}")
    return transform
