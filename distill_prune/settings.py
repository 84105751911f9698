"""Frozen settings, and the canonical form that keys are made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar, overload

from pydantic import BaseModel, ConfigDict, Field, model_validator

from distill_prune.duration import Duration
from distill_prune.errors import ConfigError

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
"""A plain value, as JSON and YAML have it."""

Default = TypeVar("Default")


class Settings(BaseModel):
    """Base of every settings model: frozen, unknown keys refused, numbers must be finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Entry(Settings):
    """Base of the settings of a table's entry. `name` says which entry, and the entry's own name is its default.

    Every key that a plugin's settings enter also has the sha256 of the plugin's module, so that a change of its code makes
    new artifacts. The package's own code has VERSIONS for this. `OUTSIDE_KEYS` are the settings that enter no key.
    """

    CODE: ClassVar[str] = ""
    OUTSIDE_KEYS: ClassVar[frozenset[str]] = frozenset()

    name: str

    def identity(self) -> dict[str, Json]:
        """The settings that enter keys. Paths and titles do not: a fingerprint stands for the bytes."""
        return {name: value for name, value in canonical(self).items() if name not in self.OUTSIDE_KEYS}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        if not foreign(cls.__module__):
            return
        if "code" in cls.model_fields:
            raise ConfigError(
                f"settings of module '{cls.__module__}' have a field 'code', the name of the module's hash in keys",
                fix="another name",
            )
        # The file is read while its module is imported: what is edited later is not the code that runs here.
        cls.CODE = _hash(cls.__module__)

    @model_validator(mode="before")
    @classmethod
    def _of_this_code(cls, values: object) -> object:
        """A plugin's settings without the hash that manifests and reports show with them.

        Raises:
            ValueError: the hash is of another version of the code.
        """
        if not isinstance(values, dict) or "code" not in values or not foreign(cls.__module__):
            return values
        if values["code"] not in (None, _code(cls)):
            raise ValueError(f"'code' is of another version of module '{cls.__module__}': bring it back, or write code: null")
        return {name: value for name, value in values.items() if name != "code"}


def foreign(module: str) -> bool:
    """Whether the module of this name belongs to another package than this one."""
    return module.partition(".")[0] != __name__.partition(".")[0]


def _hash(module: str) -> str:
    """sha256 of the module's source file; empty where it has none."""
    path = Path(getattr(sys.modules.get(module), "__file__", None) or "")
    if path.suffix == ".py":
        with contextlib.suppress(OSError):
            return hashlib.sha256(path.read_bytes()).hexdigest()
    return ""


def _code(kind: type[Entry]) -> str:
    """What stands for a plugin's code in keys: the hash of its module, else the version of its package.

    Raises:
        ConfigError: there is neither, so keys would not show a change of the code.
    """
    if kind.CODE:
        return kind.CODE
    from importlib import metadata

    packages = metadata.packages_distributions().get(kind.__module__.partition(".")[0])
    if not packages:
        raise ConfigError(
            f"the module '{kind.__module__}' of a plugin has no source file",
            got="code whose changes no key could show",
            fix="write it in a file, my_module.py",
        )
    return f"{packages[0]} {metadata.version(packages[0])}"


def Later(default: Default, **more: Any) -> Default:
    """A field that was added after a release. It is left out of the hash while it has its default, so old keys stay valid."""
    field: Default = Field(default, json_schema_extra={"later": True}, **more)
    return field


@overload
def canonical(value: BaseModel) -> dict[str, Json]: ...
@overload
def canonical(value: object) -> Json: ...
def canonical(value: object) -> Json:
    """The plain form of `value` that keys are made from: settings without `Later` fields that have their defaults, those of a
    plugin with the hash of their module as `code`.

    Raises:
        TypeError: there is a value that JSON does not know.
    """
    if value is None or isinstance(value, str | int | float):  # bool is an int; most values are plain, so they come first
        return value
    if isinstance(value, BaseModel):
        fields = {}
        for name, later, default in _fields(type(value)):
            setting = getattr(value, name)
            if not (later and setting == default):
                fields[name] = canonical(setting)
        if isinstance(value, Entry) and foreign(type(value).__module__):
            fields["code"] = _code(type(value))
        return fields
    if isinstance(value, dict):
        return {str(k): canonical(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [canonical(v) for v in value]
    if isinstance(value, Duration):
        return str(value)
    raise TypeError(f"{type(value).__name__} is no value that JSON knows: {value!r}")


@cache
def _fields(kind: type[BaseModel]) -> tuple[tuple[str, bool, object], ...]:
    """Name, whether it is a `Later` one, and default of every field of a model."""
    extras = {name: info.json_schema_extra for name, info in kind.model_fields.items()}
    later = {name for name, extra in extras.items() if isinstance(extra, dict) and extra.get("later")}
    return tuple((name, name in later, info.default) for name, info in kind.model_fields.items())


def canonical_json(value: object) -> str:
    """Canonical JSON: sorted keys, no spaces, ASCII, no NaN."""
    return json.dumps(canonical(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: object) -> str:
    """sha256 of the canonical JSON of `value`, as 64 hexadecimal digits."""
    return hashlib.sha256(canonical_json(value).encode("ascii")).hexdigest()
