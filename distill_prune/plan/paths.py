"""Where an artifact stands in a study: its path in the grid, by which people name it.

    data, data/TASK                         prepared data; those of a task
    expert/0                                a teacher
    set/NAME                                a synthetic set, or a real subset
    set/NAME/expert/0                       a teacher of the part of the real images that the set is distilled from
    set/NAME/ANALYSIS[/NETWORK]             a measurement of it; with another network
    ARM/SEED/LEVEL                          a ticket
    ARM/SEED/dense                          another draw of the initialisation, of a control
    ARM/SEED/LEVEL/copy0                    a retrained copy of it
    ARM/SEED/LEVEL/ANALYSIS                 a measurement of its copies, or of it and the ticket of the arm `versus`
    ARM/SEED/LEVEL/ANALYSIS/levels          a measurement of it and of the level before
    summary                                 the summary

Of several draws of the sets: set/NAME/DRAW and ARM/SEED/draw0/LEVEL. What several arms share, as level 0, has a path for each.
The study's name stands before, `digits/synthetic/0/3`, and that of the cell of a sweep:
`digits/retrain.recipe.lr=0.1/synthetic/0/3`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_prune.plan.roles import keys_of
from distill_prune.store.studies import part

if TYPE_CHECKING:
    from distill_prune.plan.nodes import Between, ChainKey, Graph

_CELL, _DRAW = "(?:[^/]+=[^/]*/)?", "(?:/draw([0-9]+))?"
_GRID = re.compile(rf"[^/]+/{_CELL}([^/]+)/([0-9]+){_DRAW}/(?:([0-9]+)(?:/copy([0-9]+))?|dense)(?:/.*)?")

Parts = tuple[object, ...]


@dataclass(frozen=True)
class Place:
    """The coordinates of a path that stands in the grid. The arm is written as a part of a path is."""

    arm: str
    seed: int
    draw: int | None
    level: int
    copy: int | None


def place(path: str) -> Place | None:
    """The coordinates of a path that begins with its study; None of what is not made for one ticket."""
    match = _GRID.fullmatch(path)
    if match is None:
        return None
    arm, *numbers = match.groups()
    seed, draw, level, copy = (None if number is None else int(number) for number in numbers)
    return Place(arm, seed or 0, draw, level or 0, copy)


def paths(graph: Graph) -> dict[str, str]:
    """The key of every path of the study, in the order of the grid; artifacts that it takes from the store among them."""
    if graph.cells:
        return {f"{part(cell)}/{path}": key for cell, study in graph.cells.items() for path, key in paths(study).items()}
    keys: dict[str, str] = {}
    for parts, key in (*_inputs(graph), *_grid(graph), *_measures(graph)):
        keys.setdefault("/".join(map(part, parts)), key)
    return keys


def _inputs(g: Graph) -> Iterator[tuple[Parts, str]]:
    """Data, teachers and sets."""
    yield ("data",), g.data
    for task, key in g.tasks.items():
        yield ("data", task), key
    of_parts: list[tuple[Parts, str]] = []
    for name, key in g.sets.items():
        inputs = g.nodes[key].inputs if key in g.nodes else {}
        scorers, experts = keys_of("scorer", inputs), keys_of("expert", inputs)
        yield from ((("expert", i), expert) for i, expert in enumerate(scorers or experts))
        of_parts += [((*_set(g, name), "expert", i), expert) for i, expert in enumerate(experts if scorers else ())]
    yield from of_parts
    for name, key in g.sets.items():
        yield _set(g, name), key


def _set(g: Graph, name: str) -> Parts:
    """The path of a set by its name, which has its draw behind a `/` where there are several."""
    bare, _, draw = name.rpartition("/")
    return ("set", bare, draw) if bare in g.pipeline.distill and draw in map(str, g.draws) else ("set", name)


def _grid(g: Graph) -> Iterator[tuple[Parts, str]]:
    """Tickets, their copies, and what is measured of them. A level that depends on no draw stands in none."""
    units = {(u.chain.key, u.level): u for u in g.units}
    betweens: dict[tuple[ChainKey, int], list[Between]] = {}
    for b in g.betweens:
        betweens.setdefault((b.unit.chain.key, b.unit.level), []).append(b)
    for chain, tickets in g.chains.items():
        for level, ticket in sorted(tickets.items()):
            arm, seed = chain[0], chain[1]
            of_all = (chain, level) not in units and ((arm, seed), level) in units
            where: ChainKey = (arm, seed) if of_all else chain
            before = (arm, seed, *(f"draw{draw}" for draw in where[2:]))
            at = (*before, level)
            yield at, ticket
            dense = g.nodes[ticket].inputs.get("dense")
            if dense is not None and dense != tickets[0]:
                yield (*before, "dense"), dense
            if unit := units.get((where, level)):
                yield from (((*at, f"copy{i}"), copy) for i, copy in enumerate(unit.copies))
                yield from (((*at, analysis), key) for analysis, key in unit.measured.items())
            for b in betweens.get((where, level), ()):
                yield (*at, b.analysis, *(("levels",) if b.kind == "levels" else ())), b.key


def _measures(g: Graph) -> Iterator[tuple[Parts, str]]:
    """Measurements of sets, and of everything."""
    for m in g.set_measures:
        yield (*_set(g, m.set), m.analysis, *((m.architecture,) if m.architecture else ())), m.key
    yield ("summary",), g.summary
