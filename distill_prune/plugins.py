"""Plugins: modules of the user's own that bring entries of the tables, named on the command line or loaded by a script.

A plugin says what it brings, by table and name, as the module that is the entry (itself, where there is just one):

    DISTILL_PRUNE = {"models": {"my_net": "my_module"}}

or, of a network, as its class:

    DISTILL_PRUNE = {"models": {"my_net": MyNet}}

An installed package may announce the same as entry points, which need no loading (see `table`). Nothing that a pipeline
file says leads to an import: a file names entries, never modules.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import cast

from distill_prune.errors import UserError, nearest
from distill_prune.limits import VARIABLE, max_size
from distill_prune.table import EntryModule, Table, imported

TABLES = {
    "data": ("distill_prune.data", "DATASETS"),
    "models": ("distill_prune.models", "MODELS"),
    "methods": ("distill_prune.distill", "METHODS"),
    "criteria": ("distill_prune.prune", "CRITERIA"),
    "analyses": ("distill_prune.analyze", "ANALYSES"),
    "formats": ("distill_prune.interop", "FORMATS"),
}
"""By the table's name in plugins and entry points: the module that has it, and its name there."""
_RESERVED = {"methods": "stored"}
"""What a pipeline file means something else by."""
_EXAMPLE = 'DISTILL_PRUNE = {"models": {"my_net": "my_module"}}'


def table_of(name: str) -> Table[EntryModule]:
    """The table that plugins and entry points call `name`.

    Raises:
        UserError: there is none.
    """
    if name not in TABLES:
        raise UserError(f"there is no table '{name}'", expected=nearest(name, TABLES))
    module, attribute = TABLES[name]
    return cast(Table[EntryModule], vars(importlib.import_module(module))[attribute])


def load(module: str, folder: str | Path = ".") -> dict[str, dict[str, str]]:
    """Import a plugin, `folder` before Python's other places, and register what it brings; returns that.

    Raises:
        UserError: it cannot be imported, does not say what it brings, or brings a name that is taken.
    """
    place = str(Path(folder).resolve())
    if place not in sys.path:
        sys.path.insert(0, place)
    brought = _brought(imported(module, f"the plugin '{module}'"))
    register(brought)
    return brought


def _brought(plugin: ModuleType) -> dict[str, dict[str, str]]:
    """What the plugin says that it brings, checked."""
    what = f"the plugin '{plugin.__name__}' ({plugin.__file__})"
    brings = vars(plugin).get("DISTILL_PRUNE")
    if brings is None:
        raise UserError(f"{what} does not say what it brings", fix=f"a line like {_EXAMPLE}")
    tables = brings.values() if isinstance(brings, Mapping) else ()
    pairs = [(n, m) for entries in tables for n, m in entries.items()] if all(isinstance(e, Mapping) for e in tables) else []
    if not pairs or not all(isinstance(n, str) and n and ((m and isinstance(m, str)) or isinstance(m, type)) for n, m in pairs):
        raise UserError(f"{what} does not say clearly what it brings", got=f"DISTILL_PRUNE = {brings!r}", expected=_EXAMPLE)
    for table, entries in brings.items():
        if table not in TABLES:
            raise UserError(f"{what} brings entries of no table", got=f"'{table}'", expected=nearest(str(table), TABLES))
        if (name := _RESERVED.get(table)) in entries:
            raise UserError(f"{what}: {table} cannot be called '{name}'", fix="another name")
    return {table: {n: _place(table, n, m, what) for n, m in entries.items()} for table, entries in brings.items()}


def _place(table: str, name: str, entry: str | type, what: str) -> str:
    """Where an entry is: its module, or its class as `module:class`.

    Raises:
        UserError: it is a class, and the table takes none, or not this one.
    """
    if isinstance(entry, str):
        return entry
    adapt = table_of(table).adapt
    if adapt is None or "<locals>" in entry.__qualname__:
        raise UserError(
            f"{what}: '{name}' of {table} cannot be this class",
            got=f"{entry.__module__}.{entry.__qualname__}",
            expected="the name of a module" if adapt is None else "a class at the top of a module",
        )
    adapt(entry, name)  # made here: its source is hashed while it is what was imported
    return f"{entry.__module__}:{entry.__qualname__}"


def register(entries: Mapping[str, Mapping[str, str]]) -> None:
    """Add entries to the tables: module by name by table.

    Raises:
        UserError: a name is taken.
    """
    for table, modules in entries.items():
        for name, module in modules.items():
            table_of(table).register(name, module)


@dataclass(frozen=True)
class Registered:
    """What is registered in this process, for one that it starts: entries by table, where their modules lie, and the memory
    in bytes that one source may take."""

    entries: Mapping[str, Mapping[str, str]]
    path: Sequence[str]
    max_size: int

    @classmethod
    def here(cls) -> Registered:
        entries = {name: table_of(name).registered for name in TABLES}
        return cls({t: e for t, e in entries.items() if e}, tuple(sys.path), max_size())

    def restore(self) -> None:
        """Register the same in this process. Before settings of a plugin are unpickled: that imports their modules."""
        os.environ[VARIABLE] = str(self.max_size)
        sys.path[:] = [*self.path, *(p for p in sys.path if p not in self.path)]
        register(self.entries)
