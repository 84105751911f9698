"""The schema of pipeline files says what `parse` says: every shipped file passes, and what is refused there is refused here."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny
from tiny import Cli

from distill_prune.analyze import ANALYSES
from distill_prune.data import DATASETS
from distill_prune.distill import METHODS
from distill_prune.errors import ConfigError
from distill_prune.models import MODELS
from distill_prune.plan.config import Pipeline, parse
from distill_prune.plan.files import find_pipeline, read_raw
from distill_prune.plan.plain import parse_yaml
from distill_prune.plan.schema import schema
from distill_prune.plan.sweep import Swept
from distill_prune.prune import CRITERIA
from distill_prune.recipe import PRESETS
from distill_prune.table import Table

SCHEMA = schema()
TYPES: dict[str, Any] = {
    "object": dict, "array": list | tuple, "string": str, "integer": int, "number": int | float, "boolean": bool,
    "null": type(None),
}  # fmt: skip
KNOWN = {
    "$schema", "$ref", "title", "description", "default", "definitions", "type", "properties", "additionalProperties",
    "required", "anyOf", "items", "enum", "const", "pattern", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "minItems", "minProperties", "minLength", "if", "then", "else",
}  # fmt: skip


def complaints(value: Any, part: dict[str, Any], place: str = "") -> Iterator[str]:
    """A small checker of JSON schemas, of as much as the schema uses."""
    assert set(part) <= KNOWN, set(part) - KNOWN
    if "$ref" in part:  # in draft 7 everything beside it is ignored
        yield from complaints(value, SCHEMA["definitions"][part["$ref"].removeprefix("#/definitions/")], place)
        return
    if "if" in part:
        yield from complaints(value, part["else" if any(complaints(value, part["if"])) else "then"], place)
    if "type" in part and (
        not isinstance(value, TYPES[part["type"]]) or (isinstance(value, bool) and part["type"] != "boolean")
    ):
        yield f"{place}: {value!r} is no {part['type']}"
        return
    if "anyOf" in part and all(any(complaints(value, p, place)) for p in part["anyOf"]):
        yield f"{place}: {value!r} is none of them"
    if "const" in part and value != part["const"]:
        yield f"{place}: {value!r} is not {part['const']!r}"
    if "enum" in part and value not in part["enum"]:
        yield f"{place}: {value!r} is not in {part['enum']!r}"
    if isinstance(value, str) and not re.search(part.get("pattern", ""), value):
        yield f"{place}: {value!r} does not match"
    if isinstance(value, int | float) and not (
        part.get("minimum", value) <= value <= part.get("maximum", value)
        and part.get("exclusiveMinimum", -1e999) < value < part.get("exclusiveMaximum", 1e999)
    ):
        yield f"{place}: {value!r} is out of bounds"
    if isinstance(value, list | tuple):
        if len(value) < part.get("minItems", 0):
            yield f"{place}: too short"
        for i, item in enumerate(value):
            yield from complaints(item, part.get("items", {}), f"{place}.{i}")
    if isinstance(value, dict):
        if len(value) < part.get("minProperties", 0):
            yield f"{place}: too few"
        yield from (f"{place}.{n} is missing" for n in part.get("required", ()) if n not in value)
        own, more = part.get("properties", {}), part.get("additionalProperties", {})
        for name, item in value.items():
            if name in own or more:
                yield from complaints(item, own.get(name, {} if more is True else more), f"{place}.{name}")
            elif more is False:
                yield f"{place}.{name} is unknown"


def wrong(value: Any) -> list[str]:
    return list(complaints(value, SCHEMA))


SHIPPED = sorted((Path(__file__).parent.parent / "pipelines").glob("*.yaml"))


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.name)
def test_shipped_pipelines_pass(path: Path) -> None:
    assert wrong(parse_yaml(path.read_text(encoding="utf-8"))) == []  # as an editor sees it
    assert wrong(read_raw(find_pipeline(path.name))) == []  # with what it extends


def changed(**values: Any) -> dict[str, Any]:
    """The tiny pipeline with values by place, `arms__real__recipe=...`; `...` takes one out."""
    raw = tiny.raw()
    for place, value in values.items():
        *path, last = place.split("__")
        node = raw
        for part in path:
            node = node[part]
        if value is ...:
            del node[last]
        else:
            node[last] = value
    return raw


GOOD = {
    "as it is": changed(),
    "an arm of nothing": changed(arms__real=None),
    "no analysis": changed(compare__curvature=None),
    "no comparison": changed(compare=...),
    "no pruning section": changed(prune=...),
    "a criterion": changed(prune__criterion={"name": "random", "scope": "layer"}),
    "an arm's criterion": changed(arms__random={"criterion": {"name": "magnitude"}}),
    "no criterion": changed(arms__real={"criterion": None}),
    "teachers": changed(experts__model={"name": "lenet"}),
    "no teachers": changed(experts__model=None),
    "a stored set": changed(distill__subset={"name": "stored", "ref": "abcd", "other_data": True}),
    "a preset": changed(retrain__recipe={"preset": "idc", "length": "2ep"}),
    "null": changed(levels=None),
    "whole numbers": changed(retrain__recipe__lr=1),
    "data": changed(data={"name": "npz", "path": "x", "rows": 10}),
    "other networks": changed(architectures={"small": {"name": "lenet"}}),
}
BAD = {
    "unknown section": (changed(zeal=1), ".zeal is unknown"),
    "unknown key": (changed(retrain__copis=2), ".retrain.copis is unknown"),
    "unknown key of a recipe": (changed(retrain__recipe__rate=2), ".retrain.recipe.rate is unknown"),
    "unknown analysis": (changed(compare__accurracy={}), ".compare.accurracy is unknown"),
    "summary": (changed(compare__summary={}), ".compare.summary is unknown"),
    "unknown model": (changed(model__name="convnt"), ".model: "),
    "another model's key": (changed(model={"name": "lenet", "depth": 3}), ".model: "),
    "a model without name": (changed(model={"width": 3}), ".model: "),
    "data without path": (changed(data={"name": "npz"}), ".data: "),
    "a set that is no method": (changed(distill__subset={"name": "magnitude"}), ".distill.subset: "),
    "a stored set of nothing": (changed(distill__subset={"name": "stored"}), ".distill.subset: "),
    "a criterion that is a method": (changed(prune__criterion={"name": "subset"}), ".prune.criterion: "),
    "no duration": (changed(retrain__recipe__length=100), ".retrain.recipe.length: 100 is no string"),
    "a duration in hours": (changed(retrain__recipe__length="2h"), ".retrain.recipe.length: '2h' does not match"),
    "unknown preset": (changed(retrain__recipe={"preset": "idk"}), ".retrain.recipe.preset: "),
    "a rate above 1": (changed(prune__rate=1.5), ".prune.rate: 1.5 is out of bounds"),
    "no seeds": (changed(seeds=[]), ".seeds: too short"),
    "no arms": (changed(arms={}), ".arms: too few"),
    "no retraining": (changed(retrain=...), ".retrain is missing"),
    "no recipe": (changed(retrain__recipe=...), ".retrain.recipe is missing"),
    "a section of nothing": (changed(retrain=None), ".retrain: None is no object"),
    "a list of analyses": (changed(compare=["accuracy"]), ".compare: "),
}


@pytest.mark.parametrize("kind", GOOD)
def test_what_is_read_passes(kind: str) -> None:
    parse(copy.deepcopy(GOOD[kind]), "tiny.yaml")
    assert wrong(GOOD[kind]) == []


@pytest.mark.parametrize("kind", BAD)
def test_what_is_refused_fails(kind: str) -> None:
    raw, said = BAD[kind]
    with pytest.raises(ConfigError):
        parse(copy.deepcopy(raw), "tiny.yaml")
    assert any(c.startswith(said) for c in wrong(raw)), wrong(raw)


def test_a_file_that_extends_another_may_leave_out_anything() -> None:
    assert wrong({"extends": "digits.yaml"}) == []
    assert wrong({"extends": "digits.yaml", "distill": {"synthetic": {"ipc": 2}}, "retrain": {"recipe": {"lr": 0.1}}}) == []
    assert wrong({"extends": "digits.yaml", "data": {"name": "npz"}, "arms": {"real": None}, "model": {"width": 4}}) == []
    assert wrong({"extends": "digits.yaml", "distill": {"synthetic": {"ipcs": 2}}})[0].startswith(".distill.synthetic: ")
    assert wrong({"extends": "digits.yaml", "zeal": 1}) == [".zeal is unknown"]
    assert wrong({"extends": 3})[0].startswith(".extends: 3 is no string")
    assert wrong({"distill": {"synthetic": {"ipc": 2}}}) != []


@pytest.mark.parametrize("table", [DATASETS, MODELS, METHODS, CRITERIA, ANALYSES], ids=lambda t: t.kind)
@pytest.mark.parametrize("part", ["", "partial_"])
def test_every_entry_is_there_with_its_fields_and_a_description(table: Table, part: str) -> None:
    if table is ANALYSES:
        held = SCHEMA["definitions"][f"{part}whole"]["properties"]["compare"]["properties"]
        entries = {name: found["anyOf"][0] for name, found in held.items()}
        assert set(entries) == set(table) - {"summary"}
    else:
        found = SCHEMA["definitions"][part + table.kind.replace(" ", "_")]["anyOf"]
        entries = {e["properties"]["name"]["const"]: e for e in found}
        assert set(entries) == set(table) | ({"stored"} if table is METHODS else set())
    for name in table:
        if name in entries:
            assert set(entries[name]["properties"]) == set(table[name].Settings.model_fields)
            first = (table[name].__doc__ or "").strip().splitlines()[0]
            assert first and entries[name]["description"].startswith(first) and entries[name]["title"] == name
            for field, info in table[name].Settings.model_fields.items():
                assert info.description is None or info.description in json.dumps(entries[name]["properties"][field])


def test_every_section_is_there() -> None:
    assert set(SCHEMA["definitions"]["whole"]["properties"]) == {*Pipeline.model_fields, *Swept.model_fields}
    assert set(SCHEMA["definitions"]["partial_whole"]["properties"]) == {*Pipeline.model_fields, *Swept.model_fields, "extends"}
    assert set(SCHEMA["definitions"]["Recipe"]["properties"]["preset"]["enum"]) == {*PRESETS, None}


def undescribed(part: Any, place: str = "") -> Iterator[str]:
    """The places of properties that nothing is said of."""
    for name, below in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
        yield from undescribed(below, f"{place}.{name}")
    for name, below in part.get("properties", {}).items() if isinstance(part, dict) else ():
        if isinstance(below, dict) and name != "name" and not below.get("description") and "definitions" not in below:
            yield f"{place}.{name}"


def test_every_setting_is_described() -> None:
    lacking = [*undescribed(SCHEMA)]
    assert lacking == []


def test_nothing_refers_to_nothing() -> None:
    text = json.dumps(SCHEMA)
    found = set(re.findall(r'"\$ref": "([^"]+)"', text))
    assert found <= {f"#/definitions/{n}" for n in SCHEMA["definitions"]} and not re.search(r"[ %]", "".join(found))
    assert "/Entry" not in text and "$defs" not in text and '"required": []' not in text
    whole = {n for n in SCHEMA["definitions"] if not n.startswith("partial_")}
    assert len(SCHEMA["definitions"]) == 2 * len(whole)


def test_a_plugin_s_entry_is_in_the_schema(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MODELS._entries, "mine", "distill_prune.models.lenet")
    entries = schema()["definitions"]["model"]["anyOf"]
    assert [e["title"] for e in entries if "title" in e].count("mine") == 1


def test_the_command(cli: Cli) -> None:
    done = cli("schema")
    assert done.code == 0 and json.loads(done.out) == SCHEMA and done.err == ""
    assert json.loads(done.out)["$schema"] == "http://json-schema.org/draft-07/schema#"
