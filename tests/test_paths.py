"""Paths of the grid as references: which artifact each is, and studies of one name that are told apart."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import tiny
from tiny import Cli

from distill_prune.errors import StoreError
from distill_prune.limits import DOCUMENT_BYTES
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.plan.paths import paths, place
from distill_prune.store.housekeeping import litter, remove
from distill_prune.store.store import Store
from distill_prune.store.studies import MARK, Origin, name_of, remember, study_file
from distill_prune.study.shelf import origin_of, shelve

TINY = Origin("../tiny.yaml")
CONTROLS = "arms.shuffled={control: {of: real, kind: shuffled}}", "arms.drawn={control: {of: real, kind: reinitialised}}"
MORE = "compare.between={points: 3}", "prune.scan=[2it, 4it]", "prune.rewind.k=2it", "arms.a/b%={images: subset}"


@pytest.fixture
def study(store: Store, graph: Graph) -> Store:
    """The finished store, whose study is called tiny."""
    assert remember(store.root, "tiny", TINY, paths(graph), reports=False) == "tiny"
    return store


# the grid


def test_every_artifact_has_a_path(empty: Store) -> None:
    graph = build(tiny.pipeline(*CONTROLS, *MORE, "architectures.flat.name=lenet"), empty)
    by_path = paths(graph)
    assert set(graph.nodes) == set(by_path.values())
    for unit in graph.units:
        at = f"{unit.arm.replace('%', '%25').replace('/', '%2F')}/{unit.seed}/{unit.level}"
        assert by_path[at] == unit.ticket
        assert [by_path[f"{at}/copy{i}"] for i in range(2)] == list(unit.copies)
        assert by_path[f"{at}/accuracy"] == unit.measured["accuracy"]
    assert by_path["set/synthetic"] == graph.sets["synthetic"] and by_path["summary"] == graph.summary
    labels = {path: graph.nodes[key].label for path, key in by_path.items()}
    assert labels["expert/1"] == "expert 1" and labels["drawn/0/dense"] == "dense seed 0 draw 1"
    assert labels["synthetic/0/2/between"] == "between of synthetic and real seed 0 level 2"
    assert labels["synthetic/0/2/between/levels"] == "between of synthetic and level 0 seed 0 level 2"
    assert labels["set/subset/evaluation/flat"] == "evaluation of set subset with flat"
    assert "a%2Fb%25/0/2" in by_path and "synthetic@4it/0/1" in by_path


def test_paths_of_several_draws_and_of_a_sweep(empty: Store) -> None:
    """Level 0 takes no set, so it is of no draw."""
    graph = build(tiny.pipeline("distill_seeds=[0, 3]", "distill_grid=crossed", *CONTROLS[1:], "seeds=[5]"), empty)
    by_path = paths(graph)
    assert set(graph.nodes) == set(by_path.values())
    labels = {path: graph.nodes[key].label for path, key in by_path.items()}
    assert labels["synthetic/5/draw3/2/copy1"] == "synthetic seed 5 draw 3 level 2 copy 1"
    assert labels["set/synthetic/3"] == "set synthetic/3" and labels["synthetic/5/0/copy0"] == "dense seed 5 copy 0"
    assert "synthetic/5/draw3/0" not in by_path and labels["real/5/2"] == "real seed 5 level 2"
    at = place("tiny/synthetic/5/draw3/2/copy1")
    assert at is not None and (at.arm, at.seed, at.draw, at.level, at.copy) == ("synthetic", 5, 3, 2, 1)
    swept = paths(Graph.union({"seeds=[1]": graph, "a.b=[2/3]": graph}))
    assert list(swept) == [f"{cell}/{path}" for cell in ("seeds=[1]", "a.b=[2%2F3]") for path in by_path]
    at = place("tiny/a.b=[2%2F3]/synthetic/5/2")
    assert at is not None and (at.arm, at.seed, at.draw, at.level, at.copy) == ("synthetic", 5, None, 2, None)


def test_teachers_of_a_part_of_the_images(empty: Store) -> None:
    source = "distill.synthetic.source={share: 0.5, keep: easy}"
    graph = build(tiny.pipeline(source, "distill.synthetic.max_start=1"), empty)
    by_path = paths(graph)
    assert set(graph.nodes) == set(by_path.values()) and by_path["expert/1"] != by_path["set/synthetic/expert/1"]


def test_paths_are_in_the_order_of_the_grid(graph: Graph) -> None:
    listed = list(paths(graph))
    assert listed[:6] == ["data", "expert/0", "expert/1", "set/synthetic", "set/subset", "real/0/0"]
    tickets = [p for p in listed if len(p.split("/")) == 3 and not p.startswith("set/")]
    assert tickets == [f"{arm}/0/{level}" for arm in ("real", "synthetic", "subset", "random") for level in range(3)]


def test_a_path_says_where_it_stands() -> None:
    at = place("digits/a%2Fb/3/10/copy1")
    assert at is not None and (at.arm, at.seed, at.level, at.copy) == ("a%2Fb", 3, 10, 1)
    for of_a_ticket in ("digits/real/0/3", "digits/real/0/3/accuracy", "digits/real/0/3/between/levels", "digits/real/0/dense"):
        assert place(of_a_ticket) is not None
    for other in ("digits/data", "digits/expert/0", "digits/set/synthetic", "digits/set/0/evaluation", "digits/summary"):
        assert place(other) is None


# references


def test_a_path_is_a_reference(study: Store, graph: Graph) -> None:
    for path, key in paths(graph).items():
        assert study.find(f"tiny/{path}").key == key


def test_commands_take_paths(cli: Cli, study: Store, graph: Graph, file: str, tmp_path: Path) -> None:
    where = ("--store", study.root)
    ticket = graph.chains["synthetic", 0][2]
    assert json.loads(cli("show", "tiny/synthetic/0/2", "--json", *where).out)["manifest"]["key"] == ticket
    assert cli("tag", "tiny/set/synthetic", "best", *where).code == 0
    assert study.tags() == {"best": graph.sets["synthetic"]}
    assert cli("verify", "tiny/data", *where).out == "1 checked, 0 damaged\n"
    assert cli("diff", "tiny/synthetic/0/2", "tiny/real/0/2", *where).code == 0
    assert cli("export", "tiny/real/0/2/copy0", "--to", "state-dict", tmp_path / "net.pt", *where).code == 0
    assert cli("pack", "tiny/set/synthetic", "-o", tmp_path / "set.tar", *where).code == 0
    told = cli("rm", "tiny/summary", "--dry-run", *where)
    assert told.code == 0 and "tiny/summary" in told.out
    stored = cli("plan", file, "--set", "distill.synthetic={name: stored, ref: tiny/set/synthetic}", "--json", *where)
    missing = [row["label"] for row in json.loads(stored.out)["artifacts"] if row["status"] == "miss"]
    assert stored.code == 0 and missing == ["summary"]  # which says that it does not know the set's experts


@pytest.mark.parametrize(
    ("ref", "said"),
    [
        ("tiny/syntetic/0/2", "did you mean 'tiny/synthetic'"),
        ("tiny/synthetic/0", "tiny/synthetic/0/0, tiny/synthetic/0/1, tiny/synthetic/0/2"),
        ("tiny/synthetic/7/2", "tiny/synthetic/0"),
        ("tny/data", "did you mean 'tiny'"),
        ("tiny", "a path such as tiny/summary"),
        ("tiny/", "tiny/data, tiny/expert"),
        ("../tiny/data", "tiny"),
    ],
)
def test_a_path_that_no_study_has(study: Store, ref: str, said: str) -> None:
    with pytest.raises(StoreError, match=f"no artifact in this store matches '{ref}'") as refused:
        study.find(ref)
    assert said in str(refused.value) and "`distill-prune ls` lists" in str(refused.value)


def test_a_path_whose_artifact_is_not_there(study: Store, graph: Graph, cli: Cli) -> None:
    assert cli("rm", "tiny/summary", "--yes", "--store", study.root).code == 0
    with pytest.raises(StoreError, match=rf"(?s)'tiny/summary' is not in this store.*{graph.summary[:12]}.*run its pipeline"):
        study.find("tiny/summary")


@pytest.mark.parametrize(
    "content", [b"[]", b"{", b'{"file": "a", "sets": [], "variant": "", "reports": true, "paths": {"a": "../../x"}}']
)
def test_a_file_of_paths_that_cannot_be_used(study: Store, cli: Cli, content: bytes) -> None:
    """Keys serve as before; a path says why it does not; `gc` removes the file."""
    path = study_file(study.root, "tiny")
    path.write_bytes(content)
    listed = cli("ls", "--store", study.root)
    assert listed.code == 0 and f"'{path}' cannot be used" in listed.err and "set synthetic" in listed.out
    with pytest.raises(StoreError, match=r"(?s)no artifact in this store matches.*tiny.json' cannot be used"):
        study.find("tiny/data")
    assert [item.path for item in litter(study) if item.kind == "paths"] == [path]
    assert remove(study, litter(study)) == [] and not path.exists()


def test_a_file_of_paths_that_is_no_file_or_huge(study: Store) -> None:
    path = study_file(study.root, "tiny")
    with path.open("wb") as large:
        large.truncate(DOCUMENT_BYTES + 1)
    with pytest.raises(StoreError, match="more than"):
        study.find("tiny/data")
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(StoreError, match="not a plain file"):
        study.find("tiny/data")


# names of studies


def test_studies_of_one_name(empty: Store) -> None:
    other, variant = Origin("../other/tiny.yaml"), Origin("../tiny.yaml", '{"seeds":[1]}', ("seeds=[1]",))
    names = [remember(empty.root, "tiny", of, {"data": 64 * "0"}, reports=False) for of in (TINY, other, variant, TINY)]
    assert names[0] == names[3] == "tiny" and len(set(names)) == 3
    assert all(name.startswith("tiny-") and len(name) == 11 for name in names[1:3])
    assert sorted(p.stem for p in (empty.root / ".studies").iterdir()) == sorted(set(names))


def test_a_study_without_a_report_gives_its_name_up(empty: Store) -> None:
    variant = Origin("../tiny.yaml", '{"seeds":[1]}')
    one, two = {"data": 64 * "1"}, {"data": 64 * "2"}
    assert remember(empty.root, "tiny", TINY, one, reports=False) == "tiny"
    assert remember(empty.root, "tiny", variant, two, reports=True) == "tiny"
    moved = name_of(empty.root, "tiny", TINY, reports=True)  # which has it before its report is written
    assert moved == f"tiny-{TINY.digits()}" and remember(empty.root, "tiny", variant, two, reports=False) == "tiny"
    kept = {p.stem: json.loads(p.read_text())["paths"] for p in (empty.root / ".studies").iterdir()}
    assert kept == {"tiny": two, moved: one}


def test_a_report_without_paths_keeps_its_name(empty: Store) -> None:
    """As those of older versions are, and those of studies whose artifacts are gone."""
    (empty.root / "reports" / "tiny").mkdir(parents=True)
    (empty.root / "reports" / "tiny" / MARK).write_text(json.dumps({"file": "../tiny.yaml", "variant": "{}"}))
    assert remember(empty.root, "tiny", TINY, {}, reports=True) != "tiny"
    assert remember(empty.root, "tiny", Origin("../tiny.yaml", "{}"), {}, reports=True) == "tiny"


def test_the_newest_run_of_a_study_has_its_paths(empty: Store) -> None:
    for key in (64 * "1", 64 * "2"):
        assert remember(empty.root, "tiny", TINY, {"data": key}, reports=False) == "tiny"
    assert json.loads(study_file(empty.root, "tiny").read_text())["paths"] == {"data": 64 * "2"}


def test_what_is_set_is_compared_by_value(empty: Store, file: str) -> None:
    def variant(*sets: str) -> str:
        return origin_of(file, sets, empty).variant

    assert variant("seeds=[0,1]") == variant("seeds=[0, 1]") != variant("seeds=[0]") and variant() == ""
    assert variant("a.b=1", "a.c=2") == variant("a={b: 1, c: 2}")


def test_gc_forgets_a_study_when_all_of_it_is_gone(store: Store, graph: Graph) -> None:
    remember(store.root, "tiny", TINY, paths(graph), reports=False)
    remember(store.root, "gone", Origin("../gone.yaml"), {"data": 64 * "0"}, reports=False)
    half = store.root / ".studies" / ".gone.json.0123456789abcdef"
    half.write_text("{")
    os.utime(half, (0, 0))
    items = [item for item in litter(store) if item.kind in ("paths", "file")]
    assert {item.path.name for item in items} == {"gone.json", half.name}
    remember(store.root, "gone", Origin("../gone.yaml"), paths(graph), reports=False)  # a run has begun meanwhile
    assert remove(store, items) == [] and not half.exists()
    assert sorted(p.name for p in (store.root / ".studies").iterdir()) == ["gone.json", "tiny.json"]


def test_nothing_is_written_through_a_link(empty: Store, tmp_path: Path, graph: Graph) -> None:
    (tmp_path / "elsewhere").mkdir()
    (empty.root / ".studies").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="is a link"):
        remember(empty.root, "tiny", TINY, {}, reports=False)
    assert shelve(empty, "tiny", TINY, graph, reports=False) == "tiny" and not list((tmp_path / "elsewhere").iterdir())
