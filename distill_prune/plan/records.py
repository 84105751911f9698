"""What the summary of a study is made of, as it enters the summary's key: arms, and the role of every input."""

from __future__ import annotations

from typing import Literal, NotRequired, TypedDict

from distill_prune.analyze.records import ArmRecord


class TicketRole(TypedDict):
    """The cost and sparsity of a level; `counted` is there, and false, where no search of the arm's own made it."""

    kind: Literal["ticket"]
    arm: str
    seed: int
    draw: NotRequired[int]
    level: int
    counted: NotRequired[bool]


class UnitRole(TypedDict):
    """The analysis `kind` of a ticket's copies, or of its mask and that of the arm `versus`."""

    kind: str
    versus: NotRequired[str]
    arm: str
    seed: int
    draw: NotRequired[int]
    level: int


class SetRole(TypedDict):
    """A synthetic set, in one of several draws; `experts` is whether it took experts, None where that is not known."""

    kind: Literal["set"]
    set: str
    draw: NotRequired[int]
    experts: bool | None


class ExpertRole(TypedDict):
    kind: Literal["expert"]


Role = TicketRole | UnitRole | SetRole | ExpertRole


class Roles(TypedDict, total=False):
    """The arms of a summary, and the roles of its inputs by the inputs' names. Empty for every other analysis."""

    arms: list[ArmRecord]
    inputs: dict[str, Role]
