"""What was said while artifacts were made, and their losses: this user's own files, because of which nobody's work ends."""

from __future__ import annotations

import json
import math
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import tiny

from distill_prune.plan.nodes import Graph
from distill_prune.run.worker import Worker
from distill_prune.store import logs
from distill_prune.store.housekeeping import removable, remove_all
from distill_prune.store.logs import Log, Losses, log_path, losses_path, read_losses
from distill_prune.store.store import Store

KEY = "a" * 64


def test_lines_of_attempts_follow_each_other(empty: Store) -> None:
    Log(empty, KEY, "data a").end("made in 1 s")
    assert not log_path(empty, KEY).exists(), "nothing was said"
    log = Log(empty, KEY, "data a")
    log.add("one\ntwo\x1b")
    log.end("failed: no", always=True)
    Log(empty, KEY, "data a").end("made in 2 s")
    lines = [line.split(" ", 1) for line in log_path(empty, KEY).read_text().splitlines()]
    said = ["begin: data a", "one", "two\\x1b", "failed: no", "begin: data a", "made in 2 s"]
    assert [text for _, text in lines] == said and all(stamp[10] == "T" for stamp, _ in lines)


def test_a_log_does_not_fill_the_disk_and_keeps_its_end(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_BYTES", 300)
    for _ in range(3):
        log = Log(empty, KEY, "data a")
        for number in range(1000):
            log.add(f"line {number}")
        log.end("failed: at last", always=True)
        text = log_path(empty, KEY).read_text()
        assert "the rest is left out\n" in text and text.endswith("failed: at last\n") and len(text) < 700


@pytest.mark.parametrize("write", [lambda s: Log(s, KEY, "x").end("said", always=True), lambda s: Losses(s, KEY).add(1, 0.5)])
def test_nothing_is_written_through_a_link(empty: Store, tmp_path: Path, write: Callable[[Store], None]) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    (empty.root / ".logs").symlink_to(outside)
    write(empty)
    assert [p.name for p in outside.iterdir()] == ["file"]
    (empty.root / ".logs").unlink()
    (empty.root / ".logs").mkdir()
    for path in (log_path(empty, KEY), losses_path(empty, KEY)):
        path.symlink_to(outside / "file")
    write(empty)
    assert (outside / "file").read_text() == "precious"
    written = [path for path in (log_path(empty, KEY), losses_path(empty, KEY)) if not path.is_symlink()]
    assert len(written) == 1 and written[0].read_text(), "the link was moved aside"
    (empty.root / ".logs").rename(tmp_path / "gone")
    (empty.root / ".logs").write_text("in the way")
    write(empty)


def test_modes_follow_the_folder_and_the_umask(empty: Store) -> None:
    before = os.umask(0o027)
    try:
        Log(empty, KEY, "x").end("said", always=True)
    finally:
        os.umask(before)
    assert log_path(empty, KEY).stat().st_mode & 0o777 == 0o640
    assert log_path(empty, KEY).parent.stat().st_mode & 0o777 == empty.root.stat().st_mode & 0o777


def test_losses_are_read_as_they_come(empty: Store) -> None:
    assert read_losses(empty, KEY) == ([], 0)
    losses = Losses(empty, KEY)
    losses.add(1, 0.5)
    losses.add(2, math.nan)
    losses.flush()
    rows, at = read_losses(empty, KEY)
    plain = [json.loads(line) for line in losses_path(empty, KEY).read_text().splitlines()]
    assert rows == [(1, 0.5)] and plain == [{"step": 1, "loss": 0.5}, {"step": 2, "loss": None}]
    losses.add(3, 0.25)
    losses.close()
    with losses_path(empty, KEY).open("a") as file:
        file.write('{"step": "x", "loss": 1.0}\n[]\n{"step": 4, "loss": 1e999}\n{"step": 4, "lo')  # and there it died
    assert read_losses(empty, KEY, at)[0] == [(3, 0.25)]
    again = Losses(empty, KEY)
    again.resume()
    again.add(5, 1.5)
    again.close()
    assert read_losses(empty, KEY)[0] == [(1, 0.5), (3, 0.25), (5, 1.5)]
    anew = Losses(empty, KEY)
    anew.add(1, 2.0)
    anew.close()
    assert read_losses(empty, KEY)[0] == [(1, 2.0)]


def test_losses_are_those_of_the_artifact(finished: tuple[Store, Graph]) -> None:
    store, graph = finished
    copy, learned = tiny.node_of(graph, "dense seed 0 copy 0"), tiny.node_of(graph, "set synthetic")
    assert [loss for _, loss in read_losses(store, copy.key)[0]] == store.numbers("retrain", copy.key)["train_loss"]
    matching, record = read_losses(store, learned.key)[0], store.numbers("distill", learned.key)["record"]
    assert [step for step, _ in matching] == [1, 2, 3, 4] and record["iteration"] == [4]
    assert sum(loss for _, loss in matching) / 4 == pytest.approx(record["loss"][0], rel=1e-6)
    stages = {n.stage for n in graph.nodes.values() if losses_path(store, n.key).exists()}
    assert stages == {"experts", "distill", "prune", "retrain"}


def test_logs_go_with_their_artifact(store: Store, graph: Graph) -> None:
    summary, other = graph.nodes[graph.summary], graph.data
    for key in (summary.key, other):
        Log(store, key, "x").end("said", always=True)
    remove_all(store, removable(store, [store.find(summary.key)], with_dependents=False))
    assert not log_path(store, summary.key).exists() and log_path(store, other).exists()


def test_a_disk_that_takes_no_logs_stops_nothing(store: Store, graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> Any:
        raise OSError(28, "full")

    monkeypatch.setattr(logs, "_open", full)
    node = tiny.node_of(graph, "dense seed 0 copy 0")
    shutil.rmtree(store.path("retrain", node.key))
    (outcome,) = Worker(store, "cpu").make([node], lambda _: None)
    assert store.sound("retrain", node.key), outcome


# TensorBoard


def test_losses_for_tensorboard(cli: tiny.Cli, file: str, empty: Store, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard", reason="the extra [tensorboard] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = tmp_path / "board"
    done = cli("experts", file, "--store", empty.root, "--executor", "serial", "--tensorboard", board)
    assert done.code == 0, done.err
    folders = sorted(board.glob("experts/expert *"))
    assert [folder.name[:9] for folder in folders] == ["expert 0 ", "expert 1 "]
    for folder in folders:
        events = EventAccumulator(str(folder))
        events.Reload()
        (key,) = [key for key in empty.keys("experts") if key.startswith(folder.name[9:])]
        assert [(e.step, pytest.approx(e.value)) for e in events.Scalars("loss")] == read_losses(empty, key)[0]


def test_curves_follow_a_run(monkeypatch: pytest.MonkeyPatch, empty: Store, graph: Graph, tmp_path: Path) -> None:
    written: list[tuple[str, str, float, int]] = []

    class Writer:
        def __init__(self, folder: str) -> None:
            self.folder = Path(folder).name

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((self.folder[:8], name, value, step))

        def close(self) -> None:
            written.append((self.folder[:8], "closed", 0.0, 0))

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", SimpleNamespace(SummaryWriter=Writer))
    from distill_prune.run.tensorboard import Curves

    curves, node, losses = Curves(tmp_path, empty), tiny.node_of(graph, "expert 0"), None
    for step, tell in ((1, lambda: curves.ticked(node, 1, 2, "")), (2, lambda: curves.finished(node, "made", 1.0, 0.0))):
        losses = losses or Losses(empty, node.key)
        losses.add(step, step / 2)
        losses.flush()
        tell()
    assert written == [("expert 0", "loss", 0.5, 1), ("expert 0", "loss", 1.0, 2), ("expert 0", "closed", 0.0, 0)]


def test_without_tensorboard(cli: tiny.Cli, file: str, empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    done = cli("run", file, "--store", empty.root, "--tensorboard", tmp_path / "board")
    missing = "error: TensorBoard is not installed\n  fix:      pip install 'distill-prune[tensorboard]'\n"
    assert (done.code, done.err) == (2, missing) and not (tmp_path / "board").exists() and not empty.keys("data")
