"""Damage that once gave other results under right keys."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tiny
import torch

from distill_prune.cli.runs import _is_current as is_current
from distill_prune.errors import DamagedArtifact, StoreError
from distill_prune.fingerprints import file_hash
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.run.worker import WorkProgress
from distill_prune.store.store import Store


def flip(path: Path, place: int) -> None:
    """One bit of a file is another one; size and time of change stay."""
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


@pytest.mark.parametrize("what", ["a bit", "zeros"])
def test_a_damaged_expert_is_made_again_before_it_is_used(what: str, empty: Store) -> None:
    graph, _ = tiny.execute(empty)
    before = tiny.contents(empty)
    expert = next(key for key, node in graph.nodes.items() if node.stage == "experts")
    for key, node in graph.nodes.items():
        if node.stage not in ("data", "experts"):
            for file in empty.path(node.stage, key).iterdir():
                file.unlink()
            empty.path(node.stage, key).rmdir()
    tensors = empty.path("experts", expert) / "tensors.safetensors"
    size = tensors.stat().st_size
    if what == "zeros":
        with tensors.open("r+b") as file:
            file.seek(size // 2)
            file.write(bytes(size - size // 2))
    else:
        flip(tensors, size - 2)
    watch = tiny.Watch()
    tiny.execute(empty, watch=watch)
    assert any("was damaged" in warning and expert[:12] in warning for warning in watch.warnings)
    assert tiny.contents(empty) == before


def test_every_bit_of_a_snapshot_counts(tmp_path: Path) -> None:
    progress = WorkProgress(tmp_path, lambda *_: None)
    tensors = {"a": torch.arange(5.0), "empty": torch.zeros(0, 3), "one": torch.tensor(True)}
    progress.save(tensors, {"step": 3})
    (file,) = tmp_path.iterdir()
    snapshot = progress.load()
    assert snapshot is not None and snapshot.numbers == {"step": 3}
    assert all(torch.equal(tensor, snapshot.tensors[name]) for name, tensor in tensors.items())
    whole = file.read_bytes()
    for place in range(8, len(whole)):
        file.write_bytes(whole)
        flip(file, place)
        loaded = progress.load()
        if loaded is not None:  # a blank of the header, which says nothing
            assert loaded.numbers == snapshot.numbers and loaded.tensors.keys() == tensors.keys(), place
            assert all(torch.equal(tensor, loaded.tensors[name]) for name, tensor in tensors.items()), place


def test_a_file_with_its_old_time_is_another_file(tmp_path: Path) -> None:
    path, remembered = tmp_path / "x.npz", dict[str, str]()
    path.write_bytes(b"one")
    os.utime(path, ns=(10**18, 10**18))
    first = file_hash(path, remembered)
    assert file_hash(path, remembered) == first and len(remembered) == 1
    path.write_bytes(b"two")
    os.utime(path, ns=(10**18, 10**18))
    second = file_hash(path, remembered)
    aside = tmp_path / "aside"
    aside.write_bytes(b"six")
    os.utime(aside, ns=(10**18, 10**18))
    aside.replace(path)
    assert len({first, second, file_hash(path, remembered)}) == 3


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_modes_follow_the_mask_of_the_user(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        store = Store(tmp_path / "store", create=True)
        tiny.execute(store, until="experts")
        WorkProgress(store.work("0" * 64), lambda *_: None).save({"a": torch.zeros(1)}, {})
    finally:
        os.umask(before)
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert len(files) > 8 and "snapshot.safetensors" in {path.name for path in files}
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in files if ".locks" not in path.parts}
    assert set(modes.values()) == {oct(0o666 & ~mask)}, modes


def test_nothing_is_written_through_a_link(empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build(tiny.pipeline(), empty)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("as it was")
    for key in graph.nodes:
        empty.work(key).symlink_to(outside)
    monkeypatch.setattr("secrets.token_hex", lambda _: "guessed")
    (empty.root / ".tags.json.guessed").symlink_to(outside / "precious")
    tiny.execute(empty)
    assert [path.name for path in outside.iterdir()] == ["precious"]
    with pytest.raises(StoreError, match="File exists"):
        empty.tag(graph.summary, "name")
    assert (outside / "precious").read_text() == "as it was"


@pytest.mark.parametrize("folder", [".work", "data", ".locks", ".damaged", "reports/tiny/figures"])
def test_a_folder_of_a_store_that_is_a_link_is_refused(
    cli: tiny.Cli, store: Store, graph: Graph, file: str, tmp_path: Path, folder: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    flip(store.path("data", graph.data) / "numbers.json", 3)
    for key in store.keys("experts"):
        shutil.rmtree(store.path("experts", key))
    for key in (*graph.sets.values(), graph.summary):
        shutil.rmtree(store.path("distill" if key != graph.summary else "compare", key))
    at = store.root / folder
    shutil.rmtree(at, ignore_errors=True)
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(outside)
    done = cli("run", file, "--executor", "serial", "--store", store.root)
    assert done.code == 2 and f"'{at}' is a link, and nothing in a store is written through one" in done.err, done
    assert list(outside.iterdir()) == []


ODD = [b"", b"null", b"[1]", b'{"files": {}}', b'{"a": 1}', b"[" * 100_000, b'{"a": NaN}', b"\xff", b'["\\ud800"]', b"1" * 5000]


@pytest.mark.parametrize("content", ODD)
def test_odd_memories_are_written_anew(empty: Store, content: bytes) -> None:
    path = empty.root / "fingerprints.json"
    path.write_bytes(content)
    key = build(tiny.pipeline(), empty).data
    assert build(tiny.pipeline(), empty).data == key and build(tiny.pipeline(), Store(empty.root / "none")).data == key


@pytest.mark.parametrize("name", ["manifest.json", "numbers.json"])
def test_an_odd_document_of_an_artifact_is_damage(
    cli: tiny.Cli, store: Store, graph: Graph, file: str, tmp_path: Path, name: str
) -> None:
    """Of any content and size; and whatever stands in its place."""
    whole, where, key = tiny.contents(store), ("--store", store.root), graph.summary
    path = store.path("compare", key) / name
    known = path.read_bytes()
    for content in ODD:
        path.write_bytes(content)
        assert "1 damaged" in cli("verify", key, *where).out
        assert cli("ls", *where).out.count("DAMAGED") == (name == "manifest.json")
        shown = cli("show", key, *where)
        assert shown.code == 1 and f"damaged artifact compare/{key[:12]}" in shown.err
        assert cli("plan", file, *where).code == cli("gc", "--dry-run", *where).code == 0
    with path.open("wb") as large:
        large.truncate(100 * 2**20)
    assert "1 damaged" in cli("verify", key, *where).out and not store.sound("compare", key)
    path.unlink()
    os.mkfifo(path)
    assert "1 damaged" in cli("verify", key, *where).out and not store.sound("compare", key)
    path.unlink()
    path.write_bytes(known[:-1])
    tiny.execute(store)
    assert tiny.contents(store) == whole


def test_a_memory_of_files_is_written_anew(cli: tiny.Cli, empty: Store, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", x=np.arange(200 * 64, dtype=np.uint8).reshape(200, 8, 8), y=np.arange(200) % 10)
    arguments = ("plan", "digits.yaml", "--set", f"data={{name: npz, path: {tmp_path / 'x.npz'}}}", "--store", empty.root)
    for content in ODD:
        (empty.root / "fingerprints.json").write_bytes(content)
        done = cli(*arguments)
        assert done.code == 0, done
        known = json.loads((empty.root / "fingerprints.json").read_bytes())
        assert [len(sha256) for sha256 in known.values()] == [64]


@pytest.mark.parametrize("content", [*ODD, b'["a"]', b'{"made_of": ["a"], "files": "a"}'])
def test_an_odd_mark_of_a_report_is_no_report(content: bytes, tmp_path: Path) -> None:
    (tmp_path / ".made-of.json").write_bytes(content)
    assert not is_current(tmp_path, "stamp")
    (tmp_path / ".made-of.json").write_text('{"made_of": "stamp", "pipeline": "tiny", "files": []}')
    assert is_current(tmp_path, "stamp")


def test_what_vanishes_while_it_is_read_is_damage(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    graph, _ = tiny.execute(empty, until="experts")
    key = next(key for key, node in graph.nodes.items() if node.stage == "experts")
    checked = empty.check("experts", key)

    def gone(*_: object, **__: object) -> object:
        (empty.path("experts", key) / "tensors.safetensors").unlink()
        return checked

    monkeypatch.setattr(empty, "check", gone)
    with pytest.raises(DamagedArtifact):
        empty.read("experts", key)


def test_a_store_in_the_home_folder(cli: tiny.Cli, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert cli("data", file, "--store=~/here", "--executor", "serial").code == 0
    assert (tmp_path / "home" / "here" / "data").is_dir() and not (tmp_path / "~").exists()
    assert json.loads(cli("plan", file, "--store=~/here", "--json").out)["artifacts"][0]["status"] == "hit"


def test_repair_moves_aside_what_no_run_would_read(cli: tiny.Cli, file: str, empty: Store) -> None:
    graph, _ = tiny.execute(empty)
    before = tiny.contents(empty)
    key = next(key for key, node in graph.nodes.items() if node.stage == "retrain")
    flip(empty.path("retrain", key) / "tensors.safetensors", -1)
    found = cli("verify", "--store", empty.root)
    assert found.code == 1 and "1 damaged; the next run makes again those that it reads; after --repair" in found.out
    assert tiny.execute(empty)[1].made == 0  # its results are there
    repaired = cli("verify", "--repair", "--store", empty.root)
    assert repaired.code == 0 and "1 damaged, 1 moved to" in repaired.out and not empty.exists("retrain", key)
    assert "0 damaged" in cli("verify", "--repair", "--store", empty.root).out
    tiny.execute(empty)
    assert {name for name in before if key not in name} == set(tiny.contents(empty))
