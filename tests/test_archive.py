"""Archives: equal bytes for equal content, and nothing lost on the way there and back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
import tiny
import yaml
from tiny import Cli, flip

from distill_prune.artifacts import Parts
from distill_prune.errors import DamagedArtifact
from distill_prune.plan.config import load
from distill_prune.plan.files import find_pipeline, read_raw
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.store.archive import INDEX, PIPELINE, pack
from distill_prune.store.store import MANIFEST, NUMBERS, TENSORS, Ref, Store
from distill_prune.store.unpack import examine, unpack
from distill_prune.study.packing import contents


def publish(store: Store, number: int = 0, stage: str = "data", **inputs: str) -> Ref:
    """An artifact that stands for nothing."""
    import torch

    provenance = tiny.provenance(stage, {"number": number}, inputs)
    store.write(provenance, Parts({"a": torch.arange(6.0) + number}, {"number": number}))
    return Ref(stage, provenance.key)


def members(path: Path) -> dict[str, bytes]:
    """What Python's own tar reader finds."""
    with tarfile.open(path) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar.getmembers()}  # type: ignore[union-attr]


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
    assert done.code == 0 and f"{archive}: 1 artifact, " in done.out
    assert hashlib.sha256(archive.read_bytes()).hexdigest() in done.out
    other = Store(tmp_path / "other")
    done = cli("unpack", archive, "--store", other.root)
    assert (
        done.code == 0
        and done.out == f"1 artifact written, 0 there already, in {other.root}\ntiny-1ipc -> distill {key[:12]}\n"
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
    assert "not in the store, so left out: 1 artifact" in told


def test_a_ticket_takes_its_weights_along(cli: Cli, store: Store, graph: Graph, tmp_path: Path) -> None:
    from distill_prune.run.reader import Reader

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
    refs, missing, text = contents(mine, store)
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
    """As settings: a graph would need the data. Of a sweep the study that it begins with: a file of several is not packed."""
    alone = ["sweep={}"] if read_raw(find_pipeline(name)).get("sweep") else []
    settings = load(name, alone)[1]
    stored = {n: m.ref for n, m in settings.distill.items() if m.name == "stored"}
    for i, ref in enumerate(stored.values()):
        empty.tag(publish(empty, i, "distill").key, ref)
    (tmp_path / "again.yaml").write_bytes(contents(Graph(settings), empty)[2])
    whole = [f"distill.{n}.ref={empty.find(ref).key}" for n, ref in stored.items()]
    assert load(str(tmp_path / "again.yaml"))[1] == load(name, [*alone, *whole])[1]


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
    assert done.code == 2 and "another run is making 1 artifact" in done.err and refs[1].key[:12] in done.err
    assert {r.key for r in other.all()} == {refs[0].key, refs[2].key} and other.tags() == {} and "mine" not in done.out
    assert cli("unpack", tmp_path / "a.tar", "--store", other.root).code == 0
    assert {r.key for r in other.all()} == {r.key for r in refs} and other.tags() == {"mine": refs[1].key}


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
        (["feedbeef", "-o", "a.tar"], ["no artifact in this store matches 'feedbeef'", "or a pipeline", "distill-prune ls"]),
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
    assert done.code == 0 and "1 artifact, " in done.out
