"""Tables of entries that are resolved on use, so that looking at a table imports nothing heavy.

An entry is a module. What it must have and may declare is its table's protocol, a subclass of `EntryModule`: annotated names
without a value and functions are required, the value of a name is its default. A table fills in the defaults of what a
module leaves out, so that callers read plain attributes.

Beside its own entries a table knows those that a plugin registered, and those that installed packages announce as entry
points of the group `distill_prune.<table>`. The packages' list is read once, and only where a name is not known otherwise
or everything is listed.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Protocol, TypeVar, cast

from distill_prune.errors import ConfigError, UserError, nearest
from distill_prune.settings import Settings as AnySettings

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint


class EntryModule(Protocol):
    """What every entry is: a module with `Settings`."""

    __name__: str
    __file__: str
    Settings: type[AnySettings]


E = TypeVar("E", bound=EntryModule, covariant=True)


@cache
def installed() -> dict[str, dict[str, list[EntryPoint]]]:
    """What installed packages announce: by table and name."""
    from importlib.metadata import entry_points

    points = entry_points()
    tables: dict[str, dict[str, list[EntryPoint]]] = {}
    for group in points.groups:
        package, _, table = group.partition(".")
        for point in points.select(group=group) if package == __name__.partition(".")[0] else ():
            tables.setdefault(table, {}).setdefault(point.name, []).append(point)
    return tables


class Table(Mapping[str, E]):
    """Name -> module. A module is an entry: it defines `Settings` and what the table's protocol asks for.

    Args:
        kind: What an entry is called in messages.
        group: The table's name in plugins and entry points.
        protocol: What an entry must have and may declare.
        entries: The modules of the package's own entries, by name.
        check: Looks further at somebody else's entry, which has all that the protocol requires; the second argument names
            the entry. It raises a ConfigError.
        adapt: Makes an entry of a name from what somebody else's module has in place of one, such as a class. It raises a
            ConfigError. A table without it takes modules alone.
    """

    def __init__(
        self,
        kind: str,
        group: str,
        protocol: type,
        entries: Mapping[str, str],
        check: Callable[[E, str], None] | None = None,
        adapt: Callable[[object, str], EntryModule] | None = None,
    ) -> None:
        self.kind, self.group, self._entries, self._check, self.adapt = kind, group, dict(entries), check, adapt
        self._registered: dict[str, str] = {}
        self._checked: set[EntryModule] = set()
        declared = inspect.get_annotations(protocol)
        self.defaults = {name: vars(protocol)[name] for name in declared if name in vars(protocol)}
        functions = (name for name, value in vars(protocol).items() if inspect.isfunction(value) and name[0] != "_")
        self.required = ("Settings", *(n for n in declared if n not in ("Settings", *self.defaults)), *functions)

    @property
    def own(self) -> tuple[str, ...]:
        """The names of the package's own entries."""
        return tuple(self._entries)

    @property
    def registered(self) -> dict[str, str]:
        """The entries of plugins, by name: the names of their modules. What is installed is not among them."""
        return dict(self._registered)

    def register(self, name: str, module: str) -> None:
        """Add a plugin's entry, `module`, or what a module has, `module:name`; it is imported on use. An installed one of the
        same name stands back.

        Raises:
            UserError: the name is taken.
        """
        known = {**self._registered, **self._entries}
        if known.get(name, module) != module:
            raise UserError(
                f"the {self.kind} '{name}' of module '{module}' has the name of another one",
                got=f"'{name}' of module '{known[name]}'",
                fix="another name",
            )
        if name not in self._entries:
            self._registered[name] = module

    def __getitem__(self, name: str) -> E:
        """The entry's module, with the defaults of what it may declare.

        Raises:
            ConfigError: no such entry; the message names the nearest one. Or a plugin's that cannot be used.
        """
        if name in self._entries:
            return self._filled(importlib.import_module(self._entries[name]))
        if name in self._registered:
            return self._foreign(name, self._registered[name])
        if name not in self._installed():
            raise ConfigError(f"unknown {self.kind} '{name}'", expected=nearest(name, self))
        points = {p.value: p for p in self._installed()[name]}
        if len(points) > 1:
            raise ConfigError(f"two installed packages bring a {self.kind} '{name}'", got=" and ".join(sorted(points)))
        point = next(iter(points.values()))
        if point.attr and self.adapt is None:
            raise ConfigError(f"the entry point of {self.kind} '{name}'", got=point.value, expected=f"a module: {point.module}")
        return self._foreign(name, point.value)

    def _installed(self) -> Mapping[str, list[EntryPoint]]:
        return installed().get(self.group, {})

    def _filled(self, module: ModuleType) -> E:
        for name, default in self.defaults.items():
            vars(module).setdefault(name, default)
        return cast(E, module)

    def _foreign(self, name: str, place: str) -> E:
        """Somebody else's entry, at `module` or `module:name`, looked at as far as errors later on would not name it."""
        module, _, inside = place.partition(":")
        what = f"the {self.kind} '{name}' of module '{module}'"
        entry = imported(module, what)
        if inside and self.adapt is not None:
            entry = cast(ModuleType, self.adapt(member(entry, inside, what), name))
        lacks = [required for required in self.required if not hasattr(entry, required)]
        if lacks:
            raise ConfigError(f"{what} lacks {', '.join(lacks)}", got=entry.__file__, fix="see docs/extending.md")
        keyed = self.kind != "format"
        if not hasattr(entry.Settings, "CODE" if keyed else "model_fields"):
            raise ConfigError(
                f"{what}: Settings", got=entry.Settings, expected="a class derived from distill_prune.settings.Entry"
            )
        if entry.Settings.__module__ != entry.__name__:
            raise ConfigError(
                f"{what} has its Settings from another module, so that keys would not show a change of its own code",
                got=entry.Settings.__module__,
                fix=f"`class Settings(...)` in '{module}'",
            )
        if keyed and entry.Settings.model_fields["name"].default != name:
            raise ConfigError(f"{what} goes by another name in its Settings", expected=f'name: Literal["{name}"] = "{name}"')
        filled = self._filled(entry)
        if self._check is not None and filled not in self._checked:
            self._check(filled, what)
            self._checked.add(filled)  # once: the source may be edited after it was imported
        return filled

    def __iter__(self) -> Iterator[str]:
        return iter({**self._entries, **self._registered, **self._installed()})

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._registered or name in self._installed()


def member(module: ModuleType, name: str, what: str) -> object:
    """What a module has by a name, with points where it stands in a class; `what` names it in messages.

    Raises:
        ConfigError: nothing.
    """
    value: object = module
    try:
        for part in name.split("."):
            value = getattr(value, part)
    except AttributeError:
        raise ConfigError(f"{what} is not there", got=f"no '{name}' in '{module.__file__}'") from None
    return value


def imported(module: str, what: str) -> ModuleType:
    """Import a module that is not the package's own; `what` names it in messages.

    Raises:
        ConfigError: it cannot be imported, or fails while it is; the traceback is kept as `trace`.
    """
    try:
        return importlib.import_module(module)
    except UserError:
        raise
    except Exception as problem:
        import traceback

        missing = isinstance(problem, ModuleNotFoundError) and f"{module}.".startswith(f"{problem.name}.")
        place = traceback.extract_tb(problem.__traceback__)[-1]
        where = "" if isinstance(problem, ImportError | SyntaxError) else f" ({place.filename}, line {place.lineno})"
        error = ConfigError(
            f"{what} cannot be imported",
            got=f"{type(problem).__name__}: {problem}{where}",
            fix="the name, without .py, of a module in this folder or among Python's packages"
            if missing
            else "correct the module; DISTILL_PRUNE_DEBUG=1 shows where it fails",
        )
        error.trace = traceback.format_exc()
        raise error from problem
