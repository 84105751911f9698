"""Sweeps: one file as many studies, planned and made as one graph."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import tiny
import yaml
from pydantic import JsonValue

from distill_prune.analyze.declared import in_rows
from distill_prune.analyze.estimate import estimate
from distill_prune.errors import ConfigError
from distill_prune.limits import CELLS
from distill_prune.plan.config import load
from distill_prune.plan.graph import build
from distill_prune.plan.sweep import build_cells, load_cells
from distill_prune.report.map import maps, short_names
from distill_prune.store.store import Store
from distill_prune.study.sweep import CellLine, SweepDocument

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
    notes = [cell.notes for cell in load_cells(str(path))[1].each]
    assert notes[0] == ("only.accuracy.seeds narrowed to [0] (the cell seeds=[0] leaves out 1)",)


def _document(axes: dict[str, list[JsonValue]]) -> SweepDocument:
    """Cells whose dense accuracy says which they are: 0, 0.01, 0.02, ... in the order of the file."""
    cells: list[CellLine] = []
    for number, values in enumerate(product(*axes.values())):
        place = dict(zip(axes, values, strict=True))
        name = ", ".join(f"{key}={json.dumps(value)}" for key, value in place.items())
        dense = {"accuracy": estimate([number / 100] * 2), "barrier_test": None}
        cells.append(
            {
                "name": name,
                "place": place,
                "verdict": "",
                "sparsity": None,
                "dense": dense,
                "arms": [],
                "differences": [],
                "validation": None,
            }
        )
    return {"axes": axes, "cells": cells, "choose": "none", "chosen": None}


@pytest.mark.parametrize("count", range(1, 6))
def test_a_map_has_each_cell_at_its_values(count: int) -> None:
    values: dict[str, list[JsonValue]] = {"a.lr": [0.1, 0.4], "a.length": ["2it", "8it", "9it"], "b.lr": [1, 2], "k": [0, 1]}
    values["b.norm"] = [None, "batch"]
    document = _document(dict(list(values.items())[:count]))
    of_accuracy, of_barrier = maps(document, {m.name: m for m in in_rows()})
    assert [s.text for _, squares in of_barrier.rows for s in squares] == ["–"] * len(document["cells"])
    half = (count + 1) // 2
    assert len(of_accuracy.down) == half and len(of_accuracy.heads) == max(count - half, 1)
    shown = []
    for row, squares in of_accuracy.rows:
        for column, square in enumerate(squares):
            heads = [[text for text, span in line for _ in range(span)][column] for line in of_accuracy.heads]
            across = [text.split(" = ")[1] for text in heads] if count > 1 else []
            cell = document["cells"][len(shown)]
            assert square.name == cell["name"] and square.text == f"{len(shown)}.0 ± 0.0"
            assert [*row, *across] == [v if isinstance(v, str) else json.dumps(v) for v in cell["place"].values()]
            shown.append(square.shade)
    assert len(shown) == len(document["cells"]) and shown == sorted(s for s in shown if s is not None) and shown[-1] == 1.0


def test_axes_have_the_shortest_names_that_tell_them_apart() -> None:
    alike = ["retrain.recipe.lr", "prune.recipe.lr", "model.width", "seeds", "experts.model.width"]
    assert [*short_names(alike).values()] == alike
    assert [*short_names(["retrain.recipe.lr", "model.width"]).values()] == ["lr", "width"]


def test_a_sweep_is_made_and_mapped(cli: tiny.Cli, tmp_path: Path) -> None:
    values = {**tiny.raw(), "distill": {}, "arms": {"real": {}, "random": {"criterion": {"name": "random"}}}}
    values |= {
        "compare": {"accuracy": {}},
        "levels": [0, 1],
        "sweep": {"retrain.recipe.lr": [0.01, 0.3]},
        "choose": "validation",
    }
    path = tmp_path / "swept.yaml"
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    planned = json.loads(cli("plan", path, "--store", tmp_path / "s", "--json", "--no-measure").out)["artifacts"]
    done = json.loads(cli("run", path, "--store", tmp_path / "s", "--executor", "serial", "--json").out)
    assert done["made"] == len(planned)
    document = done["answer"]
    assert document["axes"] == {"retrain.recipe.lr": [0.01, 0.3]} and len(document["cells"]) == 2
    best = max(document["cells"], key=lambda cell: cell["validation"])
    assert document["chosen"] == best["name"] and best["validation"] > 0.1
    html = Path(done["report"]).read_text(encoding="utf-8")
    assert html.count("<caption>") == 2 + 2 + 1  # dense, both arms, their difference
    assert html.count('class="chosen"') == 5 and "--shade: 1.000" in html and "--shade: 0.000" in html
    rows = (Path(done["report"]).parent / "tables" / "cells.csv").read_text(encoding="utf-8").splitlines()
    assert len(rows) == 3 and rows[0].startswith("retrain.recipe.lr,sparsity (%),dense: accuracy (%)")
    assert "chosen by validation accuracy alone: retrain.recipe.lr=" in cli("run", path, "--store", tmp_path / "s").out
    refused = cli("pack", path, "-o", tmp_path / "a.tar", "--store", tmp_path / "s")
    assert refused.code == 2 and "swept is a sweep, and `pack` takes one study" in refused.err
    refused = cli("report", path, "--pdf", "--store", tmp_path / "s")
    assert refused.code == 2 and "--pdf is of one study, and swept is a sweep" in refused.err
