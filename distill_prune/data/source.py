"""What every data set has in common: its settings, and what loading one gives."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field
from torch import Tensor

from distill_prune.fingerprints import Remembered as Remembered
from distill_prune.fingerprints import file_hash as file_hash
from distill_prune.settings import Entry


class Source(Entry):
    """Base of every data set's settings.

    `validation` is the share of the training part that is held out, stratified by class; no choice looks at the test
    part. `transform` is fitted on what remains of the training part.
    """

    MASKED: ClassVar[bool] = False
    """Whether labels are word pieces that are asked."""

    split_seed: int = Field(0, description="the draw of the parts that the source does not split itself")
    validation: float = Field(
        0.1, ge=0, lt=1, description="share of the training part that is held out for choices, stratified by class"
    )
    transform: Literal["normalize", "zca"] = Field(
        "normalize",
        description="pixels to network input: by mean and deviation of each channel, or by ZCA; fitted on the training part",
    )

    @property
    def score(self) -> str:
        """What the task is scored by, as the analysis `metrics` calls it."""
        return "accuracy"

    @property
    def is_text(self) -> bool:
        """Whether examples are sentences: the settings of text have `text` as their only transform."""
        return str(self.transform) == "text"


@dataclass(frozen=True)
class Loaded:
    """A data set as its source holds it.

    `pixels` (N, C, H, W) uint8 or float32, `scale` being white; `labels` (N,) int64; `test` (N,) bool.
    """

    pixels: Tensor
    labels: Tensor
    test: Tensor
    classes: tuple[str, ...]
    scale: float
    title: str
