"""What a summary is made of, as the plain records that are stored. A key that is not required stands there where it applies."""

from __future__ import annotations

from typing import NotRequired, TypedDict


class Control(TypedDict):
    of: str
    kind: str


class Begins(TypedDict):
    arm: str
    level: int


class ArmRecord(TypedDict):
    """An arm: `images` is "real" or the name of a set; `k` and `base` are there in a scan of rewinding steps."""

    name: str
    images: str
    label: NotRequired[str]
    learned: NotRequired[bool]
    other_data: NotRequired[bool]
    recipe: NotRequired[str]
    criterion: NotRequired[str]
    k: NotRequired[str]
    base: NotRequired[str]
    control: NotRequired[Control]
    begins: NotRequired[Begins]
    one_shot: NotRequired[bool]
    task: NotRequired[str]
    score: NotRequired[str]
    rewind: NotRequired[str]
    retrain: NotRequired[str]
