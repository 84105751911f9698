"""What a setting takes, in words, from its type and bounds: for messages on a value that it does not take."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import NoneType, UnionType
from typing import Annotated, Literal, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from distill_prune.duration import WRITTEN, Duration
from distill_prune.entries import EntriesOf, EntryOf
from distill_prune.errors import ONE_OF, nearest
from distill_prune.letters import printable
from distill_prune.settings import Settings

MAPPING = "a mapping of keys to values"
_COMMA = re.compile(r"-?[0-9]+,[0-9]+")


@dataclass(frozen=True)
class Want:
    """What a place takes: its type without marks, the bounds of a number or of the length of a list, what is said of it."""

    kind: object
    bounds: Mapping[str, float]
    about: str = ""
    example: object = None

    def words(self, got: object = None) -> str:
        """What is expected, in words; `got` is what was written, for the nearest of several names."""
        kind, args = self.kind, get_args(self.kind)
        if get_origin(kind) in (Union, UnionType):
            return " or ".join([*(part.words(got) for part in self._parts()), *["null"] * (NoneType in args)])
        if get_origin(kind) is Literal:
            names = [str(choice) for choice in args]
            words = isinstance(got, str) and all(isinstance(choice, str) for choice in args)
            return nearest(str(got).lower(), names) if words else f"{ONE_OF}{', '.join(names)}"
        if get_origin(kind) is tuple:
            return f"a list{' that is not empty' if self.bounds.get('min_length') else ''}, like {self._list()}"
        if get_origin(kind) is dict:
            return f"{MAPPING}{', at least one' if self.bounds.get('min_length') else ''}"
        if isinstance(kind, type):
            simple = {bool: "true or false", str: "text", int: self._range("whole number"), float: self._range(self._noun())}
            if kind in simple:
                return simple[kind]
            if issubclass(kind, Duration):
                return WRITTEN
            if issubclass(kind, Settings | Mapping):
                return MAPPING
        return "another value"

    def fix(self, got: object) -> str | None:
        """What was probably meant; None where nobody knows."""
        if parts := self._parts():
            return next((fix for part in parts if (fix := part.fix(got))), None)
        if get_origin(self.kind) is tuple and isinstance(got, int | float | str) and not isinstance(got, bool):
            return f"write [{printable(str(got))}]"
        if self.kind in (int, float) and isinstance(got, str) and _COMMA.fullmatch(got):
            return f"write a point: {got.replace(',', '.')}"
        share = self.kind is float and self._noun() == "share"
        if share and isinstance(got, int | float) and not isinstance(got, bool) and 1 < got <= 100:
            return f"write {got / 100:g} for {got:g}%"
        return None

    def _parts(self) -> list[Want]:
        """The alternatives of a union, but for null."""
        kinds = get_args(self.kind) if get_origin(self.kind) in (Union, UnionType) else ()
        parts = [_want(kind, self.about, self.example) for kind in kinds if kind is not NoneType]
        return [replace(part, bounds={**self.bounds, **part.bounds}) for part in parts]

    def _noun(self) -> str:
        return "share" if "share" in self.about else "number"

    def _range(self, noun: str) -> str:
        """A number within its bounds, with an example where one is known."""
        low, high = self.bounds.get("gt", self.bounds.get("ge")), self.bounds.get("lt", self.bounds.get("le"))
        known = isinstance(self.example, int | float) and not isinstance(self.example, bool) and self.kind is float
        example = f", like {self.example:g}" if known else ""
        if low is None and high is None:
            return f"a {noun}{example}"
        lowest = f"above {low:g}" if "gt" in self.bounds else f"{low:g}" if low is not None else ""
        highest = f"below {high:g}" if "lt" in self.bounds else f"{high:g}" if high is not None else ""
        if high is None:
            return f"a {noun} {lowest if 'gt' in self.bounds else f'of at least {low:g}'}{example}"
        if low is None:
            return f"a {noun} {highest if 'lt' in self.bounds else f'of at most {high:g}'}{example}"
        if "gt" in self.bounds and "lt" in self.bounds:
            return f"a {noun} between {low:g} and {high:g}{example}"
        return f"a {noun} from {lowest} to {highest}{example}"

    def _list(self) -> str:
        """An example of a list."""
        if isinstance(self.example, tuple) and self.example:
            return f"[{', '.join(map(str, self.example))}]"
        element = _want(next(iter(get_args(self.kind)), str)).kind
        if get_origin(element) is Literal:
            return f"[{', '.join(map(str, get_args(element)))}]"
        return {int: "[0, 1]", float: "[0.5, 0.75]", Duration: "[0it, 100it]"}.get(element, "[one, another]")  # type: ignore[call-overload, no-any-return]


def want(field: FieldInfo, inside: Sequence[int | str] = ()) -> Want:
    """What a field takes; at the keys or positions `inside` it, where it holds several values."""
    example = None if field.is_required() else field.get_default(call_default_factory=False)
    wanted = _want(field.rebuild_annotation(), field.description or "", example)
    for _ in inside:
        wanted = _element(wanted)
    return wanted


def _element(outer: Want) -> Want:
    """What each of several values is."""
    parts = get_args(outer.kind)
    if alternatives := outer._parts():
        several = [part for part in alternatives if get_origin(part.kind) in (tuple, dict)]
        return _element(several[0]) if several else outer
    if get_origin(outer.kind) in (tuple, dict):
        return _want(parts[1] if get_origin(outer.kind) is dict else parts[0])
    return outer


def _want(kind: object, about: str = "", example: object = None) -> Want:
    bounds: dict[str, float] = {}
    while get_origin(kind) is Annotated:
        kind, *marks = get_args(kind)
        for mark in marks:
            if isinstance(mark, EntryOf | EntriesOf):
                return Want(dict, {}, about, example)
            for bound in mark.metadata if isinstance(mark, FieldInfo) else [mark]:
                names = ("gt", "ge", "lt", "le", "min_length")
                bounds |= {name: getattr(bound, name) for name in names if hasattr(bound, name)}
    return Want(kind, bounds, about, example)


def shown(value: object) -> str:
    """A value as a file has it, in at most 80 letters."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Mapping | Settings):
        return "a mapping" if dict(value) else "an empty mapping"
    text = f"[{', '.join(map(shown, value))}]" if isinstance(value, list | tuple) else str(value) or "an empty text"
    return text if len(text) <= 80 else f"{text[:79]}…"
