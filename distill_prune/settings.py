"""Frozen settings, durations, and the canonical form that keys are made from."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from distill_prune.errors import ConfigError


class Settings(BaseModel):
    """Base of every settings model: frozen, unknown keys refused, numbers must be finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Entry(Settings):
    """Base of the settings of a table's entry; `name` says which entry, and has its name as the default."""

    name: str


def _check_duration(text: str) -> str:
    if not re.fullmatch(r"\d+(it|ep)", text):
        raise ValueError(f"a duration is written like 500it (steps) or 2ep (epochs), not '{text}'")
    return text


Duration = Annotated[str, AfterValidator(_check_duration)]
"""A length of training: `500it` steps or `2ep` epochs. Enters keys as written."""


def steps_of(duration: str, examples: int, batch: int) -> int:
    """The number of optimizer steps in `duration`; an epoch visits every example once: ceil(examples / batch) steps."""
    count, unit = int(duration[:-2]), duration[-2:]
    return count if unit == "it" else count * (-(-examples // batch))


def fixed_steps(duration: str, *, why: str) -> int:
    """The steps of a duration that must not depend on the size of a data set.

    Raises:
        ConfigError: the duration is in epochs.
    """
    if duration.endswith("ep"):
        raise ConfigError(why, got=duration, expected="a duration in steps, like 500it", mend="write the length in steps")
    return int(duration[:-2])


def Later(default: Any, **more: Any) -> Any:
    """A field added after release: left out of the hash while it stands at its default, so old keys stay valid."""
    return Field(default, json_schema_extra={"later": True}, **more)


def canonical(value: Any) -> Any:
    """Plain JSON values of `value`, without `Later` fields that stand at their default."""
    if isinstance(value, BaseModel):
        fields = {}
        for name, info in type(value).model_fields.items():
            extra = info.json_schema_extra
            held = getattr(value, name)
            if isinstance(extra, dict) and extra.get("later") and held == info.default:
                continue
            fields[name] = canonical(held)
        return fields
    if isinstance(value, dict):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    return value


def canonical_json(value: Any) -> str:
    """Canonical JSON: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """sha256 of the canonical JSON of `value`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()
