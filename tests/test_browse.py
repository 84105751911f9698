"""`ls` and `show` as people read them."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from PIL import Image
from tiny import Cli

from distill_prune.cli import columns, listing
from distill_prune.cli.columns import Column, table
from distill_prune.plan.nodes import Graph
from distill_prune.plan.paths import paths
from distill_prune.store.logs import log_path
from distill_prune.store.manifest import MANIFEST
from distill_prune.store.store import STAGES, Store
from distill_prune.store.studies import Origin, remember
from distill_prune.terminal import moment, size

Screen = Callable[[int], None]


@pytest.fixture
def study(store: Store, graph: Graph) -> Store:
    """The finished store, whose study is called tiny."""
    remember(store.root, "tiny", Origin("../tiny.yaml"), paths(graph), reports=False)
    return store


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """A terminal of so many columns."""

    def of(width: int) -> None:
        for module in (columns, listing):
            monkeypatch.setattr(module, "width", lambda: width)
        from distill_prune.cli import housekeeping, showing

        for command in (housekeeping, showing):
            monkeypatch.setattr(command, "width", lambda: width)

    return of


def listed(cli: Cli, store: Store, *arguments: object) -> list[str]:
    """The paths that `ls` lists, as --json has them."""
    done = cli("ls", *arguments, "--json", "--store", store.root)
    assert done.code == 0, done.err
    return [row["path"] for row in json.loads(done.out)["artifacts"]]


# ls


def test_ls_is_in_the_order_of_the_grid(cli: Cli, study: Store, graph: Graph) -> None:
    rows = json.loads(cli("ls", "--json", "--store", study.root).out)["artifacts"]
    order = {key: i for i, key in reversed([*enumerate(paths(graph).values())])}
    assert [r["key"] for r in rows] == sorted(graph.nodes, key=lambda k: (STAGES.index(graph.nodes[k].stage), order[k]))
    fields = {"stage", "key", "label", "created", "bytes", "names", "path", "paths", "arm", "seed", "draw", "level", "copy"}
    assert all(set(r) == fields for r in rows)
    copy = next(r for r in rows if r["path"] == "tiny/synthetic/0/2/copy1")
    assert (copy["arm"], copy["seed"], copy["level"], copy["copy"]) == ("synthetic", 0, 2, 1)
    assert next(r for r in rows if r["stage"] == "data")["arm"] is None


def test_ls_has_a_line_for_each_in_a_pipe(cli: Cli, study: Store, graph: Graph) -> None:
    lines = cli("ls", "--store", study.root).out.splitlines()
    assert lines[0].split() == ["stage", "path", "key", "size", "made", "label"] and len(lines) == len(graph.nodes) + 2
    ticket = next(line for line in lines if "tiny/synthetic/0/2 " in line)
    manifest = study.manifest("prune", graph.chains["synthetic", 0][2])
    written = sum(file.size for file in manifest.files.values())
    cells = ["prune", *("tiny/synthetic/0/2", manifest.key[:12], *size(written).split()), *moment(manifest.created).split()]
    assert ticket.split() == [*cells, *manifest.label.split()]


def test_filters(cli: Cli, study: Store, graph: Graph) -> None:
    assert listed(cli, study, "prune", "--arm", "synthetic") == [f"tiny/synthetic/0/{level}" for level in range(3)]
    assert listed(cli, study, "prune", "--level", 2) == [f"tiny/{a}/0/2" for a in ("real", "synthetic", "subset", "random")]
    assert listed(cli, study, "--arm", "random", "--copy", 1) == [f"tiny/random/0/{level}/copy1" for level in (0, 2)]
    assert listed(cli, study, "--seed", 1) == [] and len(listed(cli, study, "--since", "1h")) == len(graph.nodes)
    assert listed(cli, study, "--since", "2999-01-01") == []
    unknown = cli("ls", "--arm", "real", "--store", study.root)
    assert "of no known study" not in unknown.out


def test_ls_of_a_store_without_paths(cli: Cli, store: Store, graph: Graph, screen: Screen) -> None:
    told = cli("ls", "--arm", "real", "--store", store.root)
    assert told.code == 0 and f"{len(graph.nodes)} artifacts of no known study are left out" in told.out
    screen(120)
    assert "(set synthetic)" in cli("ls", "distill", "--store", store.root).out


def test_a_long_list_is_added_up_in_a_terminal(
    cli: Cli, study: Store, graph: Graph, screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MANY", 20)
    screen(60)
    assert max(map(len, cli("ls", "--store", study.root).out.splitlines()[:-1])) <= 60
    screen(100)
    lines = cli("ls", "--store", study.root).out.splitlines()
    assert lines[0].split() == ["stage", "of", "artifacts", "size", "newest"]
    retrained = next(line for line in lines if line.startswith("retrain  tiny/synthetic"))
    assert retrained.split()[2] == "2"
    counts = [int(line.split()[2]) for line in lines if line.startswith(STAGES)]
    assert sum(counts) == len(graph.nodes) and len(counts) < 20
    assert len(cli("ls", "--all", "--store", study.root).out.splitlines()) == len(graph.nodes) + 2


@pytest.mark.parametrize("width", [60, 120])
def test_nothing_is_wider_than_the_terminal(cli: Cli, study: Store, screen: Screen, width: int) -> None:
    study.tag("tiny/set/synthetic", "a-name-of-some-length")
    screen(width)
    for command in (["ls", "--all"], ["ls"], ["gc", "--dry-run"], ["rm", "tiny/data", "--with-dependents", "--dry-run"]):
        out = cli(*command, "--store", study.root).out.splitlines()[:-1]
        assert max(map(len, out), default=0) <= width, command
    lines = cli("show", "tiny/synthetic/0/2/accuracy", "--store", study.root).out.splitlines()
    assert max(len(line) for line in lines if "key " not in line and "folder " not in line) <= width


def test_what_the_store_lacks(cli: Cli, study: Store, graph: Graph, file: str) -> None:
    assert listed(cli, study, "--missing", file) == []
    lacking = listed(cli, study, "prune", "--missing", file, "--set", "seeds=[0,1]", "--arm", "real")
    assert [path.partition("/")[2] for path in lacking] == ["real/1/0", "real/1/1", "real/1/2"]
    odd = cli("ls", "--arm", "sythetic", "--store", study.root)
    assert odd.code == 0 and "note: no arm 'sythetic' here; did you mean 'synthetic'? one of: " in odd.err
    assert cli("ls", "--arm", "synthetic", "--level", "99", "--store", study.root).err == ""
    text = cli("ls", "--missing", file, "--set", "prune.levels=3", "--store", study.root).out
    assert "synthetic/0/3" in text and text.rstrip().endswith(f"are missing from {study.root}")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--since", "soon"], "--since is no time"),
        (["--since", "2"], "--since is no time"),
        (["--since", "999999w"], "--since is no time"),
        (["--set", "seeds=[0]"], "--set goes with --missing"),
        (["--missing", "none.yaml"], "there is no pipeline file 'none.yaml'"),
        (["--missing", "digits.yaml", "--since", "2h"], "one of the two"),
    ],
)
def test_mistakes_of_ls(cli: Cli, empty: Store, arguments: list[str], said: str) -> None:
    done = cli("ls", *arguments, "--store", empty.root)
    assert done.code == 2 and said in done.err and done.out == ""


def test_damage_is_seen_at_any_width(cli: Cli, study: Store, graph: Graph, screen: Screen) -> None:
    (study.path("distill", graph.sets["subset"]) / MANIFEST).write_text("{")
    for width in (40, 120):
        screen(width)
        assert "DAMAGED" in cli("ls", "distill", "--store", study.root).out
    record = json.loads(cli("ls", "distill", "--json", "--store", study.root).out)["artifacts"][1]
    assert record["label"].startswith("DAMAGED: ") and record["bytes"] == 0 and record["path"] == "tiny/set/subset"


# show


def test_show_of_a_ticket(cli: Cli, study: Store, graph: Graph) -> None:
    study.tag("tiny/synthetic/0/2", "mine")
    lines = [line.split() for line in cli("show", "mine", "--store", study.root).out.splitlines()]
    assert lines[0] == ["tiny/synthetic/0/2:", "a", "ticket"] and ["names", "mine"] in lines
    for role, path in (("previous", "synthetic/0/1"), ("dense", "real/0/0"), ("images", "set/synthetic")):
        assert [role, f"tiny/{path}"] in lines
    key = graph.chains["synthetic", 0][2]
    made_of = [r.stage for r in study.all() if key in study.manifest(r.stage, r.key).inputs.values()]
    assert [str(made_of.count("retrain")), "retrain,", str(made_of.count("compare")), "compare"] in lines
    numbers = study.numbers("prune", key)
    assert ["sparsity", f"{100 * numbers['sparsity']:.4g}%"] in lines
    assert ["remaining", "weights", str(numbers["remaining"]), "of", str(numbers["total"])] in lines


def test_show_of_a_measurement_has_its_uncertainty(cli: Cli, study: Store, graph: Graph) -> None:
    unit = next(u for u in graph.units if u.arm == "synthetic" and u.level == 2)
    test = study.numbers("compare", unit.measured["accuracy"])["accuracy"]["test"]
    out = cli("show", "tiny/synthetic/0/2/accuracy", "--store", study.root).out
    line = next(line for line in out.splitlines() if line.startswith("  accuracy test"))
    assert line.split()[2:4] == [f"{100 * test['mean']:.4g}%", f"{100 * test['sd']:.4g}"] and line.endswith("  2")
    low, high = (min(max(100 * test[side], 0.0), 100.0) for side in ("low", "high"))
    assert f"{low:.4g} to {high:.4g}" in line
    barrier = cli("show", "tiny/synthetic/0/2/connectivity", "--store", study.root).out
    assert "barrier test error" in barrier and " points" in barrier


def test_show_of_every_kind(cli: Cli, study: Store, graph: Graph) -> None:
    heads = {
        "data": "prepared data (digits)",
        "expert/0": "a teacher's trajectory",
        "set/synthetic": "a synthetic set (trajectory)",
        "real/0/0": "the dense network: a ticket of level 0",
        "real/0/2/copy0": "a retrained copy of a ticket",
        "real/0/2/accuracy": "a measurement (accuracy)",
        "summary": "the summary of a study",
    }
    for path, head in heads.items():
        done = cli("show", f"tiny/{path}", "--store", study.root)
        assert done.code == 0 and paths(graph)[path] in done.out, done.err
        assert done.out.splitlines()[0] == f"tiny/{path}: {head}"
    assert "10 of 1 x 8 x 8" in cli("show", "tiny/set/subset", "--store", study.root).out


def test_show_for_programs_is_the_manifest_and_the_numbers(cli: Cli, study: Store, graph: Graph) -> None:
    shown = json.loads(cli("show", "tiny/summary", "--json", "--store", study.root).out)
    assert set(shown) == {"path", "manifest", "numbers"}
    assert shown["manifest"] == study.manifest("compare", graph.summary).document()
    assert shown["numbers"] == study.numbers("compare", graph.summary)


def test_a_log_and_losses_are_named(cli: Cli, study: Store, graph: Graph) -> None:
    log = log_path(study, graph.sets["synthetic"])
    log.parent.mkdir(exist_ok=True)
    log.write_text("a line")
    shown = cli("show", "tiny/set/synthetic", "--store", study.root).out
    assert f"log      {log}" in shown or f"log     {log}" in shown
    assert "log  " not in cli("show", "tiny/set/subset", "--store", study.root).out


def test_an_input_that_is_gone_is_said(cli: Cli, study: Store, graph: Graph) -> None:
    import shutil

    shutil.rmtree(study.path("experts", tiny.node_of(graph, "expert 0").key))
    assert "tiny/expert/0 (not in the store)" in cli("show", "tiny/set/synthetic", "--store", study.root).out


def test_a_picture_of_a_set(cli: Cli, study: Store, tmp_path: Path) -> None:
    done = cli("show", "tiny/set/synthetic", "--picture", tmp_path / "set.png", "--store", study.root)
    assert done.code == 0 and f"picture: {tmp_path / 'set.png'}" in done.out
    with Image.open(io.BytesIO((tmp_path / "set.png").read_bytes())) as picture:
        assert picture.format == "PNG" and picture.width > picture.height == 68


@pytest.mark.parametrize(
    ("ref", "name", "said"),
    [
        ("tiny/data", "a.png", "'tiny/data' has no images to show"),
        ("tiny/set/synthetic", "a.jpg", "a name that ends in .png"),
        ("tiny/set/synthetic", "no/a.png", "cannot be written"),
    ],
)
def test_pictures_that_cannot_be(cli: Cli, study: Store, tmp_path: Path, ref: str, name: str, said: str) -> None:
    done = cli("show", ref, "--picture", tmp_path / name, "--store", study.root)
    assert done.code == 2 and said in done.err and done.out == "" and not list(tmp_path.glob("*.*g"))


# words and tables


def test_sizes() -> None:
    told = {0: "0 B", 999: "999 B", 1000: "1.0 kB", 9_949: "9.9 kB", 9_950: "10 kB", 999_499: "999 kB", 999_500: "1.0 MB"}
    assert {count: size(count) for count in told} == told and size(29_400_000) == "29 MB" and size(3 * 10**13) == "30 TB"


def test_a_table_drops_columns_before_it_cuts() -> None:
    heads = (Column("a", shrinks=4), Column("b", last=1), Column("c", last=2))
    row = ("x/" + "y" * 10, "bbbb", "cccc")
    assert [len(line) for line in table(heads, [row], None)] == [21, 24]
    assert "cccc" not in table(heads, [row], 20)[1] and "bbbb" in table(heads, [row], 20)[1]
    assert table(heads, [row], 8)[1] == "…yyyyyyy" and table(heads, [("x", "", "")], None) == ["a", "x"]
