"""The JSON schema of pipeline files (draft 7, which editors read): every section, and every entry of every table.

The schema has two parts, `whole` and `partial`. A file that extends another may leave out whatever the other says, so nothing
is required of it, not even names; then an entry is any that has all the keys that are written.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, get_args

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from distill_prune.analyze import ANALYSES
from distill_prune.data import DATASETS
from distill_prune.entries import EntryOf
from distill_prune.plan.config import Pipeline
from distill_prune.plan.sweep import Swept
from distill_prune.recipe import PRESETS
from distill_prune.settings import Settings
from distill_prune.table import EntryModule, Table

Schema = JsonSchemaValue

REFERENCE = "#/definitions/{model}"


class _Generator(GenerateJsonSchema):
    """Without titles of fields, which would be their names once more."""

    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def schema() -> Schema:
    """The schema. Imports every entry of every table."""
    definitions: dict[str, Schema] = {}
    whole = _of(Pipeline, definitions)
    for kind, entry in {entry.table.kind: entry for entry in _entries(Pipeline)}.items():
        definitions[_name(kind)] = _union(entry, definitions)
    places, prune = whole["properties"], definitions["Prune"]
    places |= _of(Swept, definitions)["properties"]
    for name, what, more in (
        ("arms", "sources of masks by name", [{"type": "null"}]),
        ("distill", "synthetic sets by name", []),
    ):
        alternatives = [places[name]["additionalProperties"], *more, {"const": False}]
        places[name] |= {"additionalProperties": {"anyOf": alternatives}, "description": f"{what}; false leaves one out"}
    only = places["only"]["additionalProperties"]
    places["only"] |= {"additionalProperties": {"anyOf": [only, {"type": "null"}]}}
    places["compare"] = _analyses(definitions)
    prune["properties"]["criterion"]["default"] = {"name": "magnitude"}
    del prune["required"]  # the criterion, which has a default in files, as two sections have: see `parse`
    whole["required"] = [n for n in whole["required"] if n not in ("prune", "compare")]
    definitions["Recipe"]["properties"]["preset"] = {
        "enum": [*PRESETS, None],
        "description": "a named recipe, over whose fields those written here are laid",
    }
    definitions = {name: _resolved(part) for name, part in ({"whole": whole} | definitions).items()}
    partial = {f"partial_{name}": _lenient(part) for name, part in definitions.items()}
    for part in (definitions["whole"], partial["partial_whole"]):  # a task may take its path from `data`
        tasks = {"anyOf": [_reference(f"partial_{_name(DATASETS.kind)}"), {"const": False}]}
        part["properties"]["tasks"] |= {"additionalProperties": tasks}
    partial["partial_whole"]["properties"]["extends"] = {
        "type": "string",
        "description": "a pipeline file beside this one, or a shipped one, that this one is laid on",
    }
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "distill-prune pipeline",
        "type": "object",
        "if": {"required": ["extends"]},
        "then": _reference("partial_whole"),
        "else": _reference("whole"),
        "definitions": definitions | partial,
    }


def _name(kind: str) -> str:
    return kind.replace(" ", "_")


def _reference(name: str) -> Schema:
    return {"$ref": REFERENCE.format(model=name)}


def _of(model: type[Settings], definitions: dict[str, Schema]) -> Schema:
    """A settings model's schema; models inside it are added to `definitions`."""
    outer = model.model_json_schema(ref_template=REFERENCE, schema_generator=_Generator)
    for name, inner in outer.pop("$defs", {}).items():
        definitions.setdefault(name, inner)
    return outer


def _entries(kind: object) -> Iterator[EntryOf]:
    """What the fields of settings, or the parts of a type, say that they are entries of."""
    if isinstance(kind, EntryOf):
        yield kind
    elif isinstance(kind, type) and issubclass(kind, Settings):
        for field in kind.model_fields.values():
            yield from _entries(field.rebuild_annotation())
    else:
        for part in get_args(kind):
            yield from _entries(part)


def _union(entry: EntryOf, definitions: dict[str, Schema]) -> Schema:
    """One of the table's entries, told by its name."""
    entries = [_entry(entry.table, name, definitions) for name in entry.table]
    entries += [_of(other, definitions) for other in entry.others.values()]
    for settings in entries:
        settings["required"] = ["name", *settings.get("required", ())]
    return {"description": f"a {entry.table.kind}, by name", "anyOf": entries}


def _entry(table: Table[EntryModule], name: str, definitions: dict[str, Schema]) -> Schema:
    """An entry's settings, described by the first paragraph of its module and what the settings say themselves."""
    module = table[name]
    settings = _of(module.Settings, definitions)
    texts = (about(module), settings.get("description"))
    return settings | {"title": name, "description": "\n\n".join(text for text in texts if text)}


def about(module: EntryModule) -> str:
    """What an entry is: the first paragraph of its module."""
    return inspect.cleandoc(module.__doc__ or "").partition("\n\n")[0]


def _analyses(definitions: dict[str, Schema]) -> Schema:
    """Analyses stand under their own names; null leaves an inherited one out. The summary is always made."""
    entries = {
        n: {"anyOf": [_entry(ANALYSES, n, definitions), {"type": "null"}], "description": about(ANALYSES[n])}
        for n in ANALYSES
        if n != "summary"
    }
    return {"type": "object", "description": "analyses by name", "properties": entries, "additionalProperties": False}


def _resolved(part: Any) -> Any:
    """A copy in which a mark of an entry is a reference to the table's union."""
    if isinstance(part, list):
        return [_resolved(p) for p in part]
    if not isinstance(part, dict):
        return part
    if isinstance(kind := part.get("entry"), str):
        return {n: p for n, p in part.items() if n != "entry"} | _reference(_name(kind))
    fields = part.get("properties", {})
    return {k: _resolved(v) for k, v in part.items() if k not in ("properties", "later")} | (
        {"properties": {name: _resolved(v) for name, v in fields.items()}} if fields else {}
    )


def _lenient(part: Any) -> Any:
    """A copy in which nothing is required, and which refers to such copies."""
    if isinstance(part, list):
        return [_lenient(p) for p in part]
    if not isinstance(part, dict):
        return part
    if isinstance(target := part.get("$ref"), str):
        return {**part, **_reference("partial_" + target.removeprefix(REFERENCE.format(model="")))}
    return {k: _lenient(v) for k, v in part.items() if not (k == "required" and isinstance(v, list))}
