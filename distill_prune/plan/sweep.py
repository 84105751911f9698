"""One pipeline file as many studies: every combination of values of some keys is a cell, and each cell is a study.

    sweep: {retrain.recipe.lr: [0.05, 0.1], model.width: [8, 16]}     four cells
    choose: validation                                                one of them is named, by validation accuracy alone

What cells have in common is made once, as it is of any two studies of one store.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from distill_prune.errors import ConfigError
from distill_prune.limits import CELLS
from distill_prune.plan.config import Pipeline, parse
from distill_prune.plan.files import find_pipeline, override, read_raw
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
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
    """One study of a sweep: its place, values by key, and its settings."""

    place: Mapping[str, JsonValue]
    pipeline: Pipeline

    @property
    def name(self) -> str:
        """Its place in words; empty of a file that is no sweep."""
        return _name(self.place)


def _name(place: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"{key}={json.dumps(value)}" for key, value in place.items())


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
    file = path.name if not assignments else f"{path.name} (with --set)"
    raw = read_raw(path)
    override(raw, assignments)
    given = {key: raw.pop(key) for key in Swept.model_fields if key in raw}
    swept = validated(Swept, given, "", file)
    if not swept.sweep:
        if "choose" in given:
            raise ConfigError(f"choose in {file} names a cell of a sweep, and there is none", fix="leave it out, or add sweep")
        return path.stem, Cells([Cell({}, parse(raw, file))])
    _check(swept, file)
    places = [dict(zip(swept.sweep, values, strict=True)) for values in product(*swept.sweep.values())]
    cells = [Cell(place, _cell(raw, place, file)) for place in places]
    first = cells[0].pipeline
    return path.stem, Cells(cells, swept.choose, first.title or path.stem, first.question)


def _check(swept: Swept, file: str) -> None:
    for a, b in combinations(swept.sweep, 2):
        if f"{a}.".startswith(f"{b}.") or f"{b}.".startswith(f"{a}."):
            raise ConfigError(f"sweep in {file}: '{a}' and '{b}' set the same value", fix="one of them alone")
    for key, values in swept.sweep.items():
        texts = [json.dumps(value) for value in values]
        if len({*texts}) < len(texts):
            raise ConfigError(f"sweep.{key} in {file} has a value twice", got=", ".join(texts))
    count = 1
    for values in swept.sweep.values():
        count *= len(values)
    if count > CELLS:
        what = f"the sweep in {file} has too many cells"
        raise ConfigError(what, got=f"{count:,}", expected=f"at most {CELLS}", fix="several files")


def _cell(raw: Mapping[str, JsonValue], place: Mapping[str, JsonValue], file: str) -> Pipeline:
    values = copy.deepcopy(dict(raw))
    override(values, [f"{key}={json.dumps(value)}" for key, value in place.items()])
    return parse(values, f"{file}, in the cell {_name(place)}")


def build_cells(cells: Cells, store: Store) -> Graph:
    """One graph of all cells, which are its `cells`; of a file that is no sweep, its own graph.

    Raises:
        ConfigError: two cells are the same study.
    """
    graphs = [build(cell.pipeline, store) for cell in cells.each]
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
