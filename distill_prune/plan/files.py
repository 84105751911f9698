"""Pipeline files: YAML, one per claim, found by path or by name, extended and overridden."""

from __future__ import annotations

import copy
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import yaml

from distill_prune.errors import ConfigError, nearest, system_error
from distill_prune.limits import PIPELINE_BYTES
from distill_prune.plan.plain import parse_yaml
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


def _read(path: Path) -> dict[str, Json]:
    try:
        with path.open("rb") as file:
            content = file.read(PIPELINE_BYTES + 1)  # a file may have no end
        if len(content) > PIPELINE_BYTES:
            raise yaml.YAMLError(f"more than {PIPELINE_BYTES:,} bytes")
        raw = parse_yaml(content.decode("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as problem:
        raise ConfigError(f"'{path}' is not YAML", got=problem, fix="correct the file at that place") from problem
    except OSError as problem:
        raise system_error(f"'{path}' cannot be read", problem, kind=ConfigError) from problem
    if not isinstance(raw, dict):
        raise ConfigError(f"'{path}' is not a pipeline", got=type(raw).__name__, expected="a mapping of keys to values")
    return raw


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


CHOSEN_FOR = {("prune", "levels"): ("levels",), ("data", "name"): ("lanes", "compile")}
"""What is chosen for a value, by its place: which levels are compared, for their number; how networks share steps and whether
these are compiled, for the data."""


def _settled(before: Mapping[str, Json], values: dict[str, Json], named: Collection[str]) -> dict[str, Json]:
    """The values of a layer on the one `before` it, less what was chosen there for a value that is another one now, but for
    what the layer names itself."""
    for place, chosen in CHOSEN_FOR.items():
        if _at(before, place) != _at(values, place):
            for name in set(chosen) - set(named):
                values.pop(name, None)
    return values


def _at(values: Mapping[str, Json], place: tuple[str, str]) -> Json:
    section = values.get(place[0])
    return section.get(place[1]) if isinstance(section, dict) else section


def read_raw(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Json]:
    """The file's plain values, with `extends:` (a path beside it, or a shipped file) resolved.

    Raises:
        ConfigError: a file is missing, is not YAML, holds no mapping, or extends itself.
    """
    if path.resolve() in seen:
        raise ConfigError(f"'{path}' extends itself", got=" -> ".join(p.name for p in (*seen, path)))
    raw = _read(path)
    if (parent := raw.pop("extends", None)) is None:
        return raw
    candidates = (folder / str(parent) for folder in (path.parent, *_shipped()))
    extended = next((file for file in candidates if file.is_file()), None)
    if extended is None:
        raise ConfigError(
            f"'{path}' extends '{parent}', which is not there", expected=f"a file beside {path.name}, or a shipped one"
        )
    base = read_raw(extended, (*seen, path.resolve()))
    return _settled(base, _merged(base, raw), raw)


def _as_utf8(argument: str) -> str:
    """An argument of the command as UTF-8, where the locale has made escapes of its letters."""
    try:
        return os.fsencode(argument).decode()
    except UnicodeError:
        return argument


def override(raw: dict[str, Json], assignments: Sequence[str]) -> None:
    """Lay `a.b=c` on plain values, in place; c is YAML.

    Raises:
        ConfigError: an assignment has no place or no value of YAML, or its place lies below a value that is no mapping.
    """
    before = copy.deepcopy(raw)
    for text in assignments:
        place, mark, value = _as_utf8(text).partition("=")
        if not mark or not place:
            raise ConfigError(f"--set {text}", expected="--set a.b=value")
        *path, last = place.split(".")
        node = raw
        for part in path:
            below = {} if node.get(part) is None else node[part]
            if not isinstance(below, dict):
                raise ConfigError(f"--set {place}: '{part}' holds a value, not a mapping")
            node[part] = node = below
        try:
            node[last] = parse_yaml(value)
        except yaml.YAMLError as problem:
            raise ConfigError(f"--set {place}: the value is not YAML", got=value) from problem
    _settled(before, raw, {text.partition("=")[0].partition(".")[0] for text in assignments})
