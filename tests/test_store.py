"""The store under attack: half writes, damage, hostile files, two writers, no space."""

from __future__ import annotations

import errno
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import tiny
import torch
from tiny import flip

from distill_prune.artifacts import Parts
from distill_prune.errors import DamagedArtifact, RunError, StoreError
from distill_prune.plan.nodes import Graph
from distill_prune.run.events import Busy, Hit, Made
from distill_prune.run.worker import Worker
from distill_prune.store.manifest import Provenance
from distill_prune.store.store import MANIFEST, NUMBERS, TENSORS, Store


def head(number: int = 0) -> Provenance:
    """The manifest of an artifact that stands for nothing, without its files."""
    return tiny.provenance("data", {"number": number})


PARTS = Parts({"a": torch.arange(6.0).view(2, 3)}, {"one": 1 / 3})


def published(store: Store) -> str:
    store.write(head(), PARTS)
    return head().key


# writing


def test_what_is_written_is_read(empty: Store) -> None:
    key = published(empty)
    back = empty.read("data", key)
    assert torch.equal(back.tensors["a"], PARTS.tensors["a"]) and back.numbers == PARTS.numbers
    assert empty.has("data", key) and empty.keys("data") == [key] and empty.numbers("data", key) == PARTS.numbers
    assert sorted(p.name for p in empty.path("data", key).iterdir()) == [MANIFEST, NUMBERS, TENSORS]
    assert not empty.work(key).exists()


def test_files_are_readable_by_a_stranger(empty: Store) -> None:
    from safetensors.numpy import load_file

    folder = empty.path("data", published(empty))
    assert load_file(folder / TENSORS)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert json.loads((folder / NUMBERS).read_text()) == {"one": 1 / 3}
    files = json.loads((folder / MANIFEST).read_text())["files"]
    assert {n: f["size"] for n, f in files.items()} == {n: (folder / n).stat().st_size for n in (NUMBERS, TENSORS)}


def test_loaded_tensors_do_not_hang_on_the_file(empty: Store) -> None:
    key = published(empty)
    loaded = empty.read("data", key).tensors["a"]
    (empty.path("data", key) / TENSORS).write_bytes(b"\0" * 1000)
    assert torch.equal(loaded, PARTS.tensors["a"])


def test_everything_is_flushed_before_the_rename(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    sync, rename = os.fsync, Path.rename

    def fsync(handle: int) -> None:
        order.append(Path(f"/proc/self/fd/{handle}").readlink().name)
        sync(handle)

    def renamed(self: Path, target: Path) -> Path:
        order.append("rename")
        return rename(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    published(empty)
    assert order == [TENSORS, NUMBERS, MANIFEST, "publish", "rename", "data"]


@pytest.mark.parametrize("name", ["save_file", "fsync", "rename"])
def test_full_disk_leaves_nothing_half_written(empty: Store, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def full(*_: object) -> None:
        if name == "save_file":
            Path(str(_[1])).write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        place = {"save_file": "safetensors.torch.save_file", "fsync": "os.fsync", "rename": "pathlib.Path.rename"}[name]
        patch.setattr(place, full)
        with pytest.raises(RunError, match=r"(?s)could not be written to .*No space left on device.*make room on the disk"):
            published(empty)
    assert empty.keys("data") == [] and not [p for p in (empty.root / ".work").rglob("*") if p.is_file()]
    assert empty.has("data", published(empty))


def test_full_disk_fails_a_run_and_keeps_the_rest(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    from safetensors import torch as safetensors

    kept = safetensors.save_file

    def full(tensors: dict[str, torch.Tensor], path: Path, *more: object) -> None:
        if "checkpoints" in tensors:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        kept(tensors, path)

    with monkeypatch.context() as patch:
        patch.setattr(safetensors, "save_file", full)
        with pytest.raises(RunError, match=r"(?s)experts .* could not be written.*No space left"):
            tiny.execute(empty, until="distill")
    assert len(empty.keys("data")) == 1 and empty.keys("experts") == [] and tiny.damaged(empty) == []


def test_an_artifact_is_never_overwritten(store: Store, graph: Graph) -> None:
    node = tiny.node_of(graph, "set subset")
    folder = store.path("distill", node.key)
    before = {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir()}
    assert Worker(store, "cpu").make([node], lambda event: None)[0] == Hit(node.key)
    assert {p.name: (p.stat().st_ino, p.stat().st_mtime_ns) for p in folder.iterdir()} == before


# locks


def test_one_lock_a_key(empty: Store) -> None:
    with empty.lock("k" * 64) as mine, Store(empty.root).lock("k" * 64) as other, empty.lock("j" * 64) as free:
        assert (mine, other, free) == (True, False, True)
    with empty.lock("k" * 64) as mine:
        assert mine


def test_a_busy_key_is_not_computed(store: Store, graph: Graph) -> None:
    node = tiny.node_of(graph, "set subset")
    shutil.rmtree(store.path("distill", node.key))
    with Store(store.root).lock(node.key):
        assert Worker(store, "cpu").make([node], lambda event: None)[0] == Busy(node.key)
    assert isinstance(Worker(store, "cpu").make([node], lambda event: None)[0], Made)


def test_the_lock_of_a_killed_owner_is_free(empty: Store) -> None:
    code = (
        "import sys, time; from distill_prune.store.store import Store\n"
        "with Store(sys.argv[1]).lock('k') as mine: print(mine, flush=True); time.sleep(60)"
    )
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen([sys.executable, "-c", code, str(empty.root)], stdout=subprocess.PIPE, text=True, cwd=root) as owner:
        assert owner.stdout is not None and owner.stdout.readline() == "True\n"
        with empty.lock("k") as mine:
            assert not mine
        owner.send_signal(signal.SIGKILL)
    end = time.monotonic() + 5
    while time.monotonic() < end:
        with empty.lock("k") as mine:
            if mine:
                return
    pytest.fail("the lock outlived its owner")


# damage


def truncate(folder: Path) -> None:
    path = folder / TENSORS
    path.write_bytes(path.read_bytes()[:-1])


def other_manifest(folder: Path) -> None:
    manifest = json.loads((folder / MANIFEST).read_text())
    (folder / MANIFEST).write_bytes(tiny.resealed({**manifest, **head(1).model_dump(include={"key", "settings"})}))


def mangled(**changes: object) -> Any:
    def change(folder: Path) -> None:
        manifest = {**json.loads((folder / MANIFEST).read_text()), **changes}
        (folder / MANIFEST).write_text(json.dumps({name: value for name, value in manifest.items() if name != "seal"}))

    return change


class Hostile:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {tiny.EXECUTED}",)


def pickled(folder: Path, *, cover: bool) -> None:
    """A pickle that executes a command, in place of the tensors; with `cover`, the manifest vouches for it."""
    from distill_prune.store.disk import file_digest

    path = folder / TENSORS
    path.write_bytes(pickle.dumps(Hostile()))
    if cover:
        manifest = json.loads((folder / MANIFEST).read_text())
        manifest["files"][TENSORS] = {"sha256": file_digest(path), "size": path.stat().st_size}
        (folder / MANIFEST).write_bytes(tiny.resealed(manifest))


DAMAGE: dict[str, tuple[Any, str]] = {
    "truncated": (truncate, "tensors.safetensors: .* bytes, expected"),
    "wrong hash": (lambda f: flip(f / TENSORS), "tensors.safetensors: wrong sha256"),
    "wrong numbers": (lambda f: flip(f / NUMBERS), "numbers.json: wrong sha256"),
    "file missing": (lambda f: (f / NUMBERS).unlink(), "numbers.json: -1 bytes"),
    "manifest missing": (lambda f: (f / MANIFEST).unlink(), "manifest: .*No such file"),
    "manifest cut": (lambda f: (f / MANIFEST).write_text('{"key": '), "manifest: "),
    "manifest of another key": (other_manifest, "does not belong to the key"),
    "manifest without sizes": (mangled(files={TENSORS: {}}), "manifest: "),
    "manifest of a list": (lambda f: (f / MANIFEST).write_text("[]"), "manifest: "),
    "inputs of nothing": (mangled(inputs=None), "does not belong to the key"),
    "settings that are no JSON": (mangled(settings=float("nan")), "does not belong to the key"),
    "hostile pickle": (lambda f: pickled(f, cover=False), "tensors.safetensors: "),
    "hostile pickle, vouched for": (lambda f: pickled(f, cover=True), "header"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_and_nothing_executed(empty: Store, kind: str) -> None:
    harm, reason = DAMAGE[kind]
    tiny.EXECUTED.unlink(missing_ok=True)
    key = published(empty)
    harm(empty.path("data", key))
    with pytest.raises(DamagedArtifact, match=f"damaged artifact data/{key[:12]}: .*{reason}"):
        empty.read("data", key)
    assert not tiny.EXECUTED.exists()


def test_a_file_that_no_manifest_names_is_damage(empty: Store) -> None:
    empty.write(head(), Parts({}, {"one": 1}))
    folder = empty.path("data", head().key)
    (folder / ".DS_Store").touch()  # the system's, not the artifact's
    assert empty.sound("data", head().key)
    pickled(folder, cover=False)
    with pytest.raises(DamagedArtifact, match=f"{TENSORS}: not listed in the manifest"):
        empty.read("data", head().key)


def test_a_file_that_is_dropped_from_the_manifest_is_seen(empty: Store) -> None:
    """In a manifest of an older version, too, which no seal covers."""
    folder = empty.path("data", published(empty))
    manifest = json.loads((folder / MANIFEST).read_text())
    del manifest["seal"], manifest["files"][TENSORS]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(DamagedArtifact, match=f"{TENSORS}: not listed in the manifest"):
        empty.check("data", head().key)


def test_what_is_shown_is_covered(cli: tiny.Cli, empty: Store) -> None:
    path = empty.path("data", published(empty)) / MANIFEST
    path.write_text(path.read_text().replace('"label": "nothing"', '"label": "anything"'))
    done = cli("verify", "--store", empty.root)
    assert done.code == 1 and "1 checked, 1 damaged" in done.out and "its seal is another" in done.out
    assert "DAMAGED: manifest: it has been changed" in cli("ls", "--store", empty.root).out


def test_a_truncated_trajectory_is_refused(store: Store, graph: Graph) -> None:
    node = tiny.node_of(graph, "expert 0")
    whole = store.trajectory(node.key)
    assert len(whole.checkpoints) == 4 and whole.checkpoints[3].shape == whole.checkpoints[0].shape
    truncate(store.path("experts", node.key))
    with pytest.raises(DamagedArtifact, match=r"tensors.safetensors: .* bytes, expected"):
        store.trajectory(node.key)


@pytest.mark.parametrize(
    "harm", [truncate, lambda f: flip(f / TENSORS), lambda f: pickled(f, cover=True)], ids=["truncated", "wrong hash", "pickle"]
)
@pytest.mark.parametrize("label", ["dense seed 0", "data"])
def test_a_damaged_input_is_moved_and_made_again_with_one_warning(store: Store, graph: Graph, harm: Any, label: str) -> None:
    whole, node = tiny.contents(store), tiny.node_of(graph, label)
    for key in store.keys("retrain"):
        shutil.rmtree(store.path("retrain", key))
    harm(store.path(node.stage, node.key))
    watch = tiny.Watch()
    tiny.execute(store, until="retrain", watch=watch)  # the first to read it
    assert len(watch.warnings) == 1 and node.key[:12] in watch.warnings[0] and ".damaged" in watch.warnings[0]
    assert [p.name for p in (store.root / ".damaged").iterdir()] == [f"{node.stage}-{node.key}-0"]
    assert tiny.contents(store) == whole


def test_damage_that_several_workers_meet_is_one_warning(store: Store, graph: Graph) -> None:
    whole = tiny.contents(store)
    for key in store.keys("retrain"):
        shutil.rmtree(store.path("retrain", key))
    flip(store.path("data", graph.data) / TENSORS)
    watch = tiny.Watch()
    tiny.execute(store, until="retrain", executor="processes", workers=2, watch=watch)
    assert len(watch.warnings) == 1, watch.warnings
    assert tiny.contents(store) == whole


@pytest.mark.parametrize("label", ["summary", "curvature of dense seed 0"])
def test_a_damaged_result_is_made_again(store: Store, graph: Graph, label: str) -> None:
    """Of the same size, so that only its hash tells."""
    whole, node = tiny.contents(store), tiny.node_of(graph, label)
    flip(store.path("compare", node.key) / NUMBERS)
    watch = tiny.Watch()
    tiny.execute(store, watch=watch)
    assert tiny.contents(store) == whole and [n.label for n in watch.made] == [label]
    assert len(watch.warnings) == 1 and node.key[:12] in watch.warnings[0]


# stores that cannot be used


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(StoreError, match=r"(?s)is a file.*a folder.*another --store"):
        Store(path)
    with pytest.raises(StoreError, match=r"(?s)cannot be made.*Not a directory"):
        Store(path / "below", create=True)


def test_a_folder_that_is_there_is_left_as_it_is(tmp_path: Path) -> None:
    """A store is made where something is first written: it may be on a disk that is read-only."""
    store = Store(tmp_path, create=True)
    assert list(tmp_path.iterdir()) == [] and list(store.all()) == [] and store.tags() == {}
    key = head().key
    with store.lock(key) as mine:
        assert mine
        store.write(head(), PARTS)
    assert store.sound("data", key) and {p.name for p in tmp_path.iterdir()} == {".locks", ".work", "data"}
