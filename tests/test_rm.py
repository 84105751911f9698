"""`rm`: what was asked to go and nothing else, whole or not at all, and never from under somebody's hands."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny
from reference_housekeeping import at_terminal, keys
from tiny import Cli

from distill_prune.errors import StoreError
from distill_prune.plan.nodes import Graph
from distill_prune.store.housekeeping import litter, removable, remove, remove_all, size
from distill_prune.store.store import Ref, Store
from distill_prune.terminal import size as size_in_words

terminal = pytest.fixture(at_terminal)


def made_from(store: Store, root: str) -> set[str]:
    """The slow twin: everything that has `root` behind it, by asking every artifact again until nothing is new."""
    inputs = {r.key: set(store.manifest(r.stage, r.key).inputs.values()) for r in store.all()}
    found = {root}
    for _ in inputs:
        found |= {k for k, used in inputs.items() if used & found}
    return found


def files(store: Store) -> dict[str, int]:
    return {str(p): p.lstat().st_ino for p in sorted(store.root.rglob("*"))}


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
    assert done.code == 0 and f"{len(gone)} artifacts (" in done.out and done.out.rstrip().endswith("deleted")
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
    assert done.code == 0 and done.out.endswith("deleted\n") and "2 artifacts (" in done.out
    assert not keys(store) & set(pair)


def test_rm_dry_run_leaves_all(cli: Cli, store: Store, graph: Graph) -> None:
    before = files(store)
    done = cli("rm", graph.summary[:12], "--dry-run", "--store", store.root)
    bytes_ = size(store.path("compare", graph.summary))
    assert done.code == 0 and f"compare  {graph.summary[:12]} " in done.out and "summary" in done.out
    assert f"1 artifact ({size_in_words(bytes_)}) would be deleted" in done.out and files(store) == before


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1)])
def test_rm_asks_at_a_terminal(cli: Cli, store: Store, graph: Graph, terminal: Any, answer: str, code: int) -> None:
    terminal(answer)
    done = cli("rm", graph.summary, "--store", store.root)
    assert done.code == code and ("nothing was deleted" in done.out) == bool(code)
    assert store.has("compare", graph.summary) == bool(code)


def test_rm_does_not_ask_where_nobody_answers(cli: Cli, store: Store, graph: Graph) -> None:
    done = cli("rm", graph.summary, "--store", store.root)
    assert done.code == 2 and "nothing is deleted without a confirmation" in done.err and "--yes, or --dry-run" in done.err
    assert store.has("compare", graph.summary)


def test_rm_of_an_unknown_ref(cli: Cli, empty: Store) -> None:
    done = cli("rm", "feedbeef", "--yes", "--store", empty.root)
    assert done.code == 2 and "no artifact in this store matches 'feedbeef'" in done.err


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
