"""The nouns that stages make and read: frozen, and checked where they are built, so that later code has no checks.

Each noun turns into `Parts` (tensors by name, and JSON numbers) and back; where those lie is the store's business.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from distill_prune.errors import DataError, NonFiniteError, RunError
from distill_prune.tree import State, unflatten

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Parts:
    """What of an artifact is written: tensors by name, and JSON numbers."""

    tensors: Mapping[str, Tensor]
    numbers: Mapping[str, Any] = field(default_factory=dict)


def _finite(name: str, tensor: Tensor) -> None:
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise NonFiniteError(f"tensor '{name}' is not finite", got=f"{int((~torch.isfinite(tensor)).sum())} bad values")


@dataclass(frozen=True)
class Cost:
    """What a computation spent: training examples seen, optimizer steps, floating-point operations."""

    images: int = 0
    steps: int = 0
    flops: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.images + other.images, self.steps + other.steps, self.flops + other.flops)

    def times(self, n: int) -> Cost:
        return Cost(self.images * n, self.steps * n, self.flops * n)

    def json(self) -> dict[str, int]:
        return {"images": self.images, "steps": self.steps, "flops": self.flops}


@dataclass(frozen=True)
class Transform:
    """From pixels in [0, 1] to network input, fitted on the training part.

    `normalize`: (x - mean) / std per channel, tensors `mean`, `std` (C,).
    `zca`: (flat x - mean_vector) transform_matrix, tensors `mean_vector` (1, D), `transform_matrix`, `transform_inv` (D, D).
    """

    kind: str
    tensors: State

    def __post_init__(self) -> None:
        need = {"normalize": {"mean", "std"}, "zca": {"mean_vector", "transform_matrix", "transform_inv"}}.get(self.kind)
        if need is None or set(self.tensors) != need:
            raise DataError(f"transform '{self.kind}'", got=sorted(self.tensors), expected="normalize or zca, whole")
        for name, tensor in self.tensors.items():
            _finite(f"transform.{name}", tensor)

    def apply(self, x: Tensor) -> Tensor:
        """Pixels in [0, 1] (N, C, H, W) to network input of the same shape."""
        if self.kind == "normalize":
            mean, std = (self.tensors[n].to(x).view(1, -1, 1, 1) for n in ("mean", "std"))
            return (x - mean) / std
        mean, matrix = self.tensors["mean_vector"].to(x), self.tensors["transform_matrix"].to(x)
        return ((x.flatten(1) - mean) @ matrix).view_as(x)

    def invert(self, x: Tensor) -> Tensor:
        """Network input (N, C, H, W) back to pixels, not clipped."""
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
    """Labelled examples, ready for a network: `x` (N, C, H, W) as stored, `y` (N,) classes or (N, K) probabilities.

    Where `transform` is None, `x` is network input already; else it holds pixels, `scale` being white.
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
        """(C, H, W)."""
        return self.x.shape[1:]

    def inputs(self, index: Tensor | slice) -> Tensor:
        """Network input (B, C, H, W) of the rows in `index`."""
        x = self.x[index]
        return x if self.transform is None else self.transform.apply(x.float() / self.scale)

    def to(self, device: str | torch.device) -> Examples:
        return replace(self, x=self.x.to(device), y=self.y.to(device))

    def take(self, index: Tensor) -> Examples:
        """The rows in `index`, as examples."""
        return replace(self, x=self.x[index], y=self.y[index])

    def ready(self) -> Examples:
        """The same with the transform applied once to everything: for sets that are small or whitened."""
        return self if self.transform is None else Examples(self.inputs(slice(None)), self.y)


@dataclass(frozen=True)
class Images:
    """A prepared data set: pixels (N, C, H, W), labels (N,), split (N,) into train 0, validation 1 and test 2."""

    pixels: Tensor
    labels: Tensor
    split: Tensor
    classes: tuple[str, ...]
    transform: Transform
    scale: float
    title: str

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
        _finite("pixels", self.pixels)
        for i, name in enumerate(SPLITS):
            if name != "validation" and not bool((self.split == i).any()):
                raise DataError(f"data '{self.title}' has no {name} examples")

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
                "title": self.title, "classes": list(self.classes), "scale": self.scale, "counts": counts,
                "transform": self.transform.kind, "shape": list(self.pixels.shape[1:]),
            },
        )

    @classmethod
    def of(cls, p: Parts) -> Images:
        n = p.numbers
        transform = _transform_of(n["transform"], p.tensors)
        t = p.tensors
        return cls(t["pixels"], t["labels"], t["split"], tuple(n["classes"]), transform, n["scale"], n["title"])


def _transform_of(kind: str, tensors: Mapping[str, Tensor]) -> Transform:
    prefix = "transform."
    return Transform(kind, {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)})


class Rows(Protocol):
    """Checkpoints by index: a tensor (T, P), or a file that is read one row at a time."""

    def __getitem__(self, index: int, /) -> Tensor: ...
    def __len__(self) -> int: ...


@dataclass(frozen=True)
class Trajectory:
    """One teacher's parameters at epoch ends, the start included: row t of `checkpoints` (T, P) is epoch t."""

    checkpoints: Rows
    shapes: dict[str, torch.Size]
    record: tuple[dict[str, float], ...] = ()

    def __post_init__(self) -> None:
        size = sum(s.numel() for s in self.shapes.values())
        if len(self.checkpoints) < 2 or self.checkpoints[0].shape != (size,):
            raise RunError(
                "a trajectory of the wrong shape",
                got=f"{len(self.checkpoints)} checkpoints of {tuple(self.checkpoints[0].shape)}",
                expected=f"at least 2 of ({size},)",
            )

    def state(self, epoch: int) -> State:
        """The parameters at the end of `epoch`, by name."""
        return unflatten(self.checkpoints[epoch], self.shapes)

    def parts(self) -> Parts:
        rows = self.checkpoints if isinstance(self.checkpoints, Tensor) else torch.stack(
            [self.checkpoints[i] for i in range(len(self.checkpoints))])
        layout = [[n, list(s)] for n, s in self.shapes.items()]  # the order is the layout of a row
        return Parts({"checkpoints": rows}, {"layout": layout, "record": list(self.record)})

    @classmethod
    def of(cls, p: Parts, rows: Rows | None = None) -> Trajectory:
        layout = {n: torch.Size(s) for n, s in p.numbers["layout"]}
        return cls(p.tensors["checkpoints"] if rows is None else rows, layout, tuple(p.numbers["record"]))


@dataclass(frozen=True)
class SyntheticSet:
    """A small labelled set in network-input space, with what it takes to train on it.

    `images` (N, C, H, W); `labels` (N,) int64, class-major; `lr` the learned inner learning rate (None where the method
    learns none); `augment` the augmentation it was made for; `transform` the space that the images live in.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    transform: Transform
    method: str
    lr: float | None = None
    augment: str = "none"

    def __post_init__(self) -> None:
        if self.images.dim() != 4 or self.labels.shape[:1] != self.images.shape[:1]:
            raise RunError("a synthetic set of the wrong shape",
                           got=f"images {tuple(self.images.shape)}, labels {tuple(self.labels.shape)}",
                           expected="images (N, C, H, W), labels (N,)")
        _finite("images", self.images)
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise NonFiniteError("the learned learning rate is not a positive number", got=self.lr)

    @property
    def examples(self) -> Examples:
        return Examples(self.images, self.labels)

    def parts(self) -> Parts:
        tensors = {"images": self.images, "labels": self.labels}
        tensors |= {f"transform.{n}": t for n, t in self.transform.tensors.items()}
        return Parts(tensors, {"classes": list(self.classes), "transform": self.transform.kind,
                               "method": self.method, "lr": self.lr, "augment": self.augment})

    @classmethod
    def of(cls, p: Parts) -> SyntheticSet:
        n = p.numbers
        return cls(p.tensors["images"], p.tensors["labels"], tuple(n["classes"]),
                   _transform_of(n["transform"], p.tensors), n["method"], n["lr"], n["augment"])


@dataclass(frozen=True)
class Mask:
    """Which prunable weights survive: one bool tensor a prunable weight, by name. At least one weight survives."""

    kept: dict[str, Tensor]

    def __post_init__(self) -> None:
        for name, tensor in self.kept.items():
            if tensor.dtype != torch.bool:
                raise RunError(f"mask '{name}' is not binary", got=tensor.dtype, expected=torch.bool)
        if self.total == 0 or self.remaining == 0:
            raise RunError("a mask that keeps no weight", got=f"0 of {self.total}", mend="prune fewer levels")

    @classmethod
    def dense(cls, state: State, prunable: Sequence[str]) -> Mask:
        return cls({n: torch.ones(state[n].shape, dtype=torch.bool) for n in prunable})

    @property
    def total(self) -> int:
        return sum(t.numel() for t in self.kept.values())

    @property
    def remaining(self) -> int:
        return sum(int(t.sum()) for t in self.kept.values())

    @property
    def sparsity(self) -> float:
        """Share of prunable weights that are zero."""
        return 1 - self.remaining / self.total

    def layers(self) -> dict[str, dict[str, int]]:
        """Remaining and total weights of each prunable tensor."""
        return {n: {"remaining": int(t.sum()), "total": t.numel()} for n, t in self.kept.items()}

    def inside(self, other: Mask) -> bool:
        """Whether every weight that survives here survives in `other`: masks of a chain are nested."""
        return all(bool((other.kept[n] | ~t).all()) for n, t in self.kept.items())

    def apply(self, state: State) -> State:
        """`state` with pruned weights exactly zero; other tensors as they are."""
        return {n: torch.where(self.kept[n].to(t.device), t, torch.zeros_like(t)) if n in self.kept else t
                for n, t in state.items()}

    def to(self, device: str | torch.device) -> Mask:
        return Mask({n: t.to(device) for n, t in self.kept.items()})


@dataclass(frozen=True)
class Weights:
    """Every tensor of a network, parameters and buffers, all finite."""

    state: State
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, tensor in self.state.items():
            _finite(name, tensor)

    def parts(self) -> Parts:
        return Parts(self.state, self.numbers)

    @classmethod
    def of(cls, p: Parts) -> Weights:
        return cls(dict(p.tensors), dict(p.numbers))


@dataclass(frozen=True)
class Ticket:
    """One level of a chain: a mask, and the full state (W_k) that survivors are rewound to, pruned weights zero."""

    mask: Mask
    state: State
    level: int
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, kept in self.mask.kept.items():
            if name not in self.state or self.state[name].shape != kept.shape:
                raise RunError(f"the mask of '{name}' does not fit the network")
            if bool((self.state[name][~kept] != 0).any()):
                raise RunError(f"pruned weights of '{name}' are not zero")

    def parts(self, base: State | None) -> Parts:
        """Masks, and of the state what cannot be had by masking `base` (level 0's state; None at level 0 itself)."""
        rewound = {} if base is None else self.mask.apply(base)
        own = {n: t for n, t in self.state.items() if n not in rewound or not torch.equal(rewound[n], t)}
        tensors = {f"mask/{n}": t for n, t in self.mask.kept.items()} | {f"state/{n}": t for n, t in own.items()}
        return Parts(tensors, {"level": self.level, "sparsity": self.mask.sparsity, "remaining": self.mask.remaining,
                               "total": self.mask.total, "order": list(self.mask.kept), "layers": self.mask.layers(),
                               **self.numbers})

    @classmethod
    def of(cls, p: Parts, base: State | None) -> Ticket:
        mask = Mask({n: p.tensors[f"mask/{n}"] for n in p.numbers["order"]})
        own = {n.removeprefix("state/"): t for n, t in p.tensors.items() if n.startswith("state/")}
        return cls(mask, own if base is None else {**mask.apply(base), **own}, p.numbers["level"], dict(p.numbers))


@dataclass(frozen=True)
class Measurements:
    """The result of one analysis: JSON numbers, every estimate with its uncertainty and count."""

    analysis: str
    numbers: Mapping[str, Any]

    def parts(self) -> Parts:
        return Parts({}, {"analysis": self.analysis, **self.numbers})

    @classmethod
    def of(cls, p: Parts) -> Measurements:
        numbers = dict(p.numbers)
        return cls(numbers.pop("analysis"), numbers)
