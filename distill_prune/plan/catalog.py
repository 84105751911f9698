"""What there is to choose from, in one line each: shipped pipelines, entries of every table with their settings, presets of
recipes, words of augmentation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pydantic.fields import FieldInfo

from distill_prune.data.augment import WORDS
from distill_prune.duration import Duration
from distill_prune.errors import ConfigError, nearest
from distill_prune.plan.files import read_raw, shipped_files
from distill_prune.plan.schema import about
from distill_prune.plugins import TABLES, table_of
from distill_prune.recipe import PRESETS, Recipe
from distill_prune.settings import Settings


@dataclass(frozen=True)
class Line:
    """A thing to choose: its kind, its name, and what it is in a sentence."""

    kind: str
    name: str
    about: str


@dataclass(frozen=True)
class Setting:
    """A field of an entry's settings: its default as it is written, empty where it must be given, and its meaning."""

    name: str
    default: str
    about: str


def pipelines() -> list[Line]:
    """The shipped pipelines, by name."""
    return [Line("pipeline", path.name, str(read_raw(path).get("title") or "")) for path in shipped_files()]


def entries() -> list[Line]:
    """The entries of every table, presets and words of augmentation."""
    tables = [table_of(name) for name in TABLES]
    lines = [Line(table.kind, name, _sentence(about(table[name]))) for table in tables for name in table]
    lines += [
        Line("recipe preset", name, ", ".join(f"{field} {plain(value)}" for field, value in fields.items()))
        for name, fields in PRESETS.items()
    ]
    return [*lines, *(Line("augmentation", name, meaning) for name, meaning in WORDS.items())]


def settings_of(name: str) -> list[tuple[Line, list[Setting]]]:
    """The settings of the entries of this name, table by table; `recipe` names those of a training.

    Raises:
        ConfigError: there is no such entry.
    """
    tables = [table for table in map(table_of, TABLES) if name in table]
    chosen = [(Line(t.kind, name, about(t[name])), [*_settings(t[name].Settings)]) for t in tables]
    if name == "recipe":
        chosen.append((Line("recipe", name, about_recipe()), [*_settings(Recipe)]))
    if not chosen:
        known = {entry for table in map(table_of, TABLES) for entry in table} | {"recipe"}
        raise ConfigError(f"there is no entry '{name}'", expected=nearest(name, known))
    return chosen


def about_recipe() -> str:
    return "How a network is trained; `preset: NAME` stands for the fields of a preset."


def _sentence(text: str) -> str:
    """The first sentence of a paragraph, on one line."""
    return " ".join(text.split()).partition(". ")[0].rstrip(".")


def _settings(kind: type[Settings]) -> Iterator[Setting]:
    for name, field in kind.model_fields.items():
        if name != "name":
            yield Setting(name, _written(field), field.description or "")


def _written(field: FieldInfo) -> str:
    """A field's default as a pipeline file would have it; empty where it must be given."""
    if field.is_required():
        return ""
    default = field.get_default(call_default_factory=True, validated_data={})
    if isinstance(default, Settings):
        return f"{{name: {entry}}}" if (entry := dict(default).get("name")) else "{...}"
    return plain(default)


def plain(value: object) -> str:
    """A value as YAML has it, numbers to six digits."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(plain, value))}]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, Duration):
        return str(value)
    return f"{value:g}" if isinstance(value, float) else str(value) or '""'
