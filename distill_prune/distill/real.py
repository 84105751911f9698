"""Sets of real images: the chosen rows with their classes, or with what teachers make of them.

    labels: classes    y_i, the class
    labels: teacher    p_i = mean_e softmax(f(x_i; theta_e)), over the experts e at one epoch

Soft labels tell what a set gains by its images from what it gains by its labels. References:
    | A Label is Worth a Thousand Images in Dataset Distillation (Qin et al., 2024), https://arxiv.org/abs/2406.10485
"""

from __future__ import annotations

from typing import Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from distill_prune.artifacts import Cost, SyntheticSet
from distill_prune.data.augment import Augment
from distill_prune.distill import Distilled, Reads, Source
from distill_prune.distill.dynamics import logits
from distill_prune.errors import ConfigError, Misfit
from distill_prune.settings import Entry, Later


class RealSettings(Entry):
    """Base of the settings of methods that choose real images."""

    ipc: int = Field(10, ge=1, description="images of each class")
    augment: Augment = Field("none", description="augmentation that the set is trained with")
    labels: Literal["classes", "teacher"] = Later(
        "classes", description="teacher: the mean probabilities of the experts, in place of classes"
    )
    teacher_epoch: int | None = Later(None, ge=1, description="the experts' epoch that labels come from; null: their last")

    @model_validator(mode="after")
    def _meant(self) -> RealSettings:
        if self.labels == "classes" and "teacher_epoch" in self.model_fields_set:
            raise Misfit("it changes nothing without labels: teacher", ["teacher_epoch"], fix="leave it out")
        return self

    @property
    def soft_labels(self) -> bool:
        """Whether labels are probabilities."""
        return self.labels == "teacher"

    @property
    def reads_experts(self) -> bool:
        """Whether experts are read."""
        return self.labels == "teacher"

    @property
    def reads(self) -> Reads:
        """Networks between the start and the last epoch, where such an epoch is named."""
        return "rows" if self.teacher_epoch is None else "epochs"

    @property
    def last_epoch(self) -> int:
        """The last epoch of the experts that is asked for by its number."""
        return self.teacher_epoch or 0


def real_set(settings: RealSettings, source: Source, rows: Tensor, cost: Cost | None = None) -> Distilled:
    """The set of the given rows (ipc * K,), class-major; `cost` is that of choosing them.

    Raises:
        ConfigError: teachers are asked for text; or their network keeps batch statistics, which trajectories do not have.
    """
    images, labels, spent = source.train.inputs(rows).clone(), source.train.y[rows].clone(), cost or Cost()
    kind: Literal["classes", "probabilities"] = "classes"
    if settings.labels == "teacher":
        if source.transform.kind == "text":
            raise ConfigError("labels: teacher is for images, and the data are text", fix="leave labels out")
        outputs = [logits(source, expert, settings.teacher_epoch, images) for expert in source.experts]
        labels, kind = torch.stack([z.softmax(1) for z, _ in outputs]).mean(0), "probabilities"
        spent = sum((c for _, c in outputs), spent)
    classes, transform = source.classes, source.transform
    subset = SyntheticSet(images, labels, classes, transform, settings.name, None, settings.augment, label_kind=kind)
    return Distilled(subset, spent)
