"""One pipeline file as many studies: every combination of values of some keys is a cell, and each cell is a study.

    sweep: {retrain.recipe.lr: [0.05, 0.1], model.width: [8, 16]}     four cells
    choose: validation                                                one of them is named, by validation accuracy alone

What cells have in common is made once, as it is of any two studies of one store.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, product
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from distill_prune.errors import ConfigError
from distill_prune.limits import CELLS
from distill_prune.plan.config import Pipeline, parse
from distill_prune.plan.files import Written, find_pipeline, overridden, read_file
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.plan.places import Locate, locator
from distill_prune.plan.validate import validated
from distill_prune.settings import Settings
from distill_prune.store.store import Store

Choice = Literal["none", "validation"]


class Swept(Settings):
    """The keys of a pipeline file that make it a sweep."""

    sweep: dict[str, Annotated[tuple[JsonValue, ...], Field(min_length=1)]] = Field(
        default_factory=dict, description="values by key, like {retrain.recipe.lr: [0.05, 0.1]}: a study for every combination"
    )
    choose: Choice = Field(
        "none",
        description="validation: name the cell in which the arm `versus` has the highest validation accuracy at the sparsest "
        "level; no test example is looked at",
    )


@dataclass(frozen=True)
class Cell:
    """One study of a sweep: its place, values by key, its settings, where they are written, and notes of what was narrowed."""

    place: Mapping[str, JsonValue]
    pipeline: Pipeline
    locate: Locate
    notes: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its place in words; empty of a file that is no sweep."""
        return ", ".join(self.assignments)

    @property
    def assignments(self) -> list[str]:
        """Its place as `--set` takes it."""
        return _assignments(self.place)


def _assignments(place: Mapping[str, JsonValue]) -> list[str]:
    return [f"{key}={json.dumps(value)}" for key, value in place.items()]


@dataclass(frozen=True)
class Cells:
    """The studies of a file, one with an empty place where it is no sweep, and how one of them is chosen."""

    each: Sequence[Cell]
    choose: Choice = "none"
    title: str = ""
    question: str = ""

    @property
    def is_sweep(self) -> bool:
        return bool(self.each[0].place)


def load_cells(name: str, assignments: Sequence[str] = ()) -> tuple[str, Cells]:
    """The pipeline's name and its cells.

    Raises:
        ConfigError: as for `load`; or a sweep that means nothing, or has too many cells.
    """
    path = find_pipeline(name)
    written = overridden(read_file(path), assignments)
    locate = locator(path.name, written.layers)
    given = {key: value for key, value in written.values.items() if key in Swept.model_fields}
    study = replace(written, values={key: value for key, value in written.values.items() if key not in given})
    swept = validated(Swept, given, (), locate)
    if not swept.sweep:
        if "choose" in given:
            raise ConfigError(
                f"'choose' in {locate(['choose'])} names a cell of a sweep, and there is none", fix="leave it out, or add sweep"
            )
        return path.stem, Cells([_cell(study, {}, path.name)])
    _check(swept, locate)
    places = [dict(zip(swept.sweep, values, strict=True)) for values in product(*swept.sweep.values())]
    cells = [_cell(study, place, path.name) for place in places]
    first = cells[0].pipeline
    return path.stem, Cells(cells, swept.choose, first.title or path.stem, first.question)


def _check(swept: Swept, locate: Locate) -> None:
    for a, b in combinations(swept.sweep, 2):
        if f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}."):
            raise ConfigError(f"'sweep' in {locate(['sweep'])}: '{a}' and '{b}' set the same value", fix="one of them alone")
    for key, values in swept.sweep.items():
        texts = [json.dumps(value) for value in values]
        if len({*texts}) < len(texts):
            raise ConfigError(f"'sweep.{key}' in {locate(['sweep', key])} has a value twice", got=", ".join(texts))
    count = 1
    for values in swept.sweep.values():
        count *= len(values)
    if count > CELLS:
        what = f"the sweep in {locate(['sweep'])} has too many cells"
        raise ConfigError(what, got=f"{count:,}", expected=f"at most {CELLS}", fix="several files")


def _cell(study: Written, place: Mapping[str, JsonValue], file: str) -> Cell:
    """The study with the values of a place laid on it."""
    values = _assignments(place)
    written = overridden(study, values, f"the cell {', '.join(values)}")
    locate = locator(file, written.layers)
    return Cell(place, parse(written.values, file, written.layers), locate, written.notes)


def build_cells(cells: Cells, store: Store) -> Graph:
    """One graph of all cells, which are its `cells`; of a file that is no sweep, its own graph.

    Raises:
        ConfigError: two cells are the same study.
    """
    graphs = [build(cell.pipeline, store, cell.locate) for cell in cells.each]
    if not cells.is_sweep:
        return graphs[0]
    by_summary: dict[str, Cell] = {}
    for cell, graph in zip(cells.each, graphs, strict=True):
        if (other := by_summary.setdefault(graph.summary, cell)) is not cell:
            keys = [key for key, value in cell.place.items() if other.place[key] != value]
            raise ConfigError(
                f"sweep: the cells {other.name} and {cell.name} are the same study: "
                f"{' and '.join(keys)} enter{'s' * (len(keys) == 1)} no artifact",
                fix="leave it out of the sweep",
            )
    return Graph.union({cell.name: graph for cell, graph in zip(cells.each, graphs, strict=True)})
