"""The command `ls`: what lies in a store, and what of a pipeline does not."""

from __future__ import annotations

import json as json_
import re
import sys
import textwrap
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from distill_prune.cli import completion
from distill_prune.cli.columns import Column, table, width
from distill_prune.cli.options import AsJson, Sets, StoreDir, app, open_graph, open_store
from distill_prune.errors import ConfigError, UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from distill_prune.store.store import Store
    from distill_prune.study.browse import Artifact, Group

MANY = 60
"""Artifacts that a terminal lists one by one without --all."""
_AGO = re.compile(r"([0-9]{1,6})(min|h|d|w)")
_UNITS = {"min": "minutes", "h": "hours", "d": "days", "w": "weeks"}


@app.command()
def ls(
    stage: Annotated[
        str | None,
        typer.Argument(
            metavar="STAGE", help="data, experts, distill, prune, retrain or compare", autocompletion=completion.stages
        ),
    ] = None,
    arm: Annotated[str | None, typer.Option("--arm", metavar="NAME", help="of this arm alone")] = None,
    seed: Annotated[int | None, typer.Option("--seed", metavar="N", help="of this seed alone")] = None,
    draw: Annotated[int | None, typer.Option("--draw", metavar="N", help="of this draw of the sets alone")] = None,
    level: Annotated[int | None, typer.Option("--level", metavar="N", help="of this level alone")] = None,
    copy: Annotated[int | None, typer.Option("--copy", metavar="N", help="this retrained copy of each ticket alone")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="made since then: 30min, 2h, 2d, 1w or 2026-11-01")
    ] = None,
    missing: Annotated[
        str | None, typer.Option("--missing", metavar="PIPELINE", help="what this pipeline makes and the store lacks")
    ] = None,
    sets: Sets = None,
    every: Annotated[
        bool, typer.Option("--all", help=f"in a terminal, list each artifact where there are more than {MANY}")
    ] = False,
    folder: StoreDir = None,
    json: AsJson = False,
) -> None:
    """List the artifacts of the store in the order of the grid. A path is a reference: `distill-prune show digits/data`.

    In a terminal, a long list is added up by stage and arm; in a pipe it never is.

    Example:  distill-prune ls prune --arm synthetic --seed 0
    """
    from distill_prune.errors import nearest
    from distill_prune.store.store import STAGES
    from distill_prune.store.studies import part, paths_by_key
    from distill_prune.study.browse import Choice, arms_of, artifacts, chosen, records

    store = open_store(folder)
    if stage is not None and stage not in STAGES:
        raise ConfigError(f"unknown stage '{stage}'", expected=nearest(stage, STAGES))
    if missing is None and sets:
        raise UserError("--set goes with --missing", fix="--missing PIPELINE")
    if missing is not None and since is not None:
        raise UserError("--since is about what was made, and --missing lists what was not", fix="one of the two")
    choice = Choice(stage, arm, seed, draw, level, copy, None if since is None else _moment(since))
    if missing is None:
        paths, unusable = paths_by_key(store.root)
        everything = artifacts(store, paths)
        for path, why in unusable.items():
            print(f"note: '{path}' cannot be used ({why}); run its pipeline again, or remove it by `gc`", file=sys.stderr)
    else:
        everything = _lacking(missing, sets, store)
    listed = chosen(everything, choice)
    if arm is not None and not listed and (arms := arms_of(everything)) and part(arm) not in arms:
        print(f"note: no arm '{arm}' here; {nearest(arm, arms)}", file=sys.stderr)
    if json:
        print(json_.dumps({"artifacts": [*records(listed)]}))
        return
    for line in _lines(listed, every, missing is not None):
        print(line)
    print(_total(listed, store, missing))
    if choice.by_place and (unknown := sum(not a.paths for a in everything)):
        print(f"{unknown:,} artifacts of no known study are left out: a run of their pipeline gives them paths")


def _moment(text: str) -> datetime:
    """The time that --since means.

    Raises:
        UserError: it means none.
    """
    try:
        if match := _AGO.fullmatch(text):
            return datetime.now().astimezone() - timedelta(**{_UNITS[match[2]]: int(match[1])})
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError) as problem:
        raise UserError("--since is no time", got=repr(text), expected="30min, 2h, 2d, 1w, or a date, 2026-11-01") from problem


def _lacking(pipeline: str, sets: list[str] | None, store: Store) -> list[Artifact]:
    """What a pipeline makes and the store does not have, in the order of the grid."""
    from distill_prune.store.store import STAGES
    from distill_prune.store.studies import name_of
    from distill_prune.study.browse import Artifact
    from distill_prune.study.shelf import full_paths, origin_of

    name, graph = open_graph(pipeline, sets, store)
    study = name_of(store.root, name, origin_of(pipeline, sets or (), store), reports=True)
    lacking = [
        Artifact(graph.nodes[key].stage, key, graph.nodes[key].label, paths=tuple(paths))
        for key, paths in full_paths(study, graph).items()
        if key in graph.nodes and not store.has(graph.nodes[key].stage, key)
    ]
    return sorted(lacking, key=lambda a: STAGES.index(a.stage))


def _lines(listed: Sequence[Artifact], every: bool, lacking: bool) -> list[str]:
    from distill_prune.study.browse import groups

    room = width()
    if not listed:
        return []
    if room is not None and len(listed) > MANY and not every:
        narrower = textwrap.wrap("one by one: --all, a STAGE, --arm, --seed, --draw, --level, --copy or --since", room)
        return [*_summary(groups(listed), room), "", *narrower, ""]
    from distill_prune.terminal import moment, size

    heads = (
        Column("stage"),
        Column("path", shrinks=16),
        Column("key"),
        Column("size", right=True, last=1),
        Column("made", last=2),
        Column("label", last=3),
        Column("names", shrinks=12),
    )
    rows = [
        (
            a.stage,
            a.paths[0] if a.paths else f"({a.label})" if room is not None and not a.problem else "",
            a.key[:12],
            "" if lacking or a.problem else size(a.bytes),
            moment(a.created),
            "" if a.problem else a.label,
            _note(a),
        )
        for a in listed
    ]
    return table(heads, rows, room)


def _note(a: Artifact) -> str:
    return "  ".join(part for part in (a.problem, f"[{', '.join(a.names)}]" if a.names else "") if part)


def _summary(added: Sequence[Group], room: int) -> list[str]:
    from distill_prune.terminal import moment, size

    heads = (
        Column("stage"),
        Column("of", shrinks=16),
        Column("artifacts", right=True),
        Column("size", right=True),
        Column("newest", last=1),
        Column("problems"),
    )
    rows = [
        (
            group.stage,
            group.name or "(no known study)",
            f"{group.count:,}",
            size(group.bytes) if group.bytes else "",
            moment(group.newest),
            f"{group.problems} damaged or unreadable" if group.problems else "",
        )
        for group in added
    ]
    return table(heads, rows, room)


def _total(listed: Sequence[Artifact], store: Store, missing: str | None) -> str:
    from distill_prune.terminal import size

    count = f"{len(listed):,} artifact{'s' * (len(listed) != 1)}"
    if missing is not None:
        return f"{count} of {missing} {'is' if len(listed) == 1 else 'are'} missing from {store.root}"
    return f"{count}, {size(sum(a.bytes for a in listed))} in {store.root}"
