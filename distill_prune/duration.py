"""Lengths of training, in optimizer steps or in epochs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal, cast

from pydantic import GetCoreSchemaHandler
from pydantic_core import core_schema

from distill_prune.arithmetic import ceil_div
from distill_prune.errors import ConfigError, Misfit

PATTERN = r"^(0|[1-9][0-9]*)(it|ep)$"
WRITTEN = "a length: 400it (steps) or 20ep (epochs)"


@dataclass(frozen=True, eq=False)
class Duration:
    """A length of training: `500it` steps or `2ep` epochs. Enters keys as it is written, and equals that text."""

    count: int
    unit: Literal["it", "ep"]

    @classmethod
    def of(cls, value: object) -> Duration:
        """Read a duration as files write it.

        Raises:
            Misfit: it is not written like one.
        """
        if isinstance(value, Duration):
            return value
        if not isinstance(value, str) or (match := re.match(PATTERN, value)) is None or match[0] != value:
            raise Misfit(
                "this is no length of training", got="null" if value is None else value, expected=WRITTEN, fix=_meant(value)
            )
        return cls(int(match[1]), cast(Literal["it", "ep"], match[2]))

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"

    def __eq__(self, other: object) -> bool:
        return str(self) == str(other) if isinstance(other, Duration | str) else NotImplemented

    def __hash__(self) -> int:
        return hash(str(self))

    def __lt__(self, other: Duration) -> bool:
        """Whether it is shorter on every set: durations of two units compare only where this one is zero."""
        return self.count < other.count and (self.unit == other.unit or self.count == 0)

    def __mul__(self, times: int) -> Duration:
        return Duration(self.count * times, self.unit)

    def steps(self, examples: int, batch: int) -> int:
        """The number of optimizer steps; an epoch visits every example once: ceil(examples / batch) steps."""
        return self.count if self.unit == "it" else self.count * ceil_div(examples, batch)

    def require_steps(self, why: str) -> None:
        """Refuse a duration that would depend on the size of a data set.

        Raises:
            ConfigError: the duration is in epochs; `why` says who needs steps.
        """
        if self.unit == "ep" and self.count:
            raise ConfigError(why, got=self, expected="a duration in steps, like 500it", fix="write the length in steps")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        as_text = core_schema.plain_serializer_function_ser_schema(str, return_schema=core_schema.str_schema())
        return core_schema.no_info_plain_validator_function(cls.of, serialization=as_text)

    @classmethod
    def __get_pydantic_json_schema__(cls, *_: object) -> dict[str, Any]:
        return {"type": "string", "pattern": PATTERN, "description": "steps, like 500it, or epochs, like 2ep"}


NONE = Duration(0, "it")
"""No training at all."""


def _meant(value: object) -> str | None:
    """How a length may have been meant that is a number without a unit; None for anything else."""
    number = str(value).replace("_", "").replace(",", "")
    return f"write {int(number)}it or {int(number)}ep" if number.isascii() and number.isdecimal() and len(number) < 19 else None
