"""Commands that list what there is to choose from."""

from __future__ import annotations

import json as json_
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from distill_prune.cli.options import AsJson, app
from distill_prune.terminal import columns

if TYPE_CHECKING:
    from distill_prune.plan.catalog import Line, Setting


@app.command()
def pipelines(json: AsJson = False) -> None:
    """List the pipelines that ship with the package.

    Example:  distill-prune pipelines
    """
    from distill_prune.plan.catalog import pipelines as shipped

    lines = shipped()
    if json:
        print(json_.dumps({"pipelines": [{"name": line.name, "title": line.about} for line in lines]}))
        return
    _print((line.name, line.about) for line in lines)
    print("\nplan NAME says what one makes and what that takes")


@app.command()
def entries(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="an entry, or `recipe`: its settings [default: all entries]")
    ] = None,
    json: AsJson = False,
) -> None:
    """List data sets, networks, methods, criteria, analyses, formats, presets and augmentations; or one's settings.

    Example:  distill-prune entries convnet
    """
    from distill_prune.plan.catalog import entries as every
    from distill_prune.plan.catalog import settings_of

    if name is not None:
        _settings(settings_of(name), json)
        return
    lines = every()
    if json:
        print(json_.dumps({"entries": [asdict(line) for line in lines]}))
        return
    for kind in dict.fromkeys(line.kind for line in lines):
        print(f"{kind}")
        _print((f"  {line.name}", line.about) for line in lines if line.kind == kind)
    print("\nentries NAME lists the settings of one")


def _settings(chosen: Sequence[tuple[Line, Sequence[Setting]]], json: bool) -> None:
    if json:
        print(json_.dumps({"entries": [{**asdict(line), "settings": [*map(asdict, fields)]} for line, fields in chosen]}))
        return
    for line, fields in chosen:
        print(f"{line.kind} {line.name}")
        print(textwrap.fill(line.about, columns(), initial_indent="  ", subsequent_indent="  "))
        _print((f"  {f.name}: {f.default or '(must be given)'}", f.about) for f in fields)


def _print(rows: Iterable[tuple[str, str]]) -> None:
    """Two columns, the second one wrapped."""
    listed, width = [*rows], columns()
    first = min(max((len(name) for name, _ in listed), default=0), width // 2)
    for name, text in listed:
        lines = textwrap.wrap(text, width - first - 2) or [""]
        if len(name) > first:
            print(name)
            name = ""
        print(f"{name:{first}}  {lines[0]}".rstrip())
        for line in lines[1:]:
            print(f"{'':{first}}  {line}")
