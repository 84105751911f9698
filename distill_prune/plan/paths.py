"""Where an artifact stands in a study: its path in the grid, by which people name it.

    data, data/TASK                   prepared data; those of a task
    expert/0                          a teacher
    set/NAME                          a synthetic set, or a real subset
    set/NAME/ANALYSIS[/NETWORK]       a measurement of it, with another network
    ARM/SEED/LEVEL                    a ticket
    ARM/SEED/dense                    another draw of the initialisation, of a control
    ARM/SEED/LEVEL/copy0              a retrained copy of it
    ARM/SEED/LEVEL/ANALYSIS           a measurement of its copies, or of it and the ticket of the arm `versus`
    ARM/SEED/LEVEL/ANALYSIS/levels    a measurement of it and of the level before
    summary                           the summary

What several arms share, as level 0, has a path for each. The study's name stands before: `digits/synthetic/0/3`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_prune.plan.roles import keys_of
from distill_prune.store.studies import part

if TYPE_CHECKING:
    from distill_prune.plan.nodes import Between, Graph, Unit

_GRID = re.compile(r"[^/]+/([^/]+)/([0-9]+)/(?:([0-9]+)(?:/copy([0-9]+))?|dense)(?:/.*)?")


@dataclass(frozen=True)
class Place:
    """The coordinates of a path that stands in the grid. The arm is written as a part of a path is."""

    arm: str
    seed: int
    level: int
    copy: int | None


def place(path: str) -> Place | None:
    """The coordinates of a path that begins with its study; None of what is not made for one ticket."""
    match = _GRID.fullmatch(path)
    if match is None:
        return None
    arm, seed, level, copy = match.groups()
    return Place(arm, int(seed), int(level or 0), None if copy is None else int(copy))


def paths(graph: Graph) -> dict[str, str]:
    """The key of every path of the study, in the order of the grid; artifacts that it takes from the store among them."""
    keys: dict[str, str] = {}
    for parts, key in _all(graph):
        keys.setdefault("/".join(map(part, parts)), key)
    return keys


def _all(g: Graph) -> Iterator[tuple[tuple[object, ...], str]]:
    yield ("data",), g.data
    for task, key in g.tasks.items():
        yield ("data", task), key
    for key in g.sets.values():
        for i, expert in enumerate(keys_of("expert", g.nodes[key].inputs) if key in g.nodes else ()):
            yield ("expert", i), expert
    for name, key in g.sets.items():
        yield ("set", name), key
    units = {(u.arm, u.seed, u.level): u for u in g.units}
    betweens: dict[tuple[str, int, int], list[Between]] = {}
    for b in g.betweens:
        betweens.setdefault((b.unit.arm, b.unit.seed, b.unit.level), []).append(b)
    for (arm, seed), chain in g.chains.items():
        for level, ticket in sorted(chain.items()):
            at = (arm, seed, level)
            yield at, ticket
            dense = g.nodes[ticket].inputs.get("dense") if ticket in g.nodes else None
            if dense is not None and dense != chain[0]:
                yield (arm, seed, "dense"), dense
            yield from _of_unit(units[at]) if at in units else ()
            for b in betweens.get(at, ()):
                yield (*at, b.analysis, *(("levels",) if b.kind == "levels" else ())), b.key
    for m in g.set_measures:
        yield ("set", m.set, m.analysis, *((m.architecture,) if m.architecture else ())), m.key
    yield ("summary",), g.summary


def _of_unit(unit: Unit) -> Iterator[tuple[tuple[object, ...], str]]:
    at = (unit.arm, unit.seed, unit.level)
    for i, copy in enumerate(unit.copies):
        yield (*at, f"copy{i}"), copy
    for analysis, key in unit.measured.items():
        yield (*at, analysis), key
