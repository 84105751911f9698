"""The type of a field that holds an entry of a table: `Annotated[Entry, EntryOf(MODELS)]`.

Pydantic reads there what files write, a mapping with a `name`, as the settings of the entry of that name. The schema of
pipeline files takes the table from the same place.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import GenericAlias
from typing import cast

from pydantic import GetCoreSchemaHandler, TypeAdapter
from pydantic_core import PydanticCustomError, core_schema

from distill_prune.errors import nearest
from distill_prune.settings import Settings
from distill_prune.table import EntryModule, Table


@dataclass(frozen=True, eq=False)
class EntryOf:
    """Marks a field whose value is an entry of `table`, or by their names one of the `others`."""

    table: Table[EntryModule]
    others: Mapping[str, type[Settings]] = field(default_factory=dict)

    def settings(self, raw: object) -> type[Settings]:
        """The settings of the entry that `raw` names.

        Raises:
            PydanticCustomError: it has no name (`unnamed_entry`), or no entry has that name (`unknown_entry`).
            ConfigError: the entry is a plugin's, and cannot be used.
        """
        name = raw.get("name") if isinstance(raw, Mapping) else None
        if not isinstance(name, str):
            known = f"name: one of {', '.join(sorted(self.table))}"
            near = difflib.get_close_matches(raw.lower(), self.table, n=1) if isinstance(raw, str) else []
            raise PydanticCustomError("unnamed_entry", "needs a name", {"expected": known, "near": "".join(near)})
        if name in self.others:
            return self.others[name]
        if name not in self.table:
            unknown = {"entry": f"{self.table.kind} '{name}'", "expected": nearest(name, self.table)}
            raise PydanticCustomError("unknown_entry", "unknown {entry}", unknown)
        kind: type[Settings] = self.table[name].Settings
        return kind

    def read(self, raw: object) -> Settings:
        """Settings as they are, and what files write as the settings of the entry that it names."""
        return raw if isinstance(raw, Settings) else self.settings(raw).model_validate(raw)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, *_: object) -> dict[str, str]:
        """The kind of the table, in whose place `plan.schema` puts the table's entries."""
        return {"entry": self.table.kind}


@dataclass(frozen=True, eq=False)
class EntriesOf:
    """Marks a field with settings of entries of `table` under the entries' own names; names of `without` are not among them."""

    table: Table[EntryModule]
    without: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        return [name for name in self.table if name not in self.without]

    def read(self, raw: object) -> object:
        """The settings of every entry that is written, by name."""
        return {name: self._settings(name, body) for name, body in raw.items()} if isinstance(raw, Mapping) else raw

    def _settings(self, name: str, raw: object) -> Settings:
        if name not in self.names:
            unknown = {"kind": self.table.kind, "name": name, "expected": nearest(name, self.names)}
            raise PydanticCustomError("unknown_name", "unknown {kind} '{name}'", unknown)
        by_name = GenericAlias(dict, (str, self.table[name].Settings))  # read as such, mistakes are placed below the name
        return TypeAdapter(cast(type[dict[str, Settings]], by_name)).validate_python({name: raw})[name]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        return core_schema.no_info_before_validator_function(self.read, handler(source))

    def __get_pydantic_json_schema__(self, *_: object) -> dict[str, str]:
        """The kind of the table, in whose place `plan.schema` puts the entries by name."""
        return {"entries": self.table.kind}
