"""The reference of every setting, command and public name, made of the code: a hook of MkDocs, which gets it as pages.

mkdocs build            # makes the site, with these pages in it
python bench/site_reference.py settings      # prints one page: settings, commands or python
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import distill_prune as dp  # noqa: E402

Schema = Mapping[str, Any]
SECTIONS = {
    "whole": "The file",
    "Experts": "Experts",
    "Prune": "Prune",
    "Rewind": "Rewind",
    "Kept": "Kept",
    "Arm": "Arm",
    "ControlOf": "Control",
    "Begin": "Begin",
    "Retrain": "Retrain",
    "Recipe": "Recipe",
    "Only": "Only",
}
"""Titles of the parts of a pipeline file."""
TABLES = {
    "data_set": "Data sets",
    "model": "Networks",
    "distillation_method": "Distillation methods",
    "pruning_criterion": "Pruning criteria",
}
"""Titles of what is chosen by name."""
BOUNDS = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}


def settings() -> str:
    """Every setting of a pipeline file, of the JSON schema that `distill-prune schema` prints."""
    from distill_prune.plan.catalog import entries, settings_of
    from distill_prune.plan.schema import schema

    parts: dict[str, Schema] = schema()["definitions"]
    lines = [
        "# Settings",
        "",
        "Every key of a pipeline file, with its default. `--set a.b=c` sets the same keys. `distill-prune entries NAME` prints "
        "those of one entry, and `distill-prune schema` the JSON schema, with which editors complete and check files.",
    ]
    for name, title in SECTIONS.items():
        lines += ["", f"## {title}", "", paragraph(parts[name].get("description", "")), "", *table(parts[name], parts)]
    for name, title in TABLES.items():
        lines += ["", f"## {title}"]
        for entry in parts[name]["anyOf"]:
            lines += described(entry["properties"]["name"].get("const", entry["title"]), entry, parts)
    lines += ["", "## Analyses"]
    for name, entry in parts["whole"]["properties"]["compare"]["properties"].items():
        lines += described(name, entry["anyOf"][0], parts)
    lines += ["", "## Formats", "", "Of `import` and `export`; their settings are given by `--set`."]
    for line in (line for line in entries() if line.kind == "format"):
        fields = next(fields for chosen, fields in settings_of(line.name) if chosen.kind == "format")
        rows = [(f.name, "", f.default, f.about) for f in fields]
        lines += ["", f"### {line.name}", "", f"{line.about}.", "", *grid(rows)]
    for kind, title in (("recipe preset", "Recipe presets"), ("augmentation", "Augmentations")):
        about_names = [(line.name, line.about) for line in entries() if line.kind == kind]
        lines += [
            "",
            f"## {title}",
            "",
            "| name | what |",
            "|---|---|",
            *(f"| `{name}` | {cell(about)} |" for name, about in about_names),
        ]
    return "\n".join(lines) + "\n"


def described(name: str, entry: Schema, parts: Mapping[str, Schema]) -> list[str]:
    """An entry: what it is, and its settings."""
    return ["", f"### {name}", "", paragraph(entry.get("description", "")), "", *table(entry, parts)]


def table(part: Schema, parts: Mapping[str, Schema]) -> list[str]:
    """The settings of a part of the schema, one a row."""
    needed = part.get("required", ())

    def default(name: str, field: Schema) -> str:
        if name in needed:
            return "required"
        return written(field["default"], parts.get(field.get("$ref", "").rpartition("/")[2], {})) if "default" in field else ""

    fields = {name: field for name, field in part["properties"].items() if name != "name"}
    return grid([(name, kind(field), default(name, field), field.get("description", "")) for name, field in fields.items()])


def grid(rows: Sequence[tuple[str, str, str, str]]) -> list[str]:
    if not rows:
        return ["It has no settings."]
    lines = [f"| `{name}` | {cell(of)} | {code(default)} | {cell(about)} |" for name, of, default, about in rows]
    return ["| setting | type | default | meaning |", "|---|---|---|---|", *lines]


def kind(field: Schema) -> str:
    """A setting's type in words, with links to the section of a part."""
    if reference := field.get("$ref"):
        name = reference.rpartition("/")[2]
        title = {**SECTIONS, **TABLES}.get(name, "")
        return f"[{title}](#{title.lower().replace(' ', '-')})" if title else "any value"
    if choices := field.get("anyOf"):
        return " or ".join(dict.fromkeys(kind(choice) for choice in choices))
    if "const" in field:
        return written(field["const"])
    if values := field.get("enum"):
        return ", ".join(written(value) for value in values)
    bounds = " and".join(f" {sign} {field[name]}" for name, sign in BOUNDS.items() if name in field)
    of = field.get("type", "any value")
    if of == "array":
        items = field.get("items") or {"anyOf": field["prefixItems"]} if "prefixItems" in field else field.get("items", {})
        fewest = f" (at least {field['minItems']})" if "minItems" in field else ""
        return f"list{fewest} of {kind(items)}"
    if of == "object" and isinstance(values := field.get("additionalProperties"), Mapping):
        return f"names with {kind(values)}"
    return f"{of}{bounds}"


def written(value: object, part: Schema | None = None) -> str:
    """A value as YAML has it: a duration as 20ep, settings of a `part` without those that have the part's own defaults."""
    if isinstance(value, Mapping):
        if value.keys() == {"count", "unit"}:
            return f"{value['count']}{value['unit']}"
        usual = (part or {}).get("properties", {})
        changed = {k: v for k, v in value.items() if "default" not in usual.get(k, {}) or usual[k]["default"] != v}
        return f"{{{', '.join(f'{k}: {written(v)}' for k, v in changed.items())}}}"
    if isinstance(value, str) and value:
        return value
    return json.dumps(value, ensure_ascii=False)


def cell(text: str) -> str:
    """Text in a cell of a table; what looks like HTML or a column is escaped."""
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def code(text: str) -> str:
    return f"`{cell(text)}`".replace("&lt;", "<") if text and text != "required" else text


def paragraph(text: str) -> str:
    """A docstring up to what it says of single settings: its lists stand apart, what looks like HTML is escaped."""
    return re.sub(r"\n(?=- )", "\n\n", text.partition("\n\nAttributes:")[0], count=1).replace("<", "&lt;")


def commands() -> str:
    """Every command with its help."""
    import typer

    from distill_prune.cli.application import app

    group = typer.main.get_command(app)
    context = typer.Context(
        group, info_name="distill-prune", max_content_width=100, terminal_width=100, help_option_names=["-h", "--help"]
    )
    names = group.list_commands(context)  # type: ignore[attr-defined]
    lines = ["# Commands", "", "`distill-prune COMMAND --help` prints the same.", "", "```text", group.get_help(context), "```"]
    for name in names:
        command = group.get_command(context, name)  # type: ignore[attr-defined]
        inner = typer.Context(command, info_name=name, parent=context, max_content_width=100, terminal_width=100)
        lines += ["", f"## {name}", "", "```text", command.get_help(inner), "```"]
    return "\n".join(lines) + "\n"


def groups() -> Iterator[tuple[str, list[str]]]:
    """The public names by what they are for, as `__all__` lists them under its comments."""
    text = Path(dp.__file__).read_text(encoding="utf-8").partition("__all__ = [")[2].partition("\n]")[0]
    for part in text.split("\n    # ")[1:]:
        title, _, names = part.partition("\n")
        yield title, re.findall(r'"(\w+)"', names)


def python() -> str:
    """Every public name, whose docstring mkdocstrings lays out."""
    lines = ["# Python", "", "The names of `import distill_prune as dp`. [The Python API](../api.md) shows how they are used."]
    for title, names in groups():
        lines += ["", f"## {title[0].upper()}{title[1:]}"]
        lines += [line for name in names for line in ("", f"::: distill_prune.{dp._PUBLIC[name]}.{name}")]
    return "\n".join(lines) + "\n"


PAGES = {"settings": settings, "commands": commands, "python": python}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Called by MkDocs once it has its files."""
    from mkdocs.structure.files import File

    for name, page in PAGES.items():
        files.append(File.generated(config, f"reference/{name}.md", content=page()))
    return files


if __name__ == "__main__":
    print(PAGES[sys.argv[1]](), end="")
