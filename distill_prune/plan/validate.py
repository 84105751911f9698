"""Settings made of what a person wrote. A mistake is one message: the key, its file and line, what was got and expected."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Collection, Iterator, Mapping
from itertools import islice
from typing import Annotated, TypeVar, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails, PydanticCustomError

from distill_prune.entries import EntriesOf, EntryOf
from distill_prune.errors import ConfigError, Misfit, nearest
from distill_prune.plan.aliases import meanings, meant
from distill_prune.plan.complaints import MAPPING, shown, want
from distill_prune.plan.places import Locate, Place
from distill_prune.settings import Entry, Settings
from distill_prune.table import EntryModule, Table

Model = TypeVar("Model", bound=Settings)

_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_UNKNOWN = ("extra_forbidden", "invalid_key")


def validated(model: type[Model], raw: object, where: Place, locate: Locate) -> Model:
    """The settings `model` of the values `raw`, which stand at `where`; `locate` knows the files and lines.

    Raises:
        ConfigError: naming the key, its file and line, what was got and what is expected or known there.
    """
    with _complained(model, raw, where, locate):
        settings = model.model_validate(raw)
    if odd := _no_number(raw, settings):
        place, got = odd
        raise ConfigError(_named([*where, *place], locate), got=got, expected="a number in decimal digits")
    return settings


def _named(place: Place, locate: Locate) -> str:
    """How messages begin: with the key and where it is written."""
    return f"'{_dotted(place)}' in {locate(place)}" if place else locate(place)


def _dotted(place: Place) -> str:
    return ".".join(map(str, place))


def _no_number(raw: object, value: object) -> tuple[list[str | int], str] | None:
    """The place of what was taken for a number and is none, and what it is: a truth value, or a text such as 1_0; None where
    there is none."""
    if isinstance(raw, bool | str):
        if not isinstance(value, int | float) or isinstance(value, bool):
            return None
        if isinstance(raw, bool):
            return [], f"a truth value, {shown(raw)}"
        return None if _NUMBER.fullmatch(raw) else ([], repr(raw))
    pairs: list[tuple[str | int, object, object]]
    if isinstance(raw, Mapping):
        values = dict(value) if isinstance(value, Settings | Mapping) else {}
        pairs = [(str(name), below, values[name]) for name, below in raw.items() if name in values]
    elif isinstance(raw, list) and isinstance(value, list | tuple):
        pairs = [(i, below, values) for i, (below, values) in enumerate(zip(raw, value, strict=False))]
    else:
        return None
    below = ((name, _no_number(inner, other)) for name, inner, other in pairs)
    return next((([name, *odd[0]], odd[1]) for name, odd in below if odd is not None), None)


def entry(table: Table[EntryModule], raw: object, where: Place, locate: Locate) -> Entry:
    """The settings of the table's entry that `raw` names.

    Raises:
        ConfigError: as `validated`.
    """
    kind = Annotated[Entry, EntryOf(table)]
    with _complained(kind, raw, where, locate):
        settings: Entry = TypeAdapter(kind).validate_python(raw)
    return settings


@contextlib.contextmanager
def _complained(kind: object, raw: object, where: Place, locate: Locate) -> Iterator[None]:
    """Puts one of pydantic's complaints in words: that of an unknown key, else the first."""
    try:
        try:
            yield
        except ValidationError as problem:
            complaints = problem.errors(include_url=False)
            first = next((c for c in complaints if c["type"] in _UNKNOWN), complaints[0])
            raise in_words(first, kind, raw, where, locate) from problem
    except UnicodeEncodeError as problem:  # pydantic writes its messages in UTF-8
        raise ConfigError(
            f"{locate(())}: a text holds half of a letter", got=ascii(problem.object), expected="whole letters"
        ) from problem


def in_words(complaint: ErrorDetails, kind: object, raw: object, where: Place, locate: Locate) -> ConfigError:
    """A complaint of pydantic on the values `raw` of type `kind`, in words."""
    got, context, inside = complaint["input"], complaint.get("ctx", {}), complaint["loc"]
    place = (*where, *inside)
    named = _named(place, locate)
    match complaint["type"]:
        case "extra_forbidden" | "invalid_key":
            return _unknown(kind, raw, inside, named)
        case "missing":
            return ConfigError(f"'{_dotted(place)}' is missing in {locate(place)}", expected=_expected(kind, raw, inside, None))
        case "unnamed_entry":
            fix = f"write {{name: {context['near']}}}" if context["near"] else None
            return ConfigError(f"{named}: it needs a name", got=shown(got), expected=context["expected"], fix=fix)
        case "unknown_entry":
            named = _named((*place, "name"), locate)
            return ConfigError(f"unknown {context['entry']} at {named}", expected=context["expected"])
        case "unknown_name":
            named = _named((*place, context["name"]), locate)
            return ConfigError(f"unknown {context['kind']} {named}", expected=context["expected"])
        case "value_error" if isinstance(misfit := context.get("error"), Misfit):
            named = _named((*place, *misfit.place), locate)
            got = None if misfit.got is None else shown(misfit.got)
            return ConfigError(f"{named}: {misfit.what}", got=got, expected=misfit.expected, fix=misfit.fix)
        case "value_error" | "assertion_error":
            got = None if isinstance(got, dict | Settings) else shown(got)
            return ConfigError(f"{named}: {complaint['msg'].partition(', ')[2]}", got=got)
    field, further = _field_at(kind, raw, inside)
    wanted = None if field is None else want(field, further)
    fix = None if wanted is None else wanted.fix(got)
    if isinstance(got, bool | int | str) and len(inside) == 2 and inside[0] == "compare":
        fix = "write {} for its defaults, or null to leave the analysis out"
    return ConfigError(named, got=shown(got), expected=_expected(kind, raw, inside, got), fix=fix)


def _unknown(kind: object, raw: object, inside: Place, named: str) -> ConfigError:
    """A key that its place does not have: the key that it means there, or else the sections that have it."""
    name, settings = str(inside[-1]), _settings_at(kind, raw, inside[:-1])
    known = settings.model_fields if settings else ()
    key = meant(name, known)
    elsewhere = [] if key else [*islice(_places(kind, meanings(name)), 4)]
    fix = f"a key of this name has another place: {', '.join(elsewhere)}" if elsewhere else None
    return ConfigError(f"unknown key {named}", expected=nearest(name, known, key), fix=fix)


def _places(kind: object, names: Collection[str]) -> Iterator[str]:
    """Where settings have a field of one of the names; entries of tables are not looked into."""
    if isinstance(kind, type) and issubclass(kind, Settings) and kind is not Entry:
        for name, field in kind.model_fields.items():
            if name in names:
                yield name
            for part in (field.annotation, *get_args(field.annotation)):
                yield from (f"{name}.{below}" for below in _places(part, names))


def _expected(kind: object, raw: object, inside: Place, got: object) -> str | None:
    """What belongs at a place, in words; None where nobody knows."""
    field, further = _field_at(kind, raw, inside)
    return MAPPING if field is None else want(field, further).words(got)


def _field_at(kind: object, raw: object, path: Place) -> tuple[FieldInfo | None, Place]:
    """The field that `path` leads into, below a value of type `kind`, and what of the path is left inside it."""
    for length in range(len(path) - 1, -1, -1):
        try:
            settings = _settings_at(kind, raw, path[:length])
        except PydanticCustomError:  # no entry is named above it
            continue
        if settings and (field := settings.model_fields.get(str(path[length]))):
            return field, path[length + 1 :]
    return None, ()


def _settings_at(kind: object, raw: object, path: Place) -> type[Settings] | None:
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
