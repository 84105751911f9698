"""What distillation reads and makes: experts' trajectories and synthetic sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, Strict
from torch import Tensor

from distill_prune.artifacts.basis import CostNumbers, Numbers, Parts, Text, finite
from distill_prune.artifacts.convex import Line, Rows
from distill_prune.artifacts.formation import decode
from distill_prune.artifacts.images import Examples, Transform, transform_of
from distill_prune.errors import NonFiniteError, RunError
from distill_prune.tree import State, unflatten

Size = Annotated[int, Field(ge=0)]


class TrajectoryNumbers(Numbers):
    layout: list[Annotated[tuple[str, list[Size]], Strict(False)]]
    record: list[dict[str, float]]
    cost: CostNumbers | None = None
    progress: list[list[float]] | None = None


@dataclass(frozen=True)
class Trajectory:
    """One teacher's parameters at epoch ends, the start included: row t of `checkpoints` (T, P) is epoch t. A convex one has
    its first and last row, and a `Line` for the others."""

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

    @property
    def convex(self) -> bool:
        """Whether the rows between the first and the last are points of a line, and not what training went through."""
        return isinstance(self.checkpoints, Line)

    def at(self, time: float) -> Tensor:
        """The parameters (P,) of a convex trajectory at any time, in epochs.

        Raises:
            RunError: it is not convex: nothing is known between the ends of epochs.
        """
        if not isinstance(self.checkpoints, Line):
            raise RunError("a point between the ends of epochs of a trajectory that is not convex", got=f"epoch {time:g}")
        return self.checkpoints.at(time)

    def state(self, epoch: int) -> State:
        """The parameters at the end of `epoch`, by name."""
        return unflatten(self.checkpoints[epoch], self.shapes)

    def parts(self) -> Parts:
        line = self.checkpoints if isinstance(self.checkpoints, Line) else None
        stored = self.checkpoints if line is None else line.ends
        rows = stored if isinstance(stored, Tensor) else torch.stack([stored[i] for i in range(len(stored))])
        layout = [[n, list(s)] for n, s in self.shapes.items()]  # the order is the layout of a row
        progress = {} if line is None else {"progress": line.progress.tolist()}
        return Parts({"checkpoints": rows}, {"layout": layout, "record": list(self.record), **progress})

    @classmethod
    def of(cls, p: Parts, rows: Rows | None = None) -> Trajectory:
        n = TrajectoryNumbers.model_validate(p.numbers)
        if rows is None:
            rows = p.tensor("checkpoints", 2, "floats")
        shapes = {name: torch.Size(size) for name, size in n.layout}
        if n.progress is not None:
            shares = torch.tensor(n.progress, dtype=torch.float64)
            rows = Line(rows, shares, [shape.numel() for shape in shapes.values()])
        trajectory = cls(rows, shapes, tuple(n.record))
        if not rows[0].is_floating_point():
            raise ValueError(f"tensor 'checkpoints' is of {rows[0].dtype}")
        return trajectory


LabelKind = Literal["classes", "logits", "probabilities"]
"""What labels are: classes (N,) int64, logits of soft labels (N, K), or probabilities (N, K)."""


class SetNumbers(Numbers):
    """`cost` and `record` stand beside what the noun is made of; a method records what it likes."""

    classes: list[Text] = Field(min_length=1)
    transform: str
    method: str
    lr: int | float | None
    augment: str
    factor: int = 1
    label_kind: LabelKind = "classes"
    cost: CostNumbers | None = None
    record: dict[str, Any] | None = None


@dataclass(frozen=True)
class SyntheticSet:
    """A small labelled set, with what it takes to train on it.

    `images` (N, C, H, W) as stored: each holds `factor`^2 training images (multi-formation; 1: itself alone). `labels` (N,)
    int64, class-major, or soft labels (N, K), by `label_kind`. `lr` is the learned inner learning rate (None where the
    method learns none); `augment` is the augmentation that the set was made for. `transform` is the space of the images. If it
    is of kind "pixels", they are pixels in about [0, 1], and the data set that they are used with gives the transform. If it is
    of kind "text", they are word embeddings (N, S, D), or tokens (N, 2, L) of real sentences.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    transform: Transform
    method: str
    lr: float | None = None
    augment: str = "none"
    factor: int = 1
    label_kind: LabelKind = "classes"

    def __post_init__(self) -> None:
        n, k = self.images.shape[0], len(self.classes)
        soft = self.label_kind != "classes"
        text = self.transform.kind == "text"
        if self.images.dim() != (3 if text else 4) or self.labels.shape != ((n, k) if soft else (n,)):
            raise RunError(
                "a synthetic set of the wrong shape",
                got=f"images {tuple(self.images.shape)}, labels {tuple(self.labels.shape)}",
                expected=f"{'text (N, S, D)' if text else 'images (N, C, H, W)'}, labels {f'(N, {k})' if soft else '(N,)'}",
            )
        if not soft and (int(self.labels.min()) < 0 or int(self.labels.max()) >= k):
            raise RunError("a synthetic set with labels outside its classes", expected=f"0..{k - 1}")
        if not 1 <= self.factor <= (1 if text else min(self.images.shape[2:])):
            raise RunError("a synthetic set whose images hold no patches", got=f"factor {self.factor}", expected="at least 1")
        finite("images", self.images)
        finite("labels", self.labels)
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise NonFiniteError("the learned learning rate is not a positive number", got=self.lr)

    @property
    def targets(self) -> Tensor:
        """What training takes: classes (N,), or probabilities (N, K)."""
        return self.labels.softmax(1) if self.label_kind == "logits" else self.labels

    @property
    def hard(self) -> Tensor:
        """The class of every image (N,): its label, or the likeliest of its soft label."""
        return self.labels if self.label_kind == "classes" else self.labels.argmax(1)

    @property
    def count(self) -> int:
        """The number of images that training sees: factor^2 N."""
        return self.factor**2 * len(self.images)

    def examples(self, transform: Transform) -> Examples:
        """The set as training examples (factor^2 N, C, H, W) beside data of the given transform.

        Pixels go through `transform`; images of another kind are network input already. Whether the spaces agree is
        the caller's question: some papers mix them on purpose.
        """
        repeats = (self.factor**2, *(1,) * (self.labels.dim() - 1))
        pixels = self.transform.kind == "pixels"
        x, y = decode(self.images, self.factor, fill=0.5 if pixels else 0.0), self.targets.repeat(repeats)
        return Examples(transform.apply(x) if pixels else x, y)

    def fits(self, transform: Transform) -> bool:
        """Whether the images can be used with data of this transform: pixels, or network input of the very same space."""
        return self.transform.kind == "pixels" or self.transform.same_space(transform)

    def parts(self) -> Parts:
        tensors = {"images": self.images, "labels": self.labels}
        tensors |= {f"transform.{n}": t for n, t in self.transform.tensors.items()}
        return Parts(
            tensors,
            {
                "classes": list(self.classes),
                "transform": self.transform.kind,
                "method": self.method,
                "lr": self.lr,
                "augment": self.augment,
                "factor": self.factor,
                "label_kind": self.label_kind,
            },
        )

    @classmethod
    def of(cls, p: Parts) -> SyntheticSet:
        n = SetNumbers.model_validate(p.numbers)
        text, soft = n.transform == "text", n.label_kind != "classes"
        images = p.tensor("images", 3 if text else 4, "integers or floats" if text else "floats")
        labels = p.tensor("labels", 2 if soft else 1, "floats" if soft else "integers")
        transform = transform_of(n.transform, p, images.shape[1:])
        return cls(images, labels, tuple(n.classes), transform, n.method, n.lr, n.augment, n.factor, n.label_kind)
