"""Studies by name in programs: what is made, what is read, and what is refused."""

from __future__ import annotations

import inspect
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny
import torch

import distill_prune as dp
from distill_prune.plan.nodes import Graph
from distill_prune.store.store import Store
from distill_prune.training import evaluate


@pytest.fixture
def results(finished: tuple[Store, Graph]) -> dp.Results:
    """The finished tiny study; not to be changed."""
    return dp.study(tiny.pipeline(), store=finished[0])


def test_a_finished_study_is_read(results: dp.Results, finished: tuple[Store, Graph]) -> None:
    assert results.graph.nodes.keys() == finished[1].nodes.keys() and results.missing == 0 and results.made.made == 0
    assert results.answer["verdict"].startswith("Inconclusive: 1 initialisation")
    assert {(row["arm"], row["level"]) for row in results.rows} == {(arm, n) for arm in results.pipeline.arms for n in (0, 2)}
    assert len(results.runs) == len(results.tickets) == 8
    assert {unit["arm"] for unit in results.runs} == {*results.pipeline.arms}


def test_artifacts_of_the_grid_fit_each_other(results: dp.Results) -> None:
    ticket, state = results.ticket("real", seed=0, level=2), results.weights("real", seed=0, level=2, copy=1)
    assert all(bool((state[name][~kept] == 0).all()) for name, kept in ticket.mask.kept.items())
    (unit,) = [u for u in results.runs if (u["arm"], u["level"]) == ("real", 2)]
    scores = [
        1 - evaluate(results.model, results.weights("real", 0, 2, c), results.data.examples("test")).error for c in (0, 1)
    ]
    assert dict(unit)["accuracy"] == pytest.approx(sum(scores) / 2)
    assert len(results.synthetic("synthetic").images) == 10
    assert results.ticket("synthetic", 0, 1).mask.sparsity == pytest.approx(0.3, abs=0.01)


def test_tables_have_a_column_for_each_part_of_an_estimate(results: dp.Results, monkeypatch: pytest.MonkeyPatch) -> None:
    first = results.table()[0]
    assert first["arm"] == "real" and isinstance(first["accuracy_mean"], float) and first["accuracy_n"] == 1
    assert len({tuple(row) for row in results.table("runs")}) == 1
    with pytest.raises(dp.UserError, match=r"no table 'level'\n.*did you mean 'levels'"):
        results.table("level")
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(dp.UserError, match=r"(?s)needs pandas.*pip install pandas"):
        results.frame()
    monkeypatch.setitem(sys.modules, "pandas", SimpleNamespace(DataFrame=list))
    assert results.frame("tickets") == results.table("tickets")


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda r: r.ticket("synthetc", 0, 1), r"no arm 'synthetc'.*\n.*real, synthetic, subset, random"),
        (lambda r: r.ticket("real", 3, 1), r"no seed 3.*\n.*expected: 0"),
        (lambda r: r.ticket("real", 0, 5), r"no level 5.*\n.*expected: 0, 1, 2"),
        (lambda r: r.weights("real", 0, 1), r"no level 1.*\n.*expected: 0, 2"),
        (lambda r: r.weights("real", 0, 2, copy=2), r"no copy 2\n.*0 to 1"),
        (lambda r: r.synthetic("sub"), r"no set 'sub'\n.*did you mean 'subset'"),
    ],
)
def test_places_that_the_grid_lacks_are_refused(ask, message: str, results: dp.Results) -> None:
    with pytest.raises(dp.UserError, match=message):
        ask(results)


def test_a_study_of_several_draws_has_a_place_for_each(empty: Store) -> None:
    results = dp.study(tiny.pipeline("distill_seeds=[4, 7]", "distill_grid=crossed"), store=empty)
    for draw in (4, 7):
        with pytest.raises(dp.UserError, match="the ticket of synthetic, seed 0, level 1, is not in the store"):
            results.ticket("synthetic", seed=0, level=1, draw=draw)
    with pytest.raises(dp.UserError, match=r"no draw None here\n.*expected: 4, 7"):
        results.ticket("synthetic", seed=0, level=1)
    with pytest.raises(dp.UserError, match="the set 'synthetic/7' is not in the store"):
        results.synthetic("synthetic/7")


def test_a_study_that_is_not_finished_says_what_is_missing(empty: Store) -> None:
    results = dp.study(tiny.pipeline(), store=empty)
    assert results.missing == len(results.graph.nodes) and results.rows == []
    with pytest.raises(dp.UserError, match=r"(?s)has no answer yet\n.*of \d+ artifacts are missing"):
        _ = results.answer
    for ask in (lambda: results.data, lambda: results.model, lambda: results.ticket("real", 0, 1)):
        with pytest.raises(dp.UserError, match="not in the store"):
            ask()


def test_run_makes_what_is_missing_and_tells_its_watcher(tmp_path: Path, file: str) -> None:
    watch, asked = tiny.Watch(), []

    def cost(node: dp.Node) -> float:
        asked.append(node.key)
        return 1.0

    results = dp.run(
        file, store=tmp_path / "new", set={"distill": {}, "arms": {"real": {}}}, until="data", watcher=watch, cost=cost
    )
    assert results.name == "tiny" and results.made.made == 1
    assert [node.stage for node in watch.made] == ["data"] and asked
    again = dp.run(Path(file), store=str(tmp_path / "new"), until="data")
    assert (again.made.made, again.made.hits) == (0, 1)
    assert results.data.shape == (1, 8, 8)


def test_values_are_laid_on_files_and_on_settings_alike(file: str, empty: Store) -> None:
    over = {"seeds": [1, 2], "prune.recipe.length": "7it", "retrain.recipe": {"length": dp.Duration(9, "it"), "lr": 1e-5}}
    by_file = dp.study(file, store=empty, set=over)
    by_settings = dp.study(tiny.pipeline(), store=empty, set=over)
    assert by_file.graph.nodes.keys() == by_settings.graph.nodes.keys()
    assert by_file.pipeline.seeds == (1, 2) and by_file.pipeline.retrain.recipe.lr == 1e-5
    with pytest.raises(dp.UserError, match=r"the value of 'seeds'"):
        dp.study(file, store=empty, set={"seeds": torch.zeros(2)})
    with pytest.raises(dp.UserError, match=r"unknown key 'sede'"):
        dp.study(file, store=empty, set={"sede": [0]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"executor": "threads"}, "unknown executor"),
        ({"workers": 2}, "serial"),
        ({"until": "prunes"}, r"unknown stage 'prunes'\n.*did you mean 'prune'"),
        ({"device": "cuda:99"}, "no device 'cuda:99'"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message: str, tmp_path: Path) -> None:
    with pytest.raises(dp.UserError, match=message):
        dp.run(tiny.pipeline(), store=tmp_path / "new", **options)


def test_a_report_is_written_where_it_is_asked_for(
    results: dp.Results, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distill_prune.api.results.write", lambda plain, folder: folder / plain.name)
    assert results.report(str(tmp_path)) == tmp_path / "tiny"


def test_rooms_with_the_name_of_a_function_are_called_like_it(empty: Store) -> None:
    """Python puts the rooms `run` and `study` in the package's names, whoever imports them first."""
    import distill_prune.run.measured
    import distill_prune.study.study
    from distill_prune.run import measured

    assert measured is distill_prune.run.measured
    assert "until" in inspect.signature(dp.run).parameters and "until" not in inspect.signature(dp.study).parameters
    assert dp.study(tiny.pipeline(), store=empty).missing > 0
    with pytest.raises(dp.UserError, match="unknown stage"):
        dp.run(tiny.pipeline(), store=empty, until="nothing")
