"""A class of layers as an entry: `class MyNet(nn.Module)` whose parameters are the settings.

    class MyNet(nn.Module):
        def __init__(self, shape, classes, width=16): ...

The data fill in the parameters `shape` (C, H, W), `channels` (C) and `classes`, those of them that there are. Every other
parameter is a setting under its name, of its annotation's type, else of its default's.
"""

from __future__ import annotations

import importlib
import inspect
import sys
import types
import typing
from typing import Any, Literal, cast

from pydantic import create_model
from pydantic.errors import PydanticUserError
from torch import nn

from distill_prune.errors import ConfigError
from distill_prune.settings import Entry, canonical
from distill_prune.table import EntryModule, member

OF_THE_DATA = ("shape", "channels", "classes")
"""Parameters that the data fill in."""
_EXAMPLE = "def __init__(self, shape, classes, width: int = 16)"


class ClassSettings(Entry):
    """Settings made from a class's parameters. A worker makes them again from the class, which pickles name."""

    def __reduce__(self) -> tuple[object, ...]:
        kind = type(self)
        return _restored, (kind.__module__, kind.__qualname__.removesuffix(".Settings"), self.name, self.model_dump())


def _restored(module: str, qualname: str, name: str, values: dict[str, object]) -> Entry:
    kind = member(importlib.import_module(module), qualname, f"the model '{name}'")
    return cast(Entry, entry_of(kind, name).Settings.model_validate(values))


def entry_of(kind: object, name: str) -> EntryModule:
    """The entry `name` whose network is of the class `kind`, the same one for one class.

    Raises:
        ConfigError: it is no class of layers, or a parameter cannot be a setting.
    """
    if not (isinstance(kind, type) and issubclass(kind, nn.Module)):
        raise ConfigError(f"the model '{name}' is no network", got=kind, expected="a module, or a class derived from nn.Module")
    if (kind, name) not in _entries:
        _entries[kind, name] = _new_entry(kind, name)
    return _entries[kind, name]


_entries: dict[tuple[type[nn.Module], str], EntryModule] = {}


def _new_entry(kind: type[nn.Module], name: str) -> EntryModule:
    what = f"the model '{name}', class {kind.__qualname__} of module '{kind.__module__}'"
    parameters = _parameters(kind, what)
    from_data = [p for p in parameters if p in OF_THE_DATA]
    if "classes" not in from_data:
        raise ConfigError(
            f"{what} takes no number of classes", got=f"__init__(self, {', '.join(parameters)})", expected=_EXAMPLE
        )
    settings = _settings(kind, name, {n: p for n, p in parameters.items() if n not in from_data}, what)

    def build(settings: Entry, shape: tuple[int, ...], classes: int) -> nn.Module:
        of_the_data = {"shape": shape, "channels": shape[0], "classes": classes}
        values = {n: getattr(settings, n) for n in type(settings).model_fields if n != "name"}
        return kind(**{n: of_the_data[n] for n in from_data}, **values)

    source = sys.modules[kind.__module__]
    entry = types.ModuleType(kind.__module__, kind.__doc__ or source.__doc__)
    vars(entry).update({"__file__": source.__file__, "Settings": settings, "build": build})
    return cast(EntryModule, entry)


def _parameters(kind: type[nn.Module], what: str) -> dict[str, inspect.Parameter]:
    parameters = dict(inspect.signature(kind).parameters)
    for name, parameter in parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            raise ConfigError(f"{what}: a parameter cannot be a setting", got=str(parameter), expected=_EXAMPLE)
        if name not in OF_THE_DATA and (name.startswith("_") or name == "code" or hasattr(Entry, name) or name == "name"):
            raise ConfigError(f"{what}: a parameter has a name that settings have already", got=name, fix="another name")
    return parameters


def _settings(kind: type[nn.Module], name: str, parameters: dict[str, inspect.Parameter], what: str) -> type[Entry]:
    """The model of the settings, with the checks of the annotations."""
    fields: dict[str, Any] = {}
    try:
        hints = typing.get_type_hints(kind.__init__, include_extras=True)
        for parameter in parameters.values():
            missing = parameter.default is inspect.Parameter.empty
            if parameter.name not in hints and (missing or parameter.default is None):
                raise ConfigError(
                    f"{what}: a parameter has no type",
                    got=str(parameter),
                    expected=f"an annotation, as in {parameter.name}: int",
                )
            if not missing:
                canonical(parameter.default)
            fields[parameter.name] = (
                hints.get(parameter.name, type(parameter.default)),
                ... if missing else parameter.default,
            )
        return create_model(
            f"{kind.__qualname__}.Settings",
            __base__=ClassSettings,
            __module__=kind.__module__,
            **{"name": (Literal[name], name), **fields},
        )
    except (TypeError, NameError, PydanticUserError) as problem:
        raise ConfigError(
            f"{what}: a parameter cannot be a setting",
            got=str(problem).splitlines()[0],
            expected="numbers, texts, true or false, and lists of them",
        ) from problem
