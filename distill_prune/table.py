"""Tables of entries that are resolved on use, so that looking at a table imports nothing heavy."""

from __future__ import annotations

import importlib
from collections.abc import Iterator, Mapping
from types import ModuleType

from distill_prune.errors import ConfigError, nearest


class Table(Mapping[str, ModuleType]):
    """Name -> module. A module is an entry: it defines `Settings` and the functions that its table asks for."""

    def __init__(self, kind: str, entries: Mapping[str, str]) -> None:
        self.kind, self._entries = kind, dict(entries)

    def __getitem__(self, name: str) -> ModuleType:
        """The entry's module.

        Raises:
            ConfigError: no such entry; the message names the nearest one.
        """
        if name not in self._entries:
            raise ConfigError(f"unknown {self.kind} '{name}'", expected=nearest(name, self._entries))
        return importlib.import_module(self._entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries
