"""Pipeline files: YAML, one per claim, found by path or by name, extended and overridden."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from distill_prune.errors import ConfigError, nearest, system_error
from distill_prune.limits import PIPELINE_BYTES
from distill_prune.plan.narrow import Step, narrowed
from distill_prune.plan.places import Layer
from distill_prune.plan.plain import parsed
from distill_prune.settings import Json

SHIPPED = "shipped"
"""The origin of a pipeline that ships with the package."""


def _shipped() -> list[Path]:
    here = Path(__file__).resolve().parent.parent
    return [p for p in (here / "pipelines", here.parent / "pipelines") if p.is_dir()]


def shipped_files() -> list[Path]:
    """The pipelines that ship with the package, by name."""
    return sorted((path for folder in _shipped() for path in folder.glob("*.yaml")), key=lambda path: path.name)


def find_pipeline(name: str) -> Path:
    """The file that PIPELINE names: a path, or a file of the shipped `pipelines/`.

    Raises:
        ConfigError: there is none.
    """
    shipped = _shipped()
    if Path(name).parent in (Path(), Path("pipelines")) and not Path(name).exists():
        name = Path(name).name
    for candidate in (Path(name), *(folder / f for folder in shipped for f in (name, f"{name}.yaml"))):
        if candidate.is_file():
            return candidate
    known = {path.name for path in shipped_files()}
    raise ConfigError(
        f"there is no pipeline file '{name}'", expected=f"a path, or one of those shipped: {nearest(name, known)}"
    )


def origin(name: str, store: Path) -> str:
    """Which file PIPELINE names, for a report to remember: `SHIPPED`, or its path from the store: both may be moved."""
    path = find_pipeline(name).resolve()
    return SHIPPED if path.parent in _shipped() else os.path.relpath(path, store.resolve())


def _read(path: Path) -> tuple[dict[str, Json], Layer]:
    try:
        with path.open("rb") as file:
            content = file.read(PIPELINE_BYTES + 1)  # a file may have no end
        if len(content) > PIPELINE_BYTES:
            raise yaml.YAMLError(f"more than {PIPELINE_BYTES:,} bytes")
        raw, node = parsed(content.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise ConfigError(f"'{path}' is not YAML", got=_said(problem), fix="correct the file at that place") from problem
    except OSError as problem:
        raise system_error(f"'{path}' cannot be read", problem, kind=ConfigError) from problem
    if not isinstance(raw, dict):
        got = {list: "a list", type(None): "an empty file"}.get(type(raw), "a single value")
        raise ConfigError(f"'{path}' is not a pipeline", got=got, expected="a mapping of keys to values")
    return raw, Layer(path.name, node)


def _said(problem: Exception) -> str:
    """Where a text is no YAML, and why, on one line."""
    mark = getattr(problem, "problem_mark", None)
    if not isinstance(problem, yaml.MarkedYAMLError) or mark is None:
        return str(problem)
    why = ", ".join(part for part in (problem.context, problem.problem) if part)
    return f"line {mark.line + 1}, column {mark.column + 1}: {why}"


def _merged(base: dict[str, Json], over: dict[str, Json]) -> dict[str, Json]:
    """`over` laid on `base`, mapping by mapping; a mapping with another `name` or `preset` replaces the base's whole."""
    if "name" in over and "name" in base and over["name"] != base["name"]:
        return over
    if over.get("preset") is not None and over["preset"] != base.get("preset"):
        return over
    values = dict(base)
    for key, value in over.items():
        below = base.get(key)
        values[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return values


@dataclass(frozen=True)
class Written:
    """The plain `values` of a study, the `layers` that they are written in, the lowest first, and `notes` of what a layer took
    away from those under it."""

    values: dict[str, Json]
    layers: tuple[Layer, ...]
    notes: tuple[str, ...] = ()


def _laid(base: Written, values: dict[str, Json], layers: Sequence[Layer], name: str) -> Written:
    """The values of base and `layers` together; `name` is what notes call these layers."""
    step = Step(base.values, lambda place: any(layer.where(place) for layer in layers), name)
    values, notes = narrowed(values, step)
    return Written(values, (*base.layers, *layers), (*base.notes, *notes))


def read_file(path: Path, seen: tuple[Path, ...] = ()) -> Written:
    """The file's plain values, with `extends:` (a path beside it, or a shipped file) resolved.

    Raises:
        ConfigError: a file is missing, is not YAML, holds no mapping, or extends itself.
    """
    if path.resolve() in seen:
        raise ConfigError(f"'{path}' extends itself", got=" -> ".join(p.name for p in (*seen, path)))
    raw, layer = _read(path)
    if (parent := raw.pop("extends", None)) is None:
        return Written(raw, (layer,))
    candidates = (folder / str(parent) for folder in (path.parent, *_shipped()))
    extended = next((file for file in candidates if file.is_file()), None)
    if extended is None:
        raise ConfigError(
            f"'{path}' extends '{parent}', which is not there", expected=f"a file beside {path.name}, or a shipped one"
        )
    base = read_file(extended, (*seen, path.resolve()))
    return _laid(base, _merged(base.values, raw), [layer], path.name)


def read_raw(path: Path) -> dict[str, Json]:
    """The plain values of a file, as `read_file` has them."""
    return read_file(path).values


def _as_utf8(argument: str) -> str:
    """An argument of the command as UTF-8, where the locale has made escapes of its letters."""
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        return argument


def overridden(base: Written, assignments: Sequence[str], by: str = "--set") -> Written:
    """What is written with `a.b=c` laid on it; c is YAML. `by` is what lays it.

    Raises:
        ConfigError: an assignment has no place or no value of YAML, or its place lies below a value that is no mapping.
    """
    values, layers = copy.deepcopy(base.values), []
    for text in assignments:
        place, mark, value = _as_utf8(text).partition("=")
        if not mark or not place:
            raise ConfigError(f"--set {text}", expected="--set a.b=value")
        *path, last = place.split(".")
        node = values
        for part in path:
            below = {} if node.get(part) is None else node[part]
            if not isinstance(below, dict):
                raise ConfigError(f"--set {place}: '{part}' holds a value, not a mapping")
            node[part] = node = below
        try:
            node[last], nodes = parsed(value)
        except yaml.YAMLError as problem:
            raise ConfigError(f"--set {place}: the value is not YAML", got=value) from problem
        layers.append(Layer(by, nodes, (*path, last), is_file=False))
    return _laid(base, values, layers, by) if layers else base


def override(raw: dict[str, Json], assignments: Sequence[str]) -> None:
    """Lay `a.b=c` on plain values that no file has, in place.

    Raises:
        ConfigError: as `overridden`.
    """
    values = dict(overridden(Written(raw, ()), assignments).values)
    raw.clear()
    raw.update(values)
