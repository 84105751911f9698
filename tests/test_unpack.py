"""Files that are not what they say: nothing is written for them. And disks that cannot take what is."""

from __future__ import annotations

import copy
import errno
import hashlib
import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from test_archive import members, publish
from tiny import Cli

from distill_prune.errors import RunError, UserError
from distill_prune.store import unpack as unpacking
from distill_prune.store.archive import INDEX, PIPELINE, pack
from distill_prune.store.store import MANIFEST, NUMBERS, TENSORS, Store
from distill_prune.store.unpack import examine, unpack

Change = Callable[[dict[str, bytes], dict[str, Any]], Any]
"""Of an archive's members, and of its index."""


def everything(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file() and p.parent.name != ".locks"
    }


# hostile files


@pytest.fixture
def forged(empty: Store, tmp_path: Path) -> Callable[..., SimpleNamespace]:
    """A good archive of two artifacts, forged by a function of its members and its index, as any tool could write it."""
    ref = publish(empty, 0)
    publish(empty, 1, "distill", data=ref.key)
    good = tmp_path / "good.tar"
    pack(empty, list(empty.all()), good, name="study", extra={PIPELINE: b"a: 1\n", "report/report.html": b"<p>"})
    first = f"data/{ref.key}"

    def forge(
        change: Change = lambda m, i: None,
        append: Callable[[tarfile.TarFile], None] = lambda t: None,
        form: int = tarfile.GNU_FORMAT,
    ) -> SimpleNamespace:
        inside = members(good)
        index = json.loads(inside.pop(INDEX))
        change(inside, index)
        path = tmp_path / "forged.tar"
        with tarfile.open(path, "w", format=form) as tar:
            for name, content in {INDEX: json.dumps(index).encode(), **inside}.items():
                header = tarfile.TarInfo(name)
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
            append(tar)
        return SimpleNamespace(path=path, first=first, good=good)

    return forge


def replaced(name: str, content: bytes, *, vouched: bool = True) -> Change:
    """Another content for a file of the first artifact; with `vouched` the index agrees."""

    def change(inside: dict[str, bytes], index: dict[str, Any]) -> None:
        artifact = index["artifacts"][0]
        inside[f"{artifact['stage']}/{artifact['key']}/{name}"] = content
        if vouched:
            artifact["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}

    return change


def manifest(**values: Any) -> Change:
    """Other values in the first artifact's manifest, vouched for by the index; `...` takes one out. Without `seal` it has none,
    as those of older versions."""

    def change(inside: dict[str, bytes], index: dict[str, Any]) -> None:
        artifact = index["artifacts"][0]
        found = json.loads(inside[f"{artifact['stage']}/{artifact['key']}/{MANIFEST}"])
        found = {k: v for k, v in {**found, "seal": ..., **values}.items() if v is not ...}
        replaced(MANIFEST, json.dumps(found).encode())(inside, index)

    return change


def numbers(content: bytes) -> Change:
    """Other numbers, vouched for by manifest and index."""

    def change(inside: dict[str, bytes], index: dict[str, Any]) -> None:
        replaced(NUMBERS, content)(inside, index)
        own = {n: f for n, f in index["artifacts"][0]["files"].items() if n != MANIFEST}
        manifest(files=own)(inside, index)

    return change


def indexed(**values: Any) -> Change:
    return lambda inside, index: index["artifacts"][0].update(values)


def added(name: str, **header: Any) -> Callable[[tarfile.TarFile], None]:
    def append(tar: tarfile.TarFile) -> None:
        info = tarfile.TarInfo(name)
        for key, value in header.items():
            setattr(info, key, value)
        tar.addfile(info, io.BytesIO(b"x" * info.size) if info.type == tarfile.REGTYPE else None)

    return append


def vouched_extra(name: str) -> Change:
    def change(inside: dict[str, bytes], index: dict[str, Any]) -> None:
        inside[name] = b"x"
        index["files"][name] = {"size": 1, "sha256": hashlib.sha256(b"x").hexdigest()}

    return change


def first_of(values: dict[str, Any]) -> str:
    return f"data/{values['artifacts'][0]['key']}"


KEY = "0" * 64
DEEP = b"[" * 200_000 + b"]" * 200_000
HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "absolute path": ({"change": vouched_extra("/etc/passwd")}, "'/etc/passwd' is no name"),
    "parent": ({"change": vouched_extra("report/../../x")}, r"'report/\.\./\.\./x' is no name"),
    "parent of the store": ({"change": vouched_extra("../x")}, r"'\.\./x' is no name"),
    "current folder": ({"change": vouched_extra("./index.json")}, "is no name"),
    "hidden file": ({"change": vouched_extra("report/.bashrc")}, "is no name"),
    "unknown stage": ({"change": vouched_extra(f".locks/{KEY}/numbers.json")}, "is no name"),
    "unexpected file": ({"change": vouched_extra(f"data/{KEY}/run.py")}, "is no name"),
    "short key": ({"change": vouched_extra("data/abc/numbers.json")}, "is no name"),
    "artifact's file apart": ({"change": vouched_extra(f"data/{KEY}/numbers.json")}, "lists an artifact's file apart"),
    "line end in a name": ({"change": vouched_extra("pipeline.yaml\n")}, "is no name"),
    "escape in a name": ({"change": vouched_extra("\x1b[2Jx")}, r"'\\x1b\[2Jx' is no name"),
    "not in the index": ({"append": added("report/more.txt")}, "'report/more.txt' is not as the index says"),
    "twice": ({"append": added(PIPELINE)}, "'pipeline.yaml' stands twice"),
    "symbolic link": ({"append": added("report/a", type=tarfile.SYMTYPE, linkname="/etc/passwd")}, "'report/a' is not a plain"),
    "hard link": ({"append": added("report/a", type=tarfile.LNKTYPE, linkname=PIPELINE)}, "'report/a' is not a plain file"),
    "device": ({"append": added("report/a", type=tarfile.CHRTYPE)}, "'report/a' is not a plain file"),
    "pipe": ({"append": added("report/a", type=tarfile.FIFOTYPE)}, "'report/a' is not a plain file"),
    "folder": ({"append": added("report", type=tarfile.DIRTYPE)}, "'report' is not a plain file"),
    "sparse file": ({"append": added("report/a", type=tarfile.GNUTYPE_SPARSE)}, "'report/a' is not a plain file"),
    "long name": ({"append": added("report/" + "a" * 200)}, "is not a plain file"),
    "extension": ({"append": added("report/" + "ä" * 9), "form": tarfile.PAX_FORMAT}, "is not a plain file"),
    "other sha256": ({"change": replaced(TENSORS, b"x" * 10)}, "names other files than the index"),
    "other bytes": ({"change": replaced(NUMBERS, b'{\n "number": 1\n}\n', vouched=False)}, "has the wrong sha256"),
    "other length": ({"change": replaced(NUMBERS, b"{}", vouched=False)}, "numbers.json' is not as the index says"),
    "file missing": ({"change": lambda m, i: m.pop(f"{first_of(i)}/{TENSORS}")}, "is not as the index says"),
    "manifest missing": (
        {"change": lambda m, i: (m.pop(f"{first_of(i)}/{MANIFEST}"), i["artifacts"][0]["files"].pop(MANIFEST))},
        "lacks its manifest or its numbers",
    ),
    "manifest of another key": ({"change": manifest(settings={"number": 9})}, "does not belong to its key"),
    "manifest with another key": ({"change": manifest(key=KEY)}, "does not belong to its key"),
    "manifest of another stage": ({"change": manifest(stage="distill")}, "does not belong to its key"),
    "manifest that is a list": ({"change": replaced(MANIFEST, b"[]")}, "manifest: Input should be an object"),
    "manifest that is deep": ({"change": replaced(MANIFEST, DEEP)}, "recursion"),
    "manifest cut": ({"change": replaced(MANIFEST, b'{"key": ')}, "manifest: Invalid JSON: EOF"),
    "manifest changed under its seal": (
        {"change": lambda m, i: (manifest(label="mine", seal="0" * 64)(m, i), indexed(label="mine")(m, i))},
        "its seal is another",
    ),
    "settings that are no JSON": ({"change": manifest(settings={"number": float("nan")})}, "not JSON compliant"),
    "inputs that are no keys": ({"change": manifest(inputs={"data": "../../x"})}, "inputs: data: String should match"),
    "inputs of nothing": ({"change": manifest(inputs=None)}, "inputs: Input should be an object"),
    "manifest that names other files": ({"change": manifest(files={})}, "numbers.json is not among them"),
    "manifest without seconds": ({"change": manifest(seconds=...)}, "seconds: Field required"),
    "seconds in words": ({"change": manifest(seconds="many")}, "seconds: Input should be a valid number"),
    "other label": ({"change": indexed(label="mine")}, "has another label"),
    "label that moves the cursor": (
        {"change": lambda m, i: (manifest(label="\x1b[2J")(m, i), indexed(label="\x1b[2J")(m, i))},
        "cannot be printed",
    ),
    "numbers that are a list": ({"change": numbers(b"[]")}, "numbers.json' is not a JSON object"),
    "numbers that are deep": ({"change": numbers(DEEP)}, "nested deeper than 64 levels"),
    "numbers that are not finite": ({"change": numbers(b'{"a": NaN}')}, "NaN is no JSON number"),
    "index that is a list": ({"change": lambda m, i: i.clear()}, "format: Field required"),
    "index of another format": ({"change": lambda m, i: i.update(format="2")}, "format: Input should be"),
    "index with a strange stage": ({"change": indexed(stage="../data")}, "artifacts: 0: stage: "),
    "index with a strange key": ({"change": indexed(key="../../x")}, "artifacts: 0: key: "),
    "index with a strange file": ({"change": indexed(files={"run.py": {}})}, "artifacts: 0: files"),
    "index with a negative size": (
        {"change": lambda m, i: i["artifacts"][0]["files"][TENSORS].update(size=-1)},
        "artifacts: 0: files: tensors.safetensors: size",
    ),
    "index with more": ({"change": lambda m, i: i.update(execute="x")}, "execute: Extra inputs"),
    "name that is a path": ({"change": indexed(names=["../x"])}, "'../x' is no name"),
    "study that is a path": ({"change": lambda m, i: i.update(name="../../x")}, "name: String should match pattern"),
    "hidden study": ({"change": lambda m, i: i.update(name=".locks")}, "name: String should match pattern"),
    "key twice": (
        {"change": lambda m, i: i["artifacts"].append(copy.deepcopy(i["artifacts"][0]))},
        "a key stands twice in the index",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_archives_write_nothing(cli: Cli, forged: Callable[..., Any], tmp_path: Path, kind: str) -> None:
    arguments, said = HOSTILE[kind]
    path = forged(**arguments).path
    before = everything(tmp_path)
    with pytest.raises(
        UserError, match=f"(?s)forged.tar' cannot be unpacked; nothing was written.*{said}.*fetch or pack it again"
    ):
        examine(path)
    done = cli("unpack", path, "--store", tmp_path / "other")
    assert done.code == 2 and done.err.startswith("error: ") and done.out == ""
    assert not (tmp_path / "other").exists() and everything(tmp_path) == before


def test_the_forger_can_write_what_is_unpacked(forged: Callable[..., Any], empty: Store) -> None:
    """So that each of the above is refused for what it is."""
    made = forged()
    assert examine(made.path).index == examine(made.good).index


def header_at(path: Path, name: str) -> int:
    with tarfile.open(path) as tar:
        return tar.getmember(name).offset


def test_members_that_are_read_whole_are_bounded(forged: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    path = forged(change=numbers(b'{"a": "' + b"x" * 100_000 + b'"}')).path
    monkeypatch.setattr(unpacking, "DOCUMENT_BYTES", 100_000)
    with pytest.raises(UserError, match=r"(?s)cannot be unpacked.*numbers.json' is 100009 bytes large, more than 100000"):
        examine(path)
    monkeypatch.undo()
    assert len(examine(path).index.artifacts) == 2


def test_archives_of_many_members(forged: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unpacking, "MEMBERS", 3)
    with pytest.raises(UserError, match=r"(?s)cannot be unpacked.*more than 3 members"):
        examine(forged().path)


def test_sizes_that_are_not_there(forged: Callable[..., Any], tmp_path: Path) -> None:
    """Terabytes by the header, negative sizes that would lead a reader in circles."""
    good = forged().good
    for size, shown in ((2**40, str(2**40)), (-512, "-512")):
        content = bytearray(good.read_bytes())
        at = header_at(good, PIPELINE)
        header = tarfile.TarInfo.frombuf(bytes(content[at : at + 512]), "ascii", "strict")
        header.size = size
        content[at : at + 512] = header.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")
        (tmp_path / "bad.tar").write_bytes(content)
        with pytest.raises(UserError, match=f"'pipeline.yaml' is {shown} bytes, of which"):
            examine(tmp_path / "bad.tar")


def test_every_cut_is_noticed(forged: Callable[..., Any], tmp_path: Path) -> None:
    content = forged().good.read_bytes()
    end = len(content.rstrip(b"\0"))
    for cut in {0, 1, 100, 511, 512, 513, 1024, 1536, 2048, 3000, end // 2, end - 1}:
        (tmp_path / "cut.tar").write_bytes(content[:cut])
        with pytest.raises(UserError, match=r"cut.tar' cannot be unpacked"):
            examine(tmp_path / "cut.tar")


def test_every_changed_byte_behind_the_index_is_noticed(forged: Callable[..., Any], tmp_path: Path) -> None:
    good = forged().good
    content = good.read_bytes()
    with tarfile.open(good) as tar:
        start = tar.getmembers()[1].offset
    for at in {start, *range(start, len(content), 97), len(content) - 1}:
        changed = bytearray(content)
        changed[at] ^= 1
        (tmp_path / "bad.tar").write_bytes(changed)
        with pytest.raises(UserError, match=r"bad.tar' cannot be unpacked"):
            examine(tmp_path / "bad.tar")


@pytest.mark.parametrize("content", [b"", b"x" * 5000, b"PK\x03\x04" + b"\0" * 600, b"\x1f\x8b" + b"x" * 600, b"\0" * 20480])
def test_other_files(cli: Cli, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    done = cli("unpack", tmp_path / "a.tar", "--store", tmp_path / "other")
    assert done.code == 2 and "a.tar' cannot be unpacked; nothing was written" in done.err and not (tmp_path / "other").exists()


def test_something_behind_the_end(forged: Callable[..., Any], tmp_path: Path) -> None:
    content = forged().good.read_bytes()
    for more in (b"x", b"\0" * 20480):
        (tmp_path / "long.tar").write_bytes(content + more)
        with pytest.raises(UserError, match="something stands behind the end"):
            examine(tmp_path / "long.tar")


# disks


def test_no_room_writes_nothing(cli: Cli, empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack(empty, [publish(empty)], tmp_path / "a.tar")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    done = cli("unpack", tmp_path / "a.tar", "--store", tmp_path / "other")
    assert done.code == 1 and "there is no room" in done.err and "0.0 MB free" in done.err and "distill-prune gc" in done.err
    assert list(Store(tmp_path / "other").all()) == []
    assert cli("unpack", tmp_path / "a.tar", "--store", empty.root).code == 0  # needs none: it is there


@pytest.mark.parametrize("name", ["fsync", "rename"])
def test_a_full_disk_leaves_nothing_half_written(
    empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    ref = publish(empty)
    pack(empty, [ref], tmp_path / "a.tar")
    other, archive = Store(tmp_path / "other", create=True), examine(tmp_path / "a.tar")
    other.work(ref.key).mkdir()
    (other.work(ref.key) / "snapshot.safetensors").write_text("somebody's")

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr({"fsync": "os.fsync", "rename": "pathlib.Path.rename"}[name], full)
        with pytest.raises(RunError, match=r"(?s)could not be written to .*No space left on device.*make room on the disk"):
            unpack(archive, other)
    assert other.keys("data") == [] and [p.name for p in other.work(ref.key).iterdir()] == ["snapshot.safetensors"]
    assert unpack(archive, other).written == [ref.key] and other.sound("data", ref.key) and not other.work(ref.key).exists()


def test_an_archive_that_changes_between_looks(empty: Store, tmp_path: Path) -> None:
    ref = publish(empty)
    pack(empty, [ref], tmp_path / "a.tar")
    archive, other = examine(tmp_path / "a.tar"), Store(tmp_path / "other", create=True)
    content = bytearray((tmp_path / "a.tar").read_bytes())
    content[archive.starts[f"data/{ref.key}/{TENSORS}"] + 80] ^= 1
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(RunError, match=r"a.tar' changed while it was being unpacked"):
        unpack(archive, other)
    assert list(other.all()) == []
