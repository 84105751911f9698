"""Several inputs of one role: an artifact's manifest writes their keys in order as role0, role1, ..."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import count, takewhile
from typing import Literal

InputRole = Literal["copy", "a_copy", "b_copy", "expert", "scorer", "of"]


def numbered(role: InputRole, keys: Iterable[str]) -> dict[str, str]:
    """The keys as a manifest's inputs."""
    return {f"{role}{i}": key for i, key in enumerate(keys)}


def keys_of(role: InputRole, inputs: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of a role among a manifest's inputs, in order."""
    return tuple(inputs[name] for name in takewhile(inputs.__contains__, (f"{role}{i}" for i in count())))
