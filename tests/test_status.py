"""The state of runs, from another terminal: at work, ended or dead; whatever stands in its files."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import tiny

from distill_prune.cli.watching import _lines as lines
from distill_prune.errors import RunError
from distill_prune.run import status as module
from distill_prune.run.status import KEPT, recorded, runs
from distill_prune.store.leases import lease, leased
from distill_prune.store.store import Store


@pytest.fixture
def paths(empty: Store) -> Any:
    return lambda: sorted((empty.root / ".status").glob("run-*.json"))


def test_a_run_says_how_far_it_is(cli: tiny.Cli, empty: Store, monkeypatch: pytest.MonkeyPatch, paths: Any) -> None:
    monkeypatch.setattr(module, "EVERY_SECONDS", 0.0)
    seen: list[Any] = []
    told: list[str] = []

    def look(n: int) -> None:
        seen.extend(runs(empty))

    class Ticking(tiny.Watch):
        def ticked(self, node: Any, done: int, total: int, note: str) -> None:
            told.extend(line for run in runs(empty) for line in lines(run))

    tiny.execute(empty, "experts.recipe.length=60ep", until="experts", watch=Ticking(look))
    assert [run.status.state for run in seen] == ["running"] * 3 and all(run.at_work for run in seen)
    assert told[0].startswith("study: running since 20") and f" process {os.getpid()}: 1 of 3 artifacts, about " in told[0]
    assert [line for line in told if line.startswith("  experts  expert ")]
    (run,) = runs(empty)
    assert run.status is not None and (run.status.state, run.status.made, run.status.at_work) == ("done", 3, [])
    assert json.loads(cli("status", "--store", empty.root, "--json").out)["runs"][0]["state"] == "done"
    assert cli("watch", "--store", empty.root).out == f"no runs at work on {empty.root}\n"
    assert leased(empty) == set() and len(paths()) == 1


def test_how_a_run_ended(empty: Store, paths: Any) -> None:
    for problem, state in ((RunError("no"), "failed"), (KeyboardInterrupt(), "interrupted")):
        with pytest.raises(type(problem)), recorded(empty, "run-1", "a.yaml", "compare", "serial", 1):
            raise problem
        assert [run.status.state for run in runs(empty) if run.status] == [state]


def test_the_files_of_the_last_runs_are_kept(empty: Store, paths: Any) -> None:
    for number in range(KEPT + 4):
        with recorded(empty, f"run-{number}", "a.yaml", "compare", "serial", 1):
            pass
        os.utime(paths()[-1], (number, number))
    assert [path.name for path in paths()] == [f"run-{number}.json" for number in range(4, KEPT + 4)]


def test_a_dead_run_is_said_to_be_dead(empty: Store, file: str, cli: tiny.Cli) -> None:
    long = ("--set", "retrain.recipe.length=1000000it")
    process = tiny.start("run", file, "--store", str(empty.root), "--executor", "serial", *long)
    try:
        tiny.lines_until(process, lambda line: "begin retrain" in line)
        assert "running since" in cli("status", "--store", empty.root).out
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    done = cli("status", "--store", empty.root)
    assert f"{file}: dead, begun 20" in done.out and " left" not in done.out
    assert cli("watch", "--store", empty.root).out.startswith("no runs at work")


def test_watch_follows_until_the_end_and_leaves_at_an_interrupt(empty: Store, tmp_path: Path) -> None:
    with lease(empty, []) as name:
        with recorded(empty, name, "a.yaml", "compare", "serial", 1) as board:
            board.begin(7, 1, 60.0)
            watching = [tiny.start("watch", "--store", str(empty.root)) for _ in range(2)]
            for process in watching:
                (line,) = tiny.lines_until(process, lambda _: True)
                assert line[9:].startswith("a.yaml: running since") and "1 of 7 artifacts, about " in line
            time.sleep(0.1)
            watching[0].send_signal(signal.SIGINT)
            assert watching[0].communicate(timeout=60) == ("", "") and watching[0].returncode == 0
        out, err = watching[1].communicate(timeout=60)
    assert watching[1].returncode == 0 and err == "" and "a.yaml: done, begun" in out.splitlines()[-1]


@pytest.mark.parametrize(
    "content", [b"", b"[", b"null", b"{}", b"[" * 10_000, b"\xff", b'{"pipeline": 1}', b'{"made": 1e400}'], ids=range(8)
)
def test_what_is_no_state_of_a_run_is_said(cli: tiny.Cli, empty: Store, content: bytes) -> None:
    (empty.root / ".status").mkdir()
    (empty.root / ".status" / "run-a\n.json").write_bytes(content)
    (empty.root / ".status" / "run-b.json").mkdir()
    done = cli("status", "--store", empty.root)
    assert done.code == 0 and done.out.count("its state cannot be read (") == 2 and len(done.out.splitlines()) == 2
    assert "problem" in json.loads(cli("status", "--json", "--store", empty.root).out)["runs"][0]


def test_looking_changes_nothing(cli: tiny.Cli, empty: Store, paths: Any) -> None:
    with recorded(empty, "run-1", "a.yaml", "compare", "serial", 1):
        pass
    assert len(paths()) == 1
    before = {path: path.stat().st_mtime_ns for path in empty.root.rglob("*")}
    assert cli("status", "--store", empty.root).code == 0
    assert {path: path.stat().st_mtime_ns for path in empty.root.rglob("*")} == before


def test_no_state_is_written_through_a_link(empty: Store, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (empty.root / ".status").symlink_to(tmp_path / "outside")
    with recorded(empty, "run-1", "a.yaml", "compare", "serial", 1):
        pass
    assert not [*(tmp_path / "outside").iterdir()]
