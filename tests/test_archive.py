"""Archives: equal bytes for equal content, nothing lost on the way, and nothing written for a file that is not what it says."""

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
import tiny
import yaml
from tiny import Cli, flip

from distill_prune.artifacts import Parts
from distill_prune.errors import DamagedArtifact, RunError, UserError
from distill_prune.pipeline.archive import INDEX, PIPELINE, pack, study
from distill_prune.pipeline.config import load
from distill_prune.pipeline.graph import Graph, build
from distill_prune.pipeline.store import MANIFEST, NUMBERS, TENSORS, Ref, Store, identity
from distill_prune.pipeline.unpack import examine, unpack

Change = Callable[[dict[str, bytes], dict[str, Any]], Any]
"""Of an archive's members, and of its index."""
ABOUT = {"label": "nothing", "versions": {}, "device": "cpu", "threads": 1, "seconds": 0.5, "peak_mb": 1, "created": "today"}


def publish(store: Store, number: int = 0, stage: str = "data", **inputs: str) -> Ref:
    """An artifact that stands for nothing."""
    import torch

    settings = {"number": number}
    key = identity(stage, 1, settings, inputs)
    head = {"key": key, "stage": stage, "version": 1, "settings": settings, "inputs": inputs, **ABOUT}
    store.write(head, Parts({"a": torch.arange(6.0) + number}, {"number": number}))
    return Ref(stage, key)


def members(path: Path) -> dict[str, bytes]:
    """What Python's own tar reader finds."""
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]


def everything(root: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(root)): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file() and p.parent.name != ".locks"
    }


# there and back


def test_equal_content_makes_equal_bytes(empty: Store, tmp_path: Path) -> None:
    refs = [publish(empty, 0), publish(empty, 1), publish(empty, 2, "distill")]
    empty.tag(refs[2].key, "b")
    empty.tag(refs[2].key, "a")
    shutil.copytree(empty.root, tmp_path / "copy")
    copied = Store(tmp_path / "copy")
    for i, path in enumerate(copied.root.rglob("*")):
        os.utime(path, (i, i))
        path.chmod(0o700)
    extra = {"report/b.txt": b"b", PIPELINE: b"a: 1\n", "report/a/c.txt": b"c"}
    pack(empty, refs, tmp_path / "one.tar", name="study", extra=extra)
    pack(copied, refs[::-1], tmp_path / "two.tar", name="study", extra=dict(reversed(extra.items())))
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as tar:
        found = tar.getmembers()
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.isreg()) for m in found} == {(0, 0, 0, "", "", 0o644, True)}
    first, second = sorted(refs[:2], key=lambda r: r.key)
    assert [m.name for m in found] == [
        INDEX,
        *(f"{r.stage}/{r.key}/{n}" for r in (first, second, refs[2]) for n in (MANIFEST, NUMBERS, TENSORS)),
        PIPELINE,
        "report/a/c.txt",
        "report/b.txt",
    ]
    assert not list(tmp_path.glob(".*"))


def test_the_index_says_what_is_there(empty: Store, tmp_path: Path) -> None:
    ref = publish(empty)
    empty.tag(ref.key, "mine")
    pack(empty, [ref], tmp_path / "a.tar", missing=["a set"])
    inside = members(tmp_path / "a.tar")
    index = json.loads(inside.pop(INDEX))
    assert index["format"] == "distill-prune archive 1" and index["missing"] == ["a set"]
    (artifact,) = index["artifacts"]
    assert (artifact["stage"], artifact["key"], artifact["label"], artifact["names"]) == ("data", ref.key, "nothing", ["mine"])
    for name, file in artifact["files"].items():
        content = inside.pop(f"data/{ref.key}/{name}")
        assert content == (empty.path("data", ref.key) / name).read_bytes()
        assert file == {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    assert inside == {}


def test_archives_of_every_length_are_whole(empty: Store, tmp_path: Path) -> None:
    """The padding at the end takes every length that it can have."""
    ref, lengths = publish(empty), set()
    for blocks in range(20):
        pack(empty, [ref], tmp_path / "a.tar", name="s", extra={"report/a.bin": b"x" * 512 * blocks})
        assert [a.key for a in examine(tmp_path / "a.tar").index.artifacts] == [ref.key]
        content = (tmp_path / "a.tar").read_bytes()
        lengths.add((len(content) - len(content.rstrip(b"\0"))) // 512)
    assert len(lengths) == 20


def test_a_set_serves_a_study_elsewhere(cli: Cli, store: Store, graph: Graph, tmp_path: Path, file: str) -> None:
    """Without the data, the experts or anything else of the store that it was made in."""
    key, archive = graph.sets["synthetic"], tmp_path / "set.tar"
    store.tag(key, "tiny-1ipc")
    done = cli("pack", "tiny-1ipc", "-o", archive, "--store", store.root)
    assert done.code == 0 and f"{archive}: 1 artifacts, " in done.out
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in done.out
    other = Store(tmp_path / "other")
    done = cli("unpack", archive, "--store", other.root)
    assert (
        done.code == 0
        and done.out == f"1 artifacts written, 0 there already, in {other.root}\ntiny-1ipc -> distill {key[:12]}\n"
    )
    assert [r.key for r in other.all()] == [key] and other.tags() == {"tiny-1ipc": key}
    stored = ["--set", "distill={synthetic: {name: stored, ref: tiny-1ipc}}", "--set", "arms={synthetic: {images: synthetic}}"]
    done = cli("prune", file, *stored, "--executor", "serial", "--store", other.root)
    assert done.code == 0, done.err
    ours, theirs = tiny.contents(other), tiny.contents(store)
    assert other.keys("experts") == [] and other.keys("distill") == [key] and len(other.keys("prune")) == 3
    assert ours.items() <= theirs.items()  # the very tickets that the first study found, bit by bit


def test_a_set_with_all_that_it_was_made_from(cli: Cli, store: Store, graph: Graph, tmp_path: Path) -> None:
    key = graph.sets["synthetic"]
    shutil.rmtree(store.path("experts", tiny.node_of(graph, "expert 1").key))
    done = cli("pack", key[:12], "-o", tmp_path / "a.tar", "--with-inputs", "--json", "--store", store.root)
    index = json.loads(done.out)
    assert [a["label"] for a in index["artifacts"]] == ["data", "expert 0", "set synthetic"]
    assert index["missing"] == [tiny.node_of(graph, "expert 1").key]
    assert index["sha256"] == hashlib.sha256((tmp_path / "a.tar").read_bytes()).hexdigest()
    told = cli("pack", key[:12], "-o", tmp_path / "a.tar", "--with-inputs", "--store", store.root).out
    assert "not in the store, so left out: 1 artifacts" in told


def test_a_ticket_takes_its_weights_along(cli: Cli, store: Store, graph: Graph, tmp_path: Path) -> None:
    from distill_prune.pipeline.stages import Reader

    key = graph.chains["synthetic", 0][2]
    assert cli("pack", key, "-o", tmp_path / "a.tar", "--store", store.root).code == 0
    other = Store(tmp_path / "other", create=True)
    assert set(unpack(examine(tmp_path / "a.tar"), other).written) == {key, graph.chains["synthetic", 0][0]}
    ours, theirs = Reader(other, "cpu").ticket(key), Reader(store, "cpu").ticket(key)
    assert all(t.equal(theirs.state[n]) for n, t in ours.state.items())


def test_a_whole_study(cli: Cli, store: Store, graph: Graph, tmp_path: Path, file: str) -> None:
    archive = tmp_path / "study.tar"
    kept = tiny.node_of(graph, "accuracy of dense seed 0")
    lost = [n for n in graph.nodes.values() if n.stage == "compare" and n != kept]  # figures take their time
    for node in lost:
        shutil.rmtree(store.path(node.stage, node.key))
    whole = tiny.contents(store)
    done = cli("pack", file, "-o", archive, "--set", "title=packed", "--json", "--store", store.root)
    assert done.code == 0, done.err
    index, inside = json.loads(done.out), members(archive)
    assert len(index["artifacts"]) == len(graph.nodes) - len(lost) and index["name"] == "tiny"
    assert index["missing"] == [n.label for n in lost] and "summary" in index["missing"]
    assert b"packed" in inside["report/report.html"] and "report/tables/missing.csv" in inside
    done = cli("unpack", archive, "--store", tmp_path / "other")
    other = Store(tmp_path / "other")
    assert done.code == 0 and f"tar -xf {archive} report" in done.out
    assert tiny.contents(other) == whole and tiny.damaged(other) == []
    text = other.root / "reports" / "tiny" / PIPELINE
    assert f"pipeline: {text}" in done.out and text.read_bytes() == inside[PIPELINE]
    rows = json.loads(cli("plan", text, "--json", "--store", other.root).out)["artifacts"]
    assert [r["key"] for r in rows] == list(graph.nodes)
    assert {r["key"] for r in rows if r["status"] == "miss"} == {n.key for n in lost}


def test_the_packed_pipeline_names_keys_and_holds_what_was_set(store: Store, graph: Graph, tmp_path: Path) -> None:
    """A name may stand on something else where the archive goes."""
    key = graph.sets["synthetic"]
    store.tag(key, "mine")
    (tmp_path / "base.yaml").write_text(tiny.TINY, encoding="utf-8")
    path = tmp_path / "my study.yaml"
    path.write_text("extends: base.yaml\ndistill: {synthetic: {name: stored, ref: mine}}\n")
    changes = ["seeds=[0, 7]", "prune.rewind={on: source}", "compare.curvature=null", "title='1e3'", "question='on'"]
    mine = build(load(str(path), changes)[1], store)
    refs, missing, text = study(mine, store)
    assert Ref("distill", key) in refs and len(missing) == len(mine.nodes) - len(refs) + 1
    values = yaml.safe_load(text)
    assert values["distill"]["synthetic"] == {"name": "stored", "ref": key} and values["seeds"] == [0, 7]
    assert "extends" not in values and "curvature" not in values["compare"] and values["prune"]["rewind"] == {"on": "source"}
    pack(store, refs, tmp_path / "a.tar", name="my study", extra={PIPELINE: text}, missing=missing)
    other = Store(tmp_path / "other", create=True)
    place = unpack(examine(tmp_path / "a.tar"), other).pipeline
    assert place == other.root / "reports" / "my study" / PIPELINE
    again = load(str(place))[1]
    assert list(build(again, other).nodes) == list(mine.nodes) and (again.title, again.question) == ("1e3", "on")


@pytest.mark.parametrize("name", sorted(p.name for p in (Path(__file__).parent.parent / "pipelines").glob("*.yaml")))
def test_shipped_pipelines_survive_packing(empty: Store, tmp_path: Path, name: str) -> None:
    """As settings: a graph would need the data."""
    settings = load(name)[1]
    stored = {n: m.ref for n, m in settings.distill.items() if m.name == "stored"}
    for i, ref in enumerate(stored.values()):
        empty.tag(publish(empty, i, "distill").key, ref)
    (tmp_path / "again.yaml").write_bytes(study(Graph(settings), empty)[2])
    whole = [f"distill.{n}.ref={empty.find(ref).key}" for n, ref in stored.items()]
    assert load(str(tmp_path / "again.yaml"))[1] == load(name, whole)[1]


# what is there already


def test_what_is_there_is_left_alone(cli: Cli, store: Store, graph: Graph, tmp_path: Path) -> None:
    keys = [graph.sets["synthetic"], graph.sets["subset"]]
    pack(store, [Ref("distill", k) for k in keys], tmp_path / "a.tar")
    shutil.rmtree(store.path("distill", keys[1]))
    before = {p: p.stat().st_ino for p in store.path("distill", keys[0]).iterdir()}
    done = json.loads(cli("unpack", tmp_path / "a.tar", "--json", "--store", store.root).out)
    assert (done["written"], done["present"], done["busy"]) == ([keys[1]], [keys[0]], [])
    assert {p: p.stat().st_ino for p in store.path("distill", keys[0]).iterdir()} == before
    assert tiny.damaged(store) == []


def test_damage_is_healed(store: Store, graph: Graph, tmp_path: Path) -> None:
    key, whole = graph.sets["synthetic"], tiny.contents(store)
    pack(store, [Ref("distill", key)], tmp_path / "a.tar")
    flip(store.path("distill", key) / TENSORS)
    assert unpack(examine(tmp_path / "a.tar"), store).written == [key]
    assert tiny.contents(store) == whole and (store.root / ".damaged" / f"distill-{key}-0").exists()


def test_names_stay_where_they_stand(cli: Cli, empty: Store, tmp_path: Path) -> None:
    mine, theirs = publish(empty, 0), publish(empty, 1)
    for name in ("best", "old", "same"):
        empty.tag(mine.key, name)
    pack(empty, [mine], tmp_path / "a.tar")
    empty.tag(theirs.key, "best")
    (empty.root / "tags.json").write_text(json.dumps({"best": theirs.key, "same": mine.key}))
    done = cli("unpack", tmp_path / "a.tar", "--store", empty.root)
    assert done.code == 0 and done.out.endswith(f"old -> data {mine.key[:12]}\n") and "best ->" not in done.out
    assert "the name best stands on another artifact here, and stays there" in done.err
    assert empty.tags() == {"best": theirs.key, "same": mine.key, "old": mine.key}


def test_busy_keys_are_left_to_their_owner(cli: Cli, empty: Store, tmp_path: Path) -> None:
    refs = [publish(empty, i) for i in range(3)]
    empty.tag(refs[1].key, "mine")
    pack(empty, refs, tmp_path / "a.tar")
    other = Store(tmp_path / "other", create=True)
    with Store(other.root).lock(refs[1].key):
        done = cli("unpack", tmp_path / "a.tar", "--store", other.root)
    assert done.code == 2 and "1 artifacts are being made by another run" in done.err and refs[1].key[:12] in done.err
    assert {r.key for r in other.all()} == {refs[0].key, refs[2].key} and other.tags() == {} and "mine" not in done.out
    assert cli("unpack", tmp_path / "a.tar", "--store", other.root).code == 0
    assert {r.key for r in other.all()} == {r.key for r in refs} and other.tags() == {"mine": refs[1].key}


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
    """Other values in the first artifact's manifest, vouched for by the index; `...` takes one out."""

    def change(inside: dict[str, bytes], index: dict[str, Any]) -> None:
        artifact = index["artifacts"][0]
        found = json.loads(inside[f"{artifact['stage']}/{artifact['key']}/{MANIFEST}"])
        found = {k: v for k, v in {**found, **values}.items() if v is not ...}
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
    "manifest that is a list": ({"change": replaced(MANIFEST, b"[]")}, "is not a JSON object"),
    "manifest that is deep": ({"change": replaced(MANIFEST, DEEP)}, "recursion"),
    "manifest cut": ({"change": replaced(MANIFEST, b'{"key": ')}, "Expecting value"),
    "settings that are no JSON": ({"change": manifest(settings={"number": float("nan")})}, "not JSON compliant"),
    "inputs that are no keys": ({"change": manifest(inputs={"data": "../../x"})}, "does not say what it was made from"),
    "inputs of nothing": ({"change": manifest(inputs=None)}, "does not say what it was made from"),
    "manifest that names other files": ({"change": manifest(files={})}, "names other files than the index"),
    "manifest without seconds": ({"change": manifest(seconds=...)}, "seconds: Field required"),
    "seconds in words": ({"change": manifest(seconds="many")}, "seconds: Input should be a valid number"),
    "other label": ({"change": indexed(label="mine")}, "has another label"),
    "label that moves the cursor": (
        {"change": lambda m, i: (manifest(label="\x1b[2J")(m, i), indexed(label="\x1b[2J")(m, i))},
        "cannot be printed",
    ),
    "numbers that are a list": ({"change": numbers(b"[]")}, "numbers.json' is not a JSON object"),
    "numbers that are deep": ({"change": numbers(DEEP)}, "recursion"),
    "index that is a list": ({"change": lambda m, i: i.clear()}, "format: Field required"),
    "index of another format": ({"change": lambda m, i: i.update(format="2")}, "format: Input should be"),
    "index with a strange stage": ({"change": indexed(stage="../data")}, "artifacts.0.stage: "),
    "index with a strange key": ({"change": indexed(key="../../x")}, "artifacts.0.key: "),
    "index with a strange file": ({"change": indexed(files={"run.py": {}})}, r"artifacts\.0\.files"),
    "index with a negative size": (
        {"change": lambda m, i: i["artifacts"][0]["files"][TENSORS].update(size=-1)},
        "artifacts.0.files.tensors.safetensors.size",
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
    assert done.code == 2 and "there is no room" in done.err and "0.0 MB free" in done.err and "distill-prune gc" in done.err
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
        with pytest.raises(RunError, match=r"(?s)could not be written to .*No space left on device.*unpack again"):
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


def test_a_damaged_artifact_is_not_packed(empty: Store, tmp_path: Path) -> None:
    ref = publish(empty)
    (tmp_path / "a.tar").write_text("what stood there")
    flip(empty.path("data", ref.key) / TENSORS)
    with pytest.raises(DamagedArtifact, match=r"tensors.safetensors: wrong sha256"):
        pack(empty, [ref], tmp_path / "a.tar")
    assert (tmp_path / "a.tar").read_text() == "what stood there" and len(list(tmp_path.iterdir())) == 2


# the user's mistakes


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["feedbeef", "-o", "a.tar"], ["'feedbeef' names no artifact", "or a pipeline", "distill-prune ls"]),
        (["digts.yaml", "-o", "a.tar"], ["there is no pipeline file 'digts.yaml'", "did you mean 'digits.yaml'"]),
        (["feedbeef", "-o", "a.tar", "--set", "a=b"], ["there is no pipeline file 'feedbeef'"]),
        (["digits", "-o", "a.tar", "--with-inputs"], ["--with-inputs goes with an artifact"]),
        (["digits", "-o", "a.tar"], ["holds nothing of the pipeline 'digits'", "`distill-prune run` it"]),
        (["digits"], ["Missing option '-o'"]),
    ],
)
def test_mistakes_of_pack(
    cli: Cli, empty: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    done = cli("pack", *arguments, "--store", empty.root)
    assert done.code == 2 and all(s in done.err for s in said), done.err
    assert not (tmp_path / "a.tar").exists()


def test_files_that_cannot_be(cli: Cli, empty: Store, tmp_path: Path) -> None:
    key = publish(empty).key
    done = cli("pack", key, "-o", tmp_path / "none" / "a.tar", "--store", empty.root)
    assert done.code == 2 and "a.tar' cannot be written" in done.err and "No such file" in done.err
    done = cli("pack", key, "-o", tmp_path, "--store", empty.root)
    assert done.code == 2 and "is a folder" in done.err and not list(tmp_path.glob(".*"))
    done = cli("unpack", tmp_path / "none.tar", "--store", empty.root)
    assert done.code == 2 and "none.tar' cannot be read" in done.err and "No such file" in done.err


def test_a_name_comes_before_a_pipeline(cli: Cli, empty: Store, tmp_path: Path) -> None:
    empty.tag(publish(empty).key, "digits")
    done = cli("pack", "digits", "-o", tmp_path / "a.tar", "--store", empty.root)
    assert done.code == 0 and "1 artifacts" in done.out
