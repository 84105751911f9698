"""Damage that size alone does not show, and disks that fill up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny
import torch
from safetensors import SafetensorError

from distill_prune.artifacts import Parts
from distill_prune.errors import RunError, StoreError
from distill_prune.plan.nodes import Graph
from distill_prune.run.worker import WorkProgress
from distill_prune.store.manifest import Provenance
from distill_prune.store.store import NUMBERS, TENSORS, Store
from distill_prune.study.study import read


def flip(path: Path) -> None:
    """Change the last byte, keeping the size."""
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(bytes(raw))


def test_a_report_without_a_ticket_shows_the_others(store: Store, graph: Graph) -> None:
    arms = {share["arm"] for share in read("tiny", graph, store).shares}
    shutil.rmtree(store.path("prune", graph.chains["synthetic", 0][2]))
    assert {share["arm"] for share in read("tiny", graph, store).shares} == arms - {"synthetic"}


def test_a_damaged_set_behind_hits_is_missing_in_the_report_and_made_again(store: Store, graph: Graph) -> None:
    before = tiny.contents(store)
    flip(store.path("distill", graph.sets["synthetic"]) / TENSORS)
    shown = [(of_set.name, of_set.labels) for of_set in read("tiny", graph, store).pictures]
    assert shown == [("subset", [*range(10)])]  # the other set is shown, and nothing fails
    watch = tiny.Watch()
    _, report = tiny.execute(store, watch=watch)
    assert report.made == 1 and len(watch.warnings) == 1 and "is damaged" in watch.warnings[0]
    assert tiny.contents(store) == before


def test_damaged_numbers_of_an_expert_are_met_when_it_is_read(store: Store, graph: Graph) -> None:
    before = tiny.contents(store)
    expert = tiny.node_of(graph, "expert 0")
    flip(store.path("experts", expert.key) / NUMBERS)
    shutil.rmtree(store.path("distill", graph.sets["synthetic"]))
    watch = tiny.Watch()
    tiny.execute(store, watch=watch)
    assert {n.label for n in watch.made} == {"expert 0", "set synthetic"} and len(watch.warnings) == 1
    assert tiny.contents(store) == before


def full(*_: object, **__: object) -> None:
    raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


def test_a_full_disk_under_safetensors_is_named(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(RunError, match=r"(?s)could not be written to .*No space left on device.*make room on the disk"):
        tiny.execute(empty, until="data")
    assert not list(empty.keys("data")) and not list((empty.root / ".work").rglob("publish"))


def test_a_snapshot_that_cannot_be_kept_does_not_end_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = WorkProgress(tmp_path, lambda *_: None, save_seconds=0.0)
    monkeypatch.setattr("distill_prune.run.worker.save_file", full)
    progress.save({"x": torch.ones(2)}, {})
    assert progress.load() is None


def test_a_snapshot_of_another_device_is_left_alone(tmp_path: Path) -> None:
    WorkProgress(tmp_path, lambda *_: None, "cuda:0").save({"x": torch.ones(2)}, {"step": 1})
    assert WorkProgress(tmp_path, lambda *_: None, "cpu").load() is None
    kept = WorkProgress(tmp_path, lambda *_: None, "cuda:1").load()
    assert kept is not None and kept.numbers == {"step": 1}


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_a_store_that_nobody_made_is_named(tmp_path: Path, executor: str) -> None:
    """Looking into it finds nothing; making something in it would end in advice about the disk."""
    store = Store(tmp_path / "nowhere")
    assert list(store.all()) == [] and store.tags() == {}
    with pytest.raises(StoreError, match=r"(?s)the store '.*nowhere' is not there.*Store\(path, create=True\)"):
        tiny.execute(store, until="data", executor=executor)
    with pytest.raises(StoreError, match="nowhere' is not there"), store.lock("0" * 64):
        pass
    assert not store.root.exists()


def test_an_empty_folder_can_be_a_store(tmp_path: Path) -> None:
    _, report = tiny.execute(Store(tmp_path), until="data")
    assert report.made == 1 and tiny.damaged(Store(tmp_path)) == []


def test_what_was_made_from_a_damaged_input_goes_with_it(store: Store, empty: Store) -> None:
    """The damage may be older than the artifact: here the ticket that was made from it is another one, with right hashes."""
    labels = ("dense seed 0", "real seed 0 level 1")
    dense, ticket = (tiny.node_of(tiny.build(tiny.pipeline(), empty), label) for label in labels)

    def damage(_: int) -> None:
        if watch.made[-1].key != ticket.key or len({n.key for n in watch.made}) < len(watch.made):
            return
        parts, manifest = empty.read("prune", ticket.key), empty.manifest("prune", ticket.key)
        shutil.rmtree(empty.path("prune", ticket.key))
        wrong = {name: t.flip(0) if t.dtype == torch.bool else t for name, t in parts.tensors.items()}
        empty.write(Provenance.model_validate(manifest.model_dump(exclude={"files"})), Parts(wrong, parts.numbers))
        flip(empty.path("prune", dense.key) / TENSORS)

    watch = tiny.Watch(damage)
    tiny.execute(empty, watch=watch)
    assert any(ticket.label in warning and "was made from it" in warning for warning in watch.warnings)
    assert tiny.contents(empty) == tiny.contents(store)


def test_work_begun_from_a_damaged_input_is_begun_anew(store: Store, empty: Store) -> None:
    """A snapshot of a run that was stopped was computed from what is found damaged now."""
    graph, _ = tiny.execute(empty, until="experts")
    synthetic, expert = graph.nodes[graph.sets["synthetic"]], tiny.node_of(graph, "expert 0")
    WorkProgress(empty.work(synthetic.key), lambda *_: None).save({"images": torch.ones(2)}, {"iteration": 1})
    flip(empty.path("experts", expert.key) / TENSORS)
    watch = tiny.Watch()
    tiny.execute(empty, watch=watch)
    assert sum("was damaged" in warning for warning in watch.warnings) == 1
    assert tiny.contents(empty) == tiny.contents(store)
