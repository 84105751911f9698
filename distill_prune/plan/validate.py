"""Settings made of what a person wrote. A mistake becomes one message: the key, the file, what was got and what is known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, TypeVar, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from distill_prune.entries import EntriesOf, EntryOf
from distill_prune.errors import ConfigError, nearest
from distill_prune.settings import Entry, Settings
from distill_prune.table import EntryModule, Table

Model = TypeVar("Model", bound=Settings)

_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_UNKNOWN = ("extra_forbidden", "invalid_key")


def validated(model: type[Model], raw: object, where: str, file: str) -> Model:
    """The settings `model` of what stands at `where` in `file`.

    Raises:
        ConfigError: naming the key, the file, what was got and what is known there.
    """
    try:
        settings = model.model_validate(raw)
    except ValidationError as problem:
        raise _described(problem, model, raw, where, file) from problem
    except UnicodeEncodeError as problem:
        raise ConfigError(
            f"{file}: a text holds half of a letter", got=ascii(problem.object), expected="whole letters"
        ) from problem
    if odd := _no_number(raw, settings):
        place, got = odd
        raise ConfigError(f"'{'.'.join([where, *place]).strip('.')}' in {file}", got=got, expected="a number in decimal digits")
    return settings


def _no_number(raw: object, value: object) -> tuple[list[str], str] | None:
    """The place of what was taken for a number and is none, and what it is: a truth value, or a text such as 1_0; None where
    there is none."""
    if isinstance(raw, bool | str):
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        if isinstance(raw, bool):
            return [], "a truth value"
        return None if _NUMBER.fullmatch(raw) else ([], repr(raw))
    if isinstance(raw, Mapping):
        values = dict(value) if isinstance(value, Settings | Mapping) else {}
        pairs = [(str(name), below, values[name]) for name, below in raw.items() if name in values]
    elif isinstance(raw, list) and isinstance(value, list | tuple):
        pairs = [(str(i), below, values) for i, (below, values) in enumerate(zip(raw, value, strict=False))]
    else:
        return None
    below = ((name, _no_number(inner, other)) for name, inner, other in pairs)
    return next((([name, *odd[0]], odd[1]) for name, odd in below if odd is not None), None)


def entry(table: Table[EntryModule], raw: object, where: str, file: str) -> Entry:
    """The settings of the table's entry that `raw` names.

    Raises:
        ConfigError: naming the key, the file, what was got and what is known there.
    """
    kind = Annotated[Entry, EntryOf(table)]
    try:
        settings: Entry = TypeAdapter(kind).validate_python(raw)
    except ValidationError as problem:
        raise _described(problem, kind, raw, where, file) from problem
    return settings


def _described(problem: ValidationError, kind: object, raw: object, where: str, file: str) -> ConfigError:
    """One of pydantic's complaints, as the person who wrote the file would put it: of an unknown key, else the first."""
    complaints = problem.errors(include_url=False)
    first = next((c for c in complaints if c["type"] in _UNKNOWN), complaints[0])
    place = ".".join([where, *map(str, first["loc"])]).strip(".")
    if first["type"] in _UNKNOWN:
        settings = _settings_at(kind, raw, first["loc"][:-1])
        known = settings.model_fields if settings else ()
        return ConfigError(f"unknown key '{place}' in {file}", expected=nearest(str(first["loc"][-1]), known))
    return _of_a_value(first, place, file)


def _of_a_value(complaint: ErrorDetails, place: str, file: str) -> ConfigError:
    got, context = complaint["input"], complaint.get("ctx", {})
    match complaint["type"]:
        case "missing":
            return ConfigError(f"'{place}' is missing in {file}")
        case "unnamed_entry":
            return ConfigError(f"'{place}' in {file} needs a name", got=got, expected=context["expected"])
        case "unknown_entry":
            return ConfigError(f"unknown {context['entry']} at '{place}.name' in {file}", expected=context["expected"])
        case "unknown_name":
            name = f"{place}.{context['name']}"
            return ConfigError(f"unknown {context['kind']} '{name}' in {file}", expected=context["expected"])
        case "model_type" | "dict_type" if not isinstance(got, Settings):
            return ConfigError(f"'{place}' in {file}", got=repr(got), expected="a mapping of keys to values")
    message = complaint["msg"].removeprefix("Value error, ")
    if not place:
        return ConfigError(f"{file}: {message}")
    return ConfigError(f"'{place}' in {file}: {message}", got=None if isinstance(got, dict | Settings) else got)


def _settings_at(kind: object, raw: object, path: Sequence[int | str]) -> type[Settings] | None:
    """The settings that belong at `path` below a value of type `kind`, written as `raw`; None where none do."""
    if isinstance(kind, EntryOf):
        kind = kind.settings(raw)
    below = raw.get(path[0]) if path and isinstance(raw, Mapping) else None
    if isinstance(kind, type) and issubclass(kind, Settings):
        if not path:
            return kind
        field = kind.model_fields.get(str(path[0]))
        return _settings_at(field.rebuild_annotation(), below, path[1:]) if field else None
    if path and isinstance(kind, EntriesOf):
        return _settings_at(kind.table[str(path[0])].Settings, below, path[1:])
    if path and get_origin(kind) is dict:
        return _settings_at(get_args(kind)[1], below, path[1:])
    # An annotation's marks come after its type: what EntryOf says is nearer than the type Entry.
    inner = (_settings_at(part, raw, path) for part in reversed(get_args(kind)))
    return next((settings for settings in inner if settings), None)
