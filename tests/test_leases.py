"""A live run's artifacts are safe from removal; a dead run's lease is nobody's."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
import tiny

from distill_prune.errors import StoreError
from distill_prune.plan.nodes import Graph
from distill_prune.store.housekeeping import litter, removable, remove, unneeded
from distill_prune.store.leases import lease, leased
from distill_prune.store.store import STAGES, Ref, Store


def made(store: Store) -> tuple[Graph, list[Ref]]:
    graph, _ = tiny.execute(store, until="experts")
    return graph, [ref for ref in store.all() if ref.stage == "experts"]


def test_nothing_of_a_live_run_is_removed(empty: Store) -> None:
    graph, experts = made(empty)
    assert unneeded(empty, [], STAGES)
    with lease(empty, list(graph.nodes)):
        assert leased(empty) == set(graph.nodes)
        assert unneeded(empty, [], STAGES) == []
        with pytest.raises(StoreError, match="is needed by a run that is on its way"):
            removable(empty, experts[:1], with_dependents=True)
        assert [item for item in litter(empty) if item.path.name.startswith("run-")] == []
    assert leased(empty) == set() and not list((empty.root / ".runs").iterdir())
    assert len(removable(empty, experts[:1], with_dependents=True)) == 1


def test_a_run_that_begins_after_the_look_keeps_its_artifacts(empty: Store) -> None:
    graph, _ = made(empty)
    items = unneeded(empty, [], STAGES)
    with lease(empty, list(graph.nodes)):
        assert remove(empty, items) == items
    assert remove(empty, items) == []


def test_a_lease_ends_with_its_process(empty: Store) -> None:
    made(empty)
    code = (
        "import os\nfrom distill_prune.store.leases import lease\nfrom distill_prune.store.store import Store\n"
        f"with lease(Store({str(empty.root)!r}), ['a']):\n    os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 9
    assert list((empty.root / ".runs").iterdir())
    assert leased(empty) == set()
    assert not list((empty.root / ".runs").iterdir()) and not list((empty.root / ".locks").glob("run-*"))


def test_a_lease_that_is_being_written_is_left_to_its_run(empty: Store) -> None:
    aside = empty.root / ".runs" / ".run-0.json"
    aside.parent.mkdir()
    aside.write_text("[")
    assert leased(empty) == set() and aside.exists()


@pytest.mark.parametrize("content", [b"[", b"null", b'{"a": 1}', b'["a"]', b"[1]", b"[" * 100_000, b"\xff"])
def test_what_a_live_run_needs_and_nobody_can_read_is_safe(cli: tiny.Cli, empty: Store, content: bytes) -> None:
    graph, _ = made(empty)
    with lease(empty, list(graph.nodes)):
        (path,) = (empty.root / ".runs").iterdir()
        path.write_bytes(content)
        for command in (["gc", "-y"], ["rm", graph.data, "--with-dependents", "-y"]):
            done = cli(*command, "--store", empty.root)
            assert done.code == 2 and "does not say what a live run needs" in done.err, done
    assert cli("gc", "-y", "--store", empty.root).code == 0 and leased(empty) == set()


def test_a_run_holds_a_lease_while_it_makes_something(empty: Store) -> None:
    seen: list[set[str]] = []
    graph, _ = tiny.execute(empty, watch=tiny.Watch(lambda _: seen.append(leased(empty))), until="experts")
    assert seen and all(keys >= set(graph.nodes) for keys in seen) and leased(empty) == set()


def test_what_a_run_has_made_is_kept_until_it_has_said_so(
    cli: tiny.Cli, store: Store, graph: Graph, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Report and answer are read from the store after the last artifact is made."""
    pipeline, seen = tmp_path / "tiny.yaml", list[set[str]]()
    pipeline.write_text(tiny.TINY)

    def further(*_: object) -> None:
        seen.append(leased(store))

    monkeypatch.setattr(import_module("distill_prune.study.conclusion"), "further", further)
    assert cli("run", str(pipeline), "--store", store.root, "--executor", "serial").code == 0
    assert seen == [graph.keys()] and leased(store) == set() and not [*(store.root / ".runs").iterdir()]
