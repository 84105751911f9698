"""Sweeps: one file as many studies, planned and made as one graph."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny
import yaml

from distill_prune.errors import ConfigError
from distill_prune.limits import CELLS
from distill_prune.plan.config import load
from distill_prune.plan.graph import build
from distill_prune.plan.sweep import build_cells, load_cells
from distill_prune.store.store import Store

TWO = {"retrain.recipe.lr": [0.1, 0.2], "model.width": [4, 6]}


@pytest.fixture
def swept(tmp_path: Path) -> str:
    path = tmp_path / "swept.yaml"
    path.write_text(yaml.safe_dump({**tiny.raw(), "sweep": TWO}, sort_keys=False), encoding="utf-8")
    return str(path)


def test_each_cell_is_the_study_of_its_values(swept: str) -> None:
    name, cells = load_cells(swept)
    assert (name, len(cells.each), cells.choose, cells.title) == ("swept", 4, "none", "tiny")
    assert [c.name for c in cells.each][:2] == ["retrain.recipe.lr=0.1, model.width=4", "retrain.recipe.lr=0.1, model.width=6"]
    graph = build_cells(cells, Store("/nonexistent"))
    assert [*graph.cells] == [c.name for c in cells.each]
    for cell in cells.each:
        width, lr = cell.place["model.width"], cell.place["retrain.recipe.lr"]
        alone = build(tiny.pipeline(f"retrain.recipe.lr={lr}", f"model.width={width}"), Store("/nonexistent"))
        assert graph.cells[cell.name].nodes.keys() == alone.nodes.keys()
    assert graph.nodes.keys() == {key for cell in graph.cells.values() for key in cell.nodes}
    # Experts and sets depend on the width, and not on how tickets are retrained.
    assert sum(node.stage == "distill" for node in graph.nodes.values()) == 3
    assert {graph.cells[c].summary for c in graph.cells} <= set(graph.goals("compare"))


def test_a_file_without_a_sweep_is_one_study(file: str) -> None:
    name, cells = load_cells(file)
    graph = build_cells(cells, Store("/nonexistent"))
    assert name == "tiny" and not graph.cells and graph.nodes.keys() == build(load(file)[1], Store("/nonexistent")).nodes.keys()


def test_a_sweep_can_be_given_and_taken_away(file: str, swept: str) -> None:
    assert len(load_cells(file, ["sweep={model.width: [4, 6, 8]}"])[1].each) == 3
    assert [c.place for c in load_cells(swept, ["sweep={}"])[1].each] == [{}]
    with pytest.raises(ConfigError, match=r"swept.yaml is a sweep, not one study"):
        load(swept)


@pytest.mark.parametrize(
    ("sweep", "message"),
    [
        ("{title: [a, b]}", 'the cells title="a" and title="b" are the same study: title enters no artifact'),
        ("{model.wdth: [4, 6]}", "unknown key 'model.wdth' in the cell model.wdth=4"),
        ("{model.width: [4, 4]}", "'sweep.model.width' in --set sweep has a value twice"),
        ("{model.width: []}", "sweep.model.width"),
        ("{model.width: 4}", "sweep.model.width"),
        ("{model: [{name: lenet}], model.width: [4, 6]}", "'model' and 'model.width' set the same value"),
        (f"{{prune.rate: {[round(0.001 * i, 3) for i in range(1, CELLS + 2)]}}}", f"too many cells\n  got:      {CELLS + 1}"),
        ("{retrain.recipe.lr: [-1.0]}", "'retrain.recipe.lr' in the cell retrain.recipe.lr=-1.0"),
    ],
)
def test_sweeps_that_mean_nothing_are_refused(file: str, sweep: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_cells(load_cells(file, [f"sweep={sweep}"])[1], Store("/nonexistent"))


def test_a_choice_needs_a_sweep(file: str) -> None:
    with pytest.raises(ConfigError, match="'choose' in --set names a cell of a sweep, and there is none"):
        load_cells(file, ["choose=validation"])


def test_a_mistake_in_a_swept_file_has_its_line_and_cells_are_narrowed(tmp_path: Path) -> None:
    path = tmp_path / "swept.yaml"
    path.write_text(tiny.TINY.replace("rate: 0.3", "rate: 3") + "sweep: {model.width: [4, 6]}\n", encoding="utf-8")
    line = tiny.TINY.splitlines().index("  rate: 0.3") + 1
    with pytest.raises(ConfigError, match=f"'prune.rate' in swept.yaml, line {line}"):
        load_cells(str(path))
    path.write_text(tiny.TINY + "only: {accuracy: {seeds: [0, 1]}}\nsweep: {seeds: [[0], [1]]}\n", encoding="utf-8")
    path.write_text(path.read_text().replace("seeds: [0]\n", "seeds: [0, 1]\n", 1), encoding="utf-8")
    notes = [cell.notes for cell in load_cells(str(path))[1]]
    assert notes[0] == ("only.accuracy.seeds narrowed to [0] (the cell seeds=[0] leaves out 1)",)
