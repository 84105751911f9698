"""What leaves a store: what was asked to go and nothing else, whole or not at all, and never from under somebody's hands."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
from tiny import Cli

from distill_prune.errors import StoreError
from distill_prune.pipeline import housekeeping
from distill_prune.pipeline.housekeeping import litter, removable, remove, remove_all, size
from distill_prune.pipeline.nodes import Graph
from distill_prune.pipeline.store import NUMBERS, Ref, Store

ROOT = Path(__file__).resolve().parent.parent


def keys(store: Store) -> set[str]:
    return {r.key for r in store.all()}


def made_from(store: Store, root: str) -> set[str]:
    """The slow twin: everything that has `root` behind it, by asking every artifact again until nothing is new."""
    inputs = {r.key: set(store.manifest(r.stage, r.key)["inputs"].values()) for r in store.all()}
    found = {root}
    for _ in inputs:
        found |= {k for k, used in inputs.items() if used & found}
    return found


def files(store: Store) -> dict[str, int]:
    return {str(p): p.lstat().st_ino for p in sorted(store.root.rglob("*"))}


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Somebody at a terminal who gives an answer."""

    def answer(text: str) -> None:
        import io

        class Terminal(io.StringIO):
            def isatty(self) -> bool:
                return True

        monkeypatch.setattr("sys.stdin", Terminal(text))

    return answer


# rm


def test_rm_refuses_what_others_were_made_from(cli: Cli, store: Store, graph: Graph) -> None:
    before = files(store)
    node = tiny.node_of(graph, "synthetic seed 0 level 1")
    done = cli("rm", node.key[:12], "--yes", "--store", store.root)
    assert done.code == 2 and files(store) == before
    count = len(made_from(store, node.key)) - 1
    assert f"{count} other artifacts of the store were made from what is to be removed" in done.err
    assert f"got:      prune {graph.chains['synthetic', 0][2][:12]} (synthetic seed 0 level 2), " in done.err
    assert f" and {count - 3} more" in done.err and "--with-dependents removes them too" in done.err


def test_rm_with_dependents_removes_just_them(cli: Cli, store: Store, graph: Graph) -> None:
    node, whole = tiny.node_of(graph, "synthetic seed 0 level 1"), tiny.contents(store)
    gone, before = made_from(store, node.key), keys(store)
    store.tag(node.key, "mine")
    store.tag(graph.sets["synthetic"], "set")
    done = cli("rm", "mine", "--with-dependents", "--yes", "--store", store.root)
    assert done.code == 0 and f"{len(gone)} artifacts, " in done.out and done.out.rstrip().endswith("removed")
    assert keys(store) == before - gone and store.tags() == {"set": graph.sets["synthetic"]}
    assert tiny.damaged(store) == [] and list((store.root / ".work").iterdir()) == []
    assert tiny.contents(store).items() <= whole.items()
    tiny.execute(store)
    assert tiny.contents(store) == whole


def test_what_is_made_from_others_goes_first(store: Store, graph: Graph) -> None:
    ordered = [i.ref.key for i in removable(store, [Ref("data", graph.data)], with_dependents=True) if i.ref]
    assert set(ordered) == keys(store)
    for i, key in enumerate(ordered):
        assert not made_from(store, key) - {key} & set(ordered[i:])
        shutil.rmtree(store.path(graph.nodes[key].stage, key))


def test_several_that_hang_together_are_no_dependents_of_each_other(cli: Cli, store: Store, graph: Graph) -> None:
    pair = [tiny.node_of(graph, n).key for n in ("accuracy of dense seed 0", "summary")]
    done = cli("rm", *pair, pair[0][:20], "--yes", "--store", store.root)
    assert done.code == 0 and done.out.endswith("removed\n") and "2 artifacts, " in done.out
    assert not keys(store) & set(pair)


def test_rm_dry_run_leaves_all(cli: Cli, store: Store, graph: Graph) -> None:
    before = files(store)
    done = cli("rm", graph.summary[:12], "--dry-run", "--store", store.root)
    bytes_ = size(store.path("compare", graph.summary))
    assert done.code == 0 and f"compare  {graph.summary[:12]} " in done.out and "summary" in done.out
    assert f"1 artifacts, {bytes_ / 1e6:.2f} MB, would go" in done.out and files(store) == before


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_rm_asks_at_a_terminal(cli: Cli, store: Store, graph: Graph, terminal: Any, answer: str, code: int) -> None:
    terminal(answer)
    done = cli("rm", graph.summary, "--store", store.root)
    assert done.code == code and ("nothing was removed" in done.out) == bool(code)
    assert store.has("compare", graph.summary) == bool(code)


def test_rm_does_not_ask_where_nobody_answers(cli: Cli, store: Store, graph: Graph) -> None:
    done = cli("rm", graph.summary, "--store", store.root)
    assert done.code == 2 and "nothing is removed unasked" in done.err and "--yes, or --dry-run" in done.err
    assert store.has("compare", graph.summary)


def test_rm_of_an_unknown_ref(cli: Cli, empty: Store) -> None:
    done = cli("rm", "feedbeef", "--yes", "--store", empty.root)
    assert done.code == 2 and "'feedbeef' names no artifact of the store" in done.err


def test_rm_refuses_what_is_being_worked_on(cli: Cli, store: Store, graph: Graph) -> None:
    node = tiny.node_of(graph, "synthetic seed 0 level 1")
    before = keys(store)
    with Store(store.root).lock(graph.chains["synthetic", 0][2]):
        done = cli("rm", node.key, "--with-dependents", "--yes", "--store", store.root)
    assert done.code == 2 and keys(store) == before
    assert f"prune {graph.chains['synthetic', 0][2][:12]} is being worked on by another process" in done.err


def test_what_becomes_busy_on_the_way_stays_with_all_that_it_was_made_from(store: Store, graph: Graph) -> None:
    node = tiny.node_of(graph, "synthetic seed 0 level 2")
    items = removable(store, [Ref("prune", node.key)], with_dependents=True)
    copy = tiny.node_of(graph, "synthetic seed 0 level 2 copy 0")
    with (
        Store(store.root).lock(copy.key),
        pytest.raises(StoreError, match=f"(?s)retrain {copy.key[:12]} is being worked on.*wait until that run has ended"),
    ):
        remove_all(store, items)
    assert store.has("prune", node.key) and store.has("retrain", copy.key) and not store.exists("compare", graph.summary)
    assert tiny.damaged(store) == []


def test_damage_can_be_removed(cli: Cli, store: Store, graph: Graph) -> None:
    (store.path("compare", graph.summary) / "manifest.json").write_text("{")
    done = cli("rm", graph.summary[:12], "--yes", "--store", store.root)
    assert done.code == 0 and "damaged" in done.out and not store.exists("compare", graph.summary)


@pytest.mark.parametrize("dies_at", ["rename", "rmtree"])
def test_a_death_on_the_way_leaves_it_whole_or_gone(
    store: Store, graph: Graph, monkeypatch: pytest.MonkeyPatch, dies_at: str
) -> None:
    whole, summary = tiny.contents(store), Ref("compare", graph.summary)

    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(*{"rename": (Path, "rename", dies), "rmtree": (shutil, "rmtree", dies)}[dies_at])
        with pytest.raises(KeyboardInterrupt):
            remove_all(store, removable(store, [summary], with_dependents=False))
    assert store.sound("compare", summary.key) == (dies_at == "rename")
    assert store.exists("compare", summary.key) == (dies_at == "rename") and tiny.damaged(store) == []
    tiny.execute(store)
    assert tiny.contents(store) == whole and remove(store, litter(store)) == []


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
    with Store(store.root).lock(alive):
        told = cli("gc", "--dry-run", "--store", store.root)
        assert told.code == 0 and told.out.endswith("would go\n") and store.work(dead).exists()
        assert f"unfinished {dead[:21]}      0.00 MB  resumes where its run was stopped\n" in told.out
        done = cli("gc", "--yes", "--json", "--store", store.root)
        assert store.work(alive).exists() and (store.root / ".locks" / alive).exists()
    found = json.loads(done.out)
    by_kind: dict[str, set[str]] = {}
    for record in found["removed"]:
        by_kind.setdefault(record["kind"], set()).add(record["path"])
    assert by_kind["unfinished"] == {f".work/{dead}"} and by_kind["damaged"] == {f".damaged/compare-{graph.summary}-0"}
    assert by_kind["file"] == {"reports/tiny/.report-old", "reports/tiny/..made-of.json.1", ".tags.json.77"}
    assert f".locks/{'e' * 64}" in by_kind["lock"] and set(by_kind) == {"unfinished", "damaged", "file", "lock"}
    assert found["busy"] == [] and found["dry_run"] is False
    assert next(r["bytes"] for r in found["removed"] if r["kind"] == "unfinished") == 1000
    assert [p.name for p in (store.root / ".locks").iterdir()] == [alive]
    assert sorted(p.name for p in reports.iterdir()) == [".report-new", "report.html"]
    assert set(tiny.contents(store)) == {n for n in whole if graph.summary not in n}


def test_gc_of_a_tidy_store_asks_nothing(cli: Cli, empty: Store) -> None:
    done = cli("gc", "--store", empty.root)
    assert (done.code, done.out) == (0, "0 things, 0.00 MB, removed\n")


def test_gc_asks(cli: Cli, store: Store, terminal: Any) -> None:
    store.work("d" * 64).mkdir()
    done = cli("gc", "--store", store.root)
    assert done.code == 2 and "nothing is removed unasked" in done.err and store.work("d" * 64).exists()
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


# the house


def test_sizes_do_not_follow_links(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c").write_bytes(b"x" * 7)
    (tmp_path / "big").write_bytes(b"x" * 1000)
    (tmp_path / "a" / "link").symlink_to(tmp_path / "big")
    assert size(tmp_path / "a") == 7 + len(str(tmp_path / "big")) and size(tmp_path / "big") == 1000


def test_removing_does_not_import_torch(store: Store, graph: Graph, tmp_path: Path) -> None:
    where, file = ["--store", str(store.root)], str(tmp_path / "set.tar")
    commands = [
        ["rm", graph.summary, "--yes", *where],
        ["gc", "--yes", *where],
        ["pack", graph.sets["synthetic"], "-o", file, *where],
        ["unpack", file, "--store", str(tmp_path / "new")],
        *([c, "--help"] for c in ("rm", "gc", "pack", "unpack", "diff", "schema")),
    ]
    code = (
        "import sys, json\nfrom distill_prune.cli import main\nfor arguments in json.loads(sys.argv[1]):\n"
        "    sys.argv = ['distill-prune', *arguments]\n    try:\n        main()\n    except SystemExit as end:\n"
        "        assert not end.code, (arguments, end.code)\n"
        "    heavy = {'torch', 'sklearn', 'scipy', 'matplotlib', 'numpy'} & set(sys.modules)\n"
        "    assert not heavy, (arguments, heavy)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(commands)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Example:  distill-prune ") == 6


def test_half_written_files_need_their_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = store.root / ".fingerprints.json.9"
    path.write_text("{")
    assert path not in {i.path for i in litter(store)}
    old(path, housekeeping.LEFT_SECONDS + 60)
    assert path in {i.path for i in litter(store)}
    assert (store.path("data", store.keys("data")[0]) / NUMBERS).exists()
