"""The table of performance: its rows work and both sides of each do the same work, its figures are what the rounds make, and
docs/performance.md is what its records make."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "bench"))

import performance  # noqa: E402
import plan_spent  # noqa: E402
import table  # noqa: E402
from measure import Row, Scene, Side, measure  # noqa: E402
from ratios import ROWS, barrier, gradient, row, studies  # noqa: E402
from records import RowRecord, SideRecord, TableRecord, memory_ratio, ratio, share_of_peak  # noqa: E402

from distill_prune.data import prepare  # noqa: E402
from distill_prune.plan.config import load  # noqa: E402

COMMANDS = {"digits_lanes", "cifar10_compiled", "commands"}
"""Rows that start commands."""


def side(name: str, seconds: list[float]) -> SideRecord:
    return {
        "name": name,
        "plain": name == "plain",
        "goal": 0.5,
        "memory_goal": None,
        "first_seconds": None,
        "seconds": seconds,
        "mb": [],
    }


def recorded(ours: list[float], plain: list[float], absent: dict[str, str] | None = None) -> RowRecord:
    sides = [side("plain", plain), side("ours", ours)]
    return {"work": "work", "threads": 1, "peak_gflops": 100.0, "flops": 2e11, "sides": sides, "absent": absent or {}}


def run_of_the_table(**rows: RowRecord) -> TableRecord:
    machine: dict[str, str | float] = {"processor": "P", "cores": 2, "instructions": "AVX2", "memory_gib": 8.0}
    machine |= {"torch": "2", "date": "2026-01-02T03:04", "load": 0.1}
    return {"label": "a", "commit": "c0", "machine": machine, "device": "cpu", "clock": "wall", "repeats": 3, "rows": rows}


def test_the_page_is_what_the_records_make() -> None:
    text = performance.PAGE.read_text(encoding="utf-8")
    assert text == performance.page(text), "run python bench/performance.py"


def test_the_table_of_plans_is_what_the_records_make() -> None:
    text = (plan_spent.RECORDS / "plan.md").read_text(encoding="utf-8")
    assert text == plan_spent.page(plan_spent.records()), "run python bench/plan_spent.py"


def test_names_of_rows() -> None:
    assert tuple(ROWS) == table.NAMES


@pytest.mark.parametrize("name", [n for n in ROWS if n not in COMMANDS])
def test_a_row_works(name: str, tmp_path: Path) -> None:
    threads = torch.get_num_threads()
    try:
        found = measure(row(name, Scene(tmp_path, quick=True)), 1, quick=True)
    finally:
        torch.set_num_threads(threads)
    assert len(found["sides"]) >= 2 and sum(s["plain"] for s in found["sides"]) == 1
    assert all(len(s["seconds"]) == 1 and s["seconds"][0] > 0 for s in found["sides"])
    assert (found["flops"] or 0) > 0
    json.dumps(found)


def test_both_sides_of_the_gradient_give_one_gradient(tmp_path: Path) -> None:
    made = row("gradient", Scene(tmp_path, quick=True))
    pixels, log_lr = made.plain.run()  # type: ignore[union-attr,misc]
    inner, start, target = gradient.problem(Scene(tmp_path, quick=True))[1:]
    ours = gradient.matching_gradient(inner, start, target, segment=1)
    assert torch.allclose(pixels, ours.pixels, rtol=1e-3, atol=1e-6 * float(pixels.abs().max())) and log_lr.item() != 0
    assert log_lr.item() == pytest.approx(ours.log_lr.item(), rel=1e-4)


def test_both_sides_of_a_barrier_give_one_curve(tmp_path: Path) -> None:
    settings, given = barrier.problem(Scene(tmp_path, quick=True), (1, 8, 8), 2, 4)
    curves = barrier.connectivity.measure(settings, given).numbers["curves"]
    plain = barrier.plain(given, settings.points)
    assert [loss for loss, _ in plain[::2]] == pytest.approx(curves["train_loss"], rel=1e-5)
    assert [error for _, error in plain[1::2]] == pytest.approx(curves["test_error"])


def test_rounds_alternate_and_a_first_run_does_not_count() -> None:
    heard: list[str] = []
    sides = [Side(name, lambda name=name: heard.append(name)) for name in "ab"]  # type: ignore[misc]
    found = measure(Row("work", sides[0], sides[1:]), 3, quick=True)
    assert "".join(heard) == "ab" + "ab" + "ba" + "ab" and [len(s["seconds"]) for s in found["sides"]] == [3, 3]


def test_a_side_that_fails_is_told_and_the_others_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    def fails() -> None:
        raise ValueError("no such graph\nand more")

    found = measure(Row("work", Side("a", lambda: None), [Side("b", fails), Side("c", lambda: None)]), 2, quick=True)
    assert [s["name"] for s in found["sides"]] == ["a", "c"] and "ValueError" in capsys.readouterr().err
    assert found["absent"] == {"b": "failed with ValueError: no such graph"}
    with pytest.raises(ValueError, match="no such graph"):
        measure(Row("work", Side("a", fails), []), 1, quick=True)


def test_a_ratio_is_that_of_each_round() -> None:
    row = recorded([1.0, 3.0, 8.0], [2.0, 4.0, 8.0])
    assert ratio(row, row["sides"][1]) == (0.625, 0.75, 0.875) and ratio(row, row["sides"][0]) is None
    assert share_of_peak(row, row["sides"][1]) == pytest.approx(2e11 / 3 / 1e11)
    row["sides"][0]["mb"], row["sides"][1]["mb"] = [100.0, 300.0, 200.0], [50.0]
    assert memory_ratio(row, row["sides"][1]) == 0.25


def test_lines_of_the_table() -> None:
    row = recorded([1.0, 3.0, 8.0], [2.0, 4.0, 8.0], absent={"compiled": "no compiler"})
    lines = performance.rows(run_of_the_table(a=row))
    assert lines[1] == ["work", "plain", "4.00 [3.00, 6.00]", "1", "0.50", "50%", ""]
    assert lines[2] == ["", "ours", "3.00 [2.00, 5.50]", "0.75 [0.62, 0.88]", "0.50", "67%", ""]
    assert lines[3][:3] == ["", "compiled", "not measured: no compiler"]
    both = performance.table_section([run_of_the_table(a=row), run_of_the_table()])
    assert "| work | ours | 0.50 | 0.75 [0.62, 0.88] | – |" in both
    assert "P, 2 cores, AVX2, 8.0 GiB, torch 2, commit c0, 2026-01-02; 3 rounds, wall time" in both


def test_studies_that_were_not_run_say_so() -> None:
    ran = {"pipeline": "digits", "devices": ["cpu"], "versions": {"torch": "2"}, "core_seconds_total": 600, "peak_mb": 512.0}
    page = performance.studies_section([ran, {**ran, "core_seconds_total": 1200, "disk_mb": 3.2}])  # type: ignore[list-item,typeddict-item]
    assert "| digits.yaml | cpu, torch 2 | 20 core-minutes, the longest of 2 runs | 0.5 GiB | 3 MiB |" in page
    assert "| mtt-cifar10-ipc10.yaml |  | not yet run |  |  |" in page


@pytest.mark.parametrize(
    ("pipeline", "sets"),
    [
        ("digits.yaml", (*studies.AS_IT_WAS, *studies.QUARTER)),
        ("digits.yaml", (*studies.AS_IT_WAS, *studies.TINY)),
        ("cifar10-small.yaml", ("data.path=none", *studies.PART)),
    ],
)
def test_shrunk_studies_are_valid(pipeline: str, sets: tuple[str, ...]) -> None:
    load(pipeline, sets)


def test_made_up_images_can_be_told_apart(tmp_path: Path) -> None:
    studies.pictures(tmp_path, 400, 40)
    images = prepare(load("cifar10-small.yaml", (f"data.path={tmp_path}", "data.rows=400", "data.test_rows=40"))[1].data)
    train, test = images.examples("train").ready(), images.examples("test").ready()
    means = torch.stack([train.x[train.y == c].mean(0) for c in range(10)])
    nearest = (test.x[:, None] - means).flatten(2).norm(dim=2).argmin(1)
    assert (nearest == test.y).all()


def test_a_table_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    printed = json.dumps({"row": recorded([1.0], [2.0]), "machine": run_of_the_table()["machine"]})
    asked: list[str] = []
    monkeypatch.setattr(table, "in_a_process", lambda a, name, side="": (asked.append(name), printed)[1])
    file = tmp_path / "t.json"
    table.main(["--rows", "copies", "epoch", "--json", str(file)])
    table.main(["--rows", "copies", "epoch", "trace", "--json", str(file), "--resume"])
    assert asked == ["copies", "epoch", "trace"]
    assert list(json.loads(file.read_text())["rows"]) == ["copies", "epoch", "trace"] and "0.50" in capsys.readouterr().out
    monkeypatch.setattr(table, "in_a_process", lambda a, name, side="": None)
    with pytest.raises(SystemExit, match="failed: copies"):
        table.main(["--rows", "copies"])
