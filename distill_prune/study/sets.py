"""The sets of a study as they are shown: pixels, or what samples of text are, and the course of their distillation."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, Field, ValidationError

from distill_prune.plan.nodes import Graph, is_control
from distill_prune.run import measured
from distill_prune.settings import Settings
from distill_prune.store.store import Store
from distill_prune.study.records import Distillation, Samples

if TYPE_CHECKING:
    from distill_prune.artifacts import SyntheticSet


@dataclass(frozen=True)
class SetShown:
    """A set by its name: 8-bit pixels (N, H, W) or (N, H, W, 3) with their classes, or what its samples of text are; and the
    course of its distillation, None where it has none.
    """

    name: str
    pixels: NDArray[np.uint8] | None = None
    labels: list[int] = field(default_factory=list)
    samples: Samples | None = None
    course: Distillation | None = None


def sets(graph: Graph, store: Store, sound: Collection[str]) -> Iterator[SetShown]:
    """The sets that the store has, those first that are no controls. `sound` are keys of artifacts that were checked."""
    from distill_prune.artifacts import SyntheticSet

    there = {n: k for n, k in graph.sets.items() if k in sound or store.sound("distill", k)}
    for name, key in sorted(there.items(), key=lambda item: is_control(graph.methods[item[0]])):
        synthetic = store.noun("distill", key, SyntheticSet.of)
        course = _course(measured.numbers(store, "distill", key).get("record"))
        if synthetic.transform.kind == "text":
            yield SetShown(name, samples=_samples(synthetic), course=course)
        else:
            yield SetShown(name, eight_bit(synthetic), synthetic.hard.tolist(), course=course)


def eight_bit(synthetic: SyntheticSet) -> NDArray[np.uint8]:
    """The pixels of a set's images, (N, H, W) where they are gray, else (N, H, W, C), as 8 bits."""
    pixels = (synthetic.transform.invert(synthetic.images).clamp(0, 1) * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels[..., 0] if pixels.shape[-1] == 1 else pixels


class _Course(Settings):
    """What is shown of a method's record."""

    model_config = ConfigDict(strict=True, extra="ignore")

    iteration: list[int | float] = Field(min_length=1)
    loss: list[float]
    lr: list[float] | None = None


def _course(record: object) -> Distillation | None:
    """The course of a distillation; None where the method records something else."""
    try:
        course = _Course.model_validate(record)
    except ValidationError:
        return None
    return {"iterations": [int(i) for i in course.iteration], "loss": course.loss, "lr": course.lr}


def _samples(synthetic: SyntheticSet) -> Samples:
    """What a set of text is: its samples are word embeddings, or sentences of the training data, with soft or hard labels."""
    embedded = synthetic.images.is_floating_point()
    return {
        "made_of": "embeddings" if embedded else "sentences",
        "count": len(synthetic.images),
        "length": synthetic.images.shape[1 if embedded else 2],
        "width": synthetic.images.shape[2] if embedded else None,
        "classes": synthetic.hard.tolist(),
        "labels": None if synthetic.label_kind == "classes" else synthetic.targets.tolist(),
    }
