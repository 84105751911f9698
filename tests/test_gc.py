"""`gc`: what the dead left goes, and with --keep what no pipeline and no name needs; never from under somebody's hands."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
from reference_housekeeping import at_terminal, keys
from tiny import Cli

from distill_prune.plan.nodes import Graph
from distill_prune.store import housekeeping, logs
from distill_prune.store.housekeeping import litter, remove
from distill_prune.store.store import NUMBERS, Store

terminal = pytest.fixture(at_terminal)


# gc


def old(path: Path, seconds: float = 7200) -> None:
    for p in (path, *path.rglob("*")):
        os.utime(p, (time.time() - seconds,) * 2)


def test_gc_removes_what_the_dead_left(cli: Cli, store: Store, graph: Graph) -> None:
    whole, dead, alive = tiny.contents(store), "d" * 64, "a" * 64
    for key in (dead, alive):
        store.work(key).mkdir()
        (store.work(key) / "snapshot.safetensors").write_bytes(b"x" * 1000)
    store.set_aside("compare", graph.summary)
    reports = store.root / "reports" / "tiny"
    for name in (".report-old", ".report-new"):
        (reports / name / "figures").mkdir(parents=True)
        (reports / name / "figures" / "a.png").write_bytes(b"x" * 10)
    (reports / "report.html").write_text("kept")
    for path in (reports / "..made-of.json.1", store.root / ".tags.json.77"):
        path.write_text("{")
        old(path)
    old(reports / ".report-old")
    with store.lock("e" * 64):
        pass
    kept = set((store.root / ".logs").iterdir())
    for key in (dead, alive):
        logs.log_path(store, key).write_text("said")
    with Store(store.root).lock(alive):
        told = cli("gc", "--dry-run", "--store", store.root)
        assert told.code == 0 and told.out.endswith("would be deleted\n") and store.work(dead).exists()
        assert f"unfinished  {dead[:21]}  1.0 kB  resumes where its run was stopped\n" in told.out.replace("  " * 10, "  ")
        done = cli("gc", "--yes", "--json", "--store", store.root)
        assert store.work(alive).exists() and (store.root / ".locks" / alive).exists()
    found = json.loads(done.out)
    by_kind: dict[str, set[str]] = {}
    for record in found["removed"]:
        by_kind.setdefault(record["kind"], set()).add(record["path"])
    assert by_kind["unfinished"] == {f".work/{dead}"} and by_kind["damaged"] == {f".damaged/compare-{graph.summary}-0"}
    assert by_kind["file"] == {"reports/tiny/.report-old", "reports/tiny/..made-of.json.1", ".tags.json.77"}
    assert f".locks/{'e' * 64}" in by_kind["lock"] and set(by_kind) == {"unfinished", "damaged", "file", "log", "lock"}
    assert by_kind["log"] == {f".logs/{dead}.log"} and set((store.root / ".logs").iterdir()) == kept | {
        logs.log_path(store, alive)
    }
    assert found["busy"] == [] and found["dry_run"] is False
    assert next(r["bytes"] for r in found["removed"] if r["kind"] == "unfinished") == 1000
    assert [p.name for p in (store.root / ".locks").iterdir()] == [alive]
    assert sorted(p.name for p in reports.iterdir()) == [".report-new", "report.html"]
    assert set(tiny.contents(store)) == {n for n in whole if graph.summary not in n}


def test_gc_of_a_tidy_store_asks_nothing(cli: Cli, empty: Store) -> None:
    done = cli("gc", "--store", empty.root)
    assert (done.code, done.out) == (0, "0 items (0 B) deleted\n")


def test_gc_asks(cli: Cli, store: Store, terminal: Any) -> None:
    store.work("d" * 64).mkdir()
    done = cli("gc", "--store", store.root)
    assert done.code == 2 and "nothing is deleted without a confirmation" in done.err and store.work("d" * 64).exists()
    terminal("y\n")
    assert cli("gc", "--json", "--store", store.root).code == 2 and store.work("d" * 64).exists()
    terminal("y\n")
    assert cli("gc", "--store", store.root).code == 0 and not store.work("d" * 64).exists()


def test_a_lock_still_guards_after_its_file_went(store: Store) -> None:
    """A process that opened the file before it went, and locks it after, does not believe that it holds the key."""
    import fcntl

    key = "k" * 64
    with store.lock(key):
        pass
    opened = os.open(store.root / ".locks" / key, os.O_RDWR)
    assert remove(store, litter(store)) == [] and not (store.root / ".locks" / key).exists()
    with store.lock(key) as mine, Store(store.root).lock(key) as other:
        assert (mine, other) == (True, False)
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert os.fstat(opened).st_nlink == 0  # what the lock looks at, before it says that it is held
    os.close(opened)


def test_gc_skips_what_becomes_busy(store: Store) -> None:
    store.work("d" * 64).mkdir()
    items = litter(store)
    with Store(store.root).lock("d" * 64):
        assert [i.path.name for i in remove(store, items)] == ["d" * 64]
    assert store.work("d" * 64).exists()


def test_half_written_files_need_their_time(store: Store) -> None:
    path = store.root / ".fingerprints.json.9"
    path.write_text("{")
    assert path not in {i.path for i in litter(store)}
    old(path, housekeeping.LEFT_SECONDS + 60)
    assert path in {i.path for i in litter(store)}
    assert (store.path("data", store.keys("data")[0]) / NUMBERS).exists()


# gc --keep

REAL_ALONE = "arms={real: {}}"


@pytest.fixture
def tagged(store: Store, graph: Graph) -> Store:
    store.tag(graph.chains["synthetic", 0][1], "first-level")
    return store


def test_gc_keeps_what_pipelines_and_names_need(cli: Cli, file: str, tagged: Store, graph: Graph) -> None:
    whole = tiny.contents(tagged)
    small = tiny.build(tiny.pipeline(REAL_ALONE), tagged)
    inputs = {k: set(n.inputs.values()) for k, n in graph.nodes.items()}
    needed = set(small.nodes) | {graph.chains["synthetic", 0][1]}
    for _ in inputs:
        needed |= {i for k in needed & inputs.keys() for i in inputs[k]}
    assert graph.sets["synthetic"] in needed and needed & keys(tagged) < keys(tagged)
    done = cli("gc", "--keep", file, "--set", REAL_ALONE, "--yes", "--store", tagged.root)
    assert done.code == 0 and f"kept for {file}: {len(set(small.nodes) & set(graph.nodes))} artifacts" in done.out
    assert keys(tagged) == needed & set(graph.nodes)
    assert tiny.damaged(tagged) == [] and tiny.contents(tagged).items() <= whole.items()
    tiny.execute(tagged)
    assert tiny.contents(tagged).items() >= whole.items()


def test_gc_of_one_stage(cli: Cli, file: str, store: Store, graph: Graph) -> None:
    before = keys(store)
    arguments = ["gc", "--keep", file, "--set", REAL_ALONE, "--only", "retrain", "--json", "--store", store.root]
    told = json.loads(cli(*arguments, "--dry-run").out)
    assert told["dry_run"] and keys(store) == before
    done = json.loads(cli(*arguments, "--yes").out)
    assert {r["stage"] for r in done["removed"] if r["kind"] == "artifact"} == {"retrain"}
    kept = {n.key for n in tiny.build(tiny.pipeline(REAL_ALONE), store).nodes.values()}
    assert keys(store) == {k for k in before if graph.nodes[k].stage != "retrain" or k in kept} < before


def test_gc_without_keep_removes_no_artifact(cli: Cli, store: Store) -> None:
    before = tiny.contents(store)
    assert cli("gc", "--yes", "--store", store.root).code == 0 and tiny.contents(store) == before


def test_gc_keeps_several_pipelines_and_the_work_on_them(cli: Cli, file: str, store: Store, graph: Graph) -> None:
    lost = graph.chains["synthetic", 0][2]
    shutil.rmtree(store.path("prune", lost))
    store.work(lost).mkdir()
    store.work("d" * 64).mkdir()
    before = keys(store)
    done = cli("gc", "--keep", file, "--keep", file, "--yes", "--store", store.root)
    assert done.code == 0 and keys(store) == before and store.work(lost).exists() and not store.work("d" * 64).exists()


def test_gc_keeps_a_stored_set_and_what_it_was_made_from(cli: Cli, file: str, store: Store, graph: Graph) -> None:
    key = graph.sets["synthetic"]
    sets = ["--set", f"distill={{other: {{name: stored, ref: {key}}}}}", "--set", "arms={real: {}}", "--set", "compare={}"]
    assert cli("gc", "--keep", file, *sets, "--yes", "--store", store.root).code == 0
    assert store.keys("distill") == [key] and store.keys("experts") == sorted(
        tiny.node_of(graph, f"expert {i}").key for i in range(2)
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "retrain"], "--only goes with --keep"),
        (["--set", "a=b"], "--set goes with --keep"),
        (["--keep", "FILE", "--only", "retain"], "unknown stage 'retain'"),
        (["--keep", "none.yaml"], "there is no pipeline file 'none.yaml'"),
        (["--keep", "FILE", "--set", "zeal=1"], "unknown key 'zeal'"),
        (["--keep", "FILE", "--set", "threads=7"], "so --keep would keep nothing of it"),
    ],
)
def test_mistakes_of_gc(cli: Cli, file: str, store: Store, arguments: list[str], said: str) -> None:
    before = keys(store)
    done = cli("gc", *[file if a == "FILE" else a for a in arguments], "--yes", "--store", store.root)
    assert done.code == 2 and said in done.err and keys(store) == before
