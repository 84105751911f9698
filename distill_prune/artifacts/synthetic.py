"""What distillation reads and makes: experts' trajectories and synthetic sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from distill_prune.artifacts.basis import Parts, finite
from distill_prune.artifacts.images import Examples, Transform, transform_of
from distill_prune.errors import NonFiniteError, RunError
from distill_prune.tree import State, unflatten


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
        rows = (
            self.checkpoints
            if isinstance(self.checkpoints, Tensor)
            else torch.stack([self.checkpoints[i] for i in range(len(self.checkpoints))])
        )
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
            raise RunError(
                "a synthetic set of the wrong shape",
                got=f"images {tuple(self.images.shape)}, labels {tuple(self.labels.shape)}",
                expected="images (N, C, H, W), labels (N,)",
            )
        finite("images", self.images)
        if self.lr is not None and not 0 < self.lr < float("inf"):
            raise NonFiniteError("the learned learning rate is not a positive number", got=self.lr)

    @property
    def examples(self) -> Examples:
        return Examples(self.images, self.labels)

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
            },
        )

    @classmethod
    def of(cls, p: Parts) -> SyntheticSet:
        n = p.numbers
        return cls(
            p.tensors["images"],
            p.tensors["labels"],
            tuple(n["classes"]),
            transform_of(n["transform"], p.tensors),
            n["method"],
            n["lr"],
            n["augment"],
        )
