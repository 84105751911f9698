"""What there is to choose from, and pipelines for one's own data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from numpy.typing import NDArray
from PIL import Image
from tiny import Cli

from distill_prune.data.augment import FAMILIES, WORDS
from distill_prune.data.preparation import Survey
from distill_prune.errors import DataError
from distill_prune.plan.catalog import entries, pipelines, plain, settings_of
from distill_prune.plan.config import load, parse
from distill_prune.plan.foresight import foresee
from distill_prune.plan.graph import build
from distill_prune.plan.new import new_pipeline
from distill_prune.plan.new_text import LONGEST, PIECES, TEST_ROWS
from distill_prune.plan.plain import parse_yaml
from distill_prune.plan.sizes import LADDER, SECONDS, Size, fitted, seconds
from distill_prune.plugins import TABLES, table_of
from distill_prune.store.store import Store


def test_every_entry_is_listed_with_a_sentence() -> None:
    listed = {(line.kind, line.name): line.about for line in entries()}
    for table in map(table_of, TABLES):
        for name in table:
            assert listed[table.kind, name] and "\n" not in listed[table.kind, name]
    assert {name for kind, name in listed if kind == "augmentation"} == {*WORDS} >= {*FAMILIES}


def test_every_setting_has_a_default_or_must_be_given_and_a_meaning() -> None:
    for name in {line.name for line in entries() if line.kind not in ("augmentation", "recipe preset")} | {"recipe"}:
        for _, settings in settings_of(name):
            assert all(setting.about for setting in settings), name
    (_, settings), *_ = settings_of("convnet")
    assert {s.name: s.default for s in settings}["depth"] == "3"
    assert {s.name: s.default for line, fields in settings_of("npz") if line.kind == "data set" for s in fields}["path"] == ""


def test_values_are_as_yaml_has_them() -> None:
    values = (None, True, 0.1, 5e-4, (1, 0.5), "", "a")
    assert [plain(v) for v in values] == ["null", "true", "0.1", "0.0005", "[1, 0.5]", '""', "a"]


def test_pipelines_have_titles() -> None:
    assert all(line.about for line in pipelines()) and "digits.yaml" in {line.name for line in pipelines()}


def test_the_commands(cli: Cli) -> None:
    assert "digits.yaml" in cli("pipelines").out
    assert json.loads(cli("pipelines", "--json").out)["pipelines"][0]["title"]
    assert "  convnet" in cli("entries").out and "inner_steps: 30" in cli("entries", "trajectory").out
    assert json.loads(cli("entries", "snip", "--json").out)["entries"][0]["settings"]
    assert {e["kind"] for e in json.loads(cli("entries", "--json").out)["entries"]} >= {"model", "format", "analysis"}
    odd = cli("entries", "convnett")
    assert odd.code == 2 and "did you mean 'convnet'?" in odd.err


# -- new


def stripes(rows: int, side: int = 12, classes: int = 3) -> tuple[NDArray[Any], NDArray[Any]]:
    y = np.arange(rows) % classes
    x = np.random.default_rng(0).integers(0, 150, (rows, side, side), np.uint8)
    for row, label in enumerate(y):
        x[row, side // classes * label : side // classes * (label + 1)] += 100
    return x, y


def arrays(path: Path, rows: int) -> Path:
    x, y = stripes(rows)
    np.savez(path, x=x, y=y)
    return path


def pictures(folder: Path) -> Path:
    x, y = stripes(60, 40, 2)
    for row, label in enumerate(y):
        (folder / "ab"[label]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(x[row, : 40 - 8 * (row % 3 == 0)]).save(folder / "ab"[label] / f"{row}.png")
    return folder


@pytest.mark.parametrize("kind", ["arrays", "pictures"])
def test_what_new_writes_can_be_run(kind: str, tmp_path: Path, empty: Store) -> None:
    data = arrays(tmp_path / "mine.npz", 300) if kind == "arrays" else pictures(tmp_path / "pictures")
    written = new_pipeline("mine", data)
    (tmp_path / "mine.yaml").write_text(written.text)
    name, pipeline = load(str(tmp_path / "mine.yaml"))
    graph = build(pipeline, empty)
    foresee(graph, empty, graph.nodes)
    assert name == "mine" and len(pipeline.seeds) == 6 and written.survey is not None
    if kind == "pictures":
        assert dict(pipeline.data)["size"] == 32 and dict(pipeline.data)["channels"] == 1
    shrunk = ["seeds=[0]", "prune.levels=1", "levels=null", "retrain.copies=2", "compare.connectivity.points=2"]
    shrunk += ["retrain.recipe.length=4it", "prune.real.length=4it", "prune.recipe.length=4it", "compare.evaluation.length=4it"]
    shrunk += ["distill.synthetic.iterations=2", "experts.count=1", "compare.curvature.rows=8"]
    done = tiny.start(
        "run", str(tmp_path / "mine.yaml"), "--store", str(empty.root), *(w for s in shrunk for w in ("--set", s))
    )
    out, err = done.communicate(timeout=120)
    assert done.returncode == 0 and "Inconclusive: 1 initialisation" in out, err


def test_the_largest_size_that_ends_in_minutes_is_taken() -> None:
    def rung(side: int, channels: int = 1, rows: int = 5_000, classes: int = 10) -> int:
        def used(size: Size) -> Survey:
            pixels, part = min(side, size.side), min(rows, size.rows)
            counts = (part // classes,) * classes
            return Survey((channels, pixels, pixels), tuple(map(str, range(classes))), counts, (part, 0, size.test_rows))

        return next(i for i, size in enumerate(LADDER) if seconds(fitted(size, used(size)), used(size)) <= SECONDS)

    assert [rung(12, rows=300, classes=3), rung(28), rung(32), rung(32, 3)] == [0, 3, 3, 4]
    assert [rung(64), rung(64, 3)] == [rung(32), rung(32, 3)]  # scaled to as many pixels
    smallest = Survey((3, 16, 16), tuple(map(str, range(100))), (20,) * 100, (2_000, 0, 500))
    assert seconds(fitted(LADDER[-1], smallest), smallest) <= SECONDS
    assert fitted(LADDER[0], smallest).ipc == 1


def test_of_large_data_a_part_is_used(tmp_path: Path) -> None:
    written = new_pipeline("large", arrays(tmp_path / "large.npz", 15_000))
    train, validation, test = written.survey.splits if written.survey is not None else (0, 0, 0)
    sizes = {size.rows: size.test_rows for size in LADDER}
    assert test == sizes[train + validation] and f"rows: {train + validation}, test_rows: {test}" in written.text


def test_large_images_are_scaled(tmp_path: Path) -> None:
    x, y = stripes(40, 96, 2)
    np.savez(tmp_path / "a.npz", x=x, y=y)
    written = new_pipeline("mine", tmp_path / "a.npz")
    assert written.survey is not None and written.survey.shape == (
        1,
        dict(written.source)["size"],
        dict(written.source)["size"],
    )


@pytest.mark.parametrize(("few", "held_out"), [(2, {"validation": 0.0, "test_share": 0.5}), (3, {"validation": 0.0})])
def test_few_examples_of_a_class_are_parted(few: int, held_out: dict[str, float], tmp_path: Path) -> None:
    y = np.array([0] * 40 + [1] * 40 + [2] * few)
    np.savez(tmp_path / "a.npz", x=np.zeros((len(y), 8, 8), np.uint8), y=y)
    written = new_pipeline("mine", tmp_path / "a.npz")
    assert {n: v for n, v in written.source if n in written.source.model_fields_set - {"path", "name"}} == held_out
    assert "{name: subset, ipc: 1," in written.text


def test_what_was_seen_is_written(tmp_path: Path, cli: Cli) -> None:
    folder = tmp_path / "odd, {x: 1} #"
    written = new_pipeline("1e3: a", pictures(folder))
    pipeline = parse(parse_yaml(written.text), "mine.yaml")
    assert pipeline.title == "1e3: a" and dict(pipeline.data)["path"] == str(folder)
    assert "# 60 images of 32x32 pixels, 1 channel, 2 classes" in written.text and "of a class: a 21, b 22" in written.text


def text(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


PAIRS = [f"{i}\twords of the number {i} here\tand more of the number {i}\t{'no' if i % 3 else 'yes'}" for i in range(30)]


@pytest.mark.parametrize(
    ("lines", "columns"),
    [
        (["sentence\tlabel", *["good film\t1", "bad film\t0"] * 20], {}),
        (["mood\tmy text", *["1\tgood film", "0\tbad film"] * 20], {"sentence": "my text", "label": "mood"}),
        (["good film\t1", "bad film\t0"] * 20, {"header": False, "sentence": 0, "label": 1}),
        (["s\t1\t*\ta good film", "s\t0\t\ta bad film"] * 20, {"header": False, "sentence": 3, "label": 1}),
        (["id\ta\tb\tis it", *PAIRS], {"sentence": "a", "second": "b", "label": "is it"}),
    ],
)
def test_columns_of_text_are_recognised(lines: list[str], columns: dict[str, object], tmp_path: Path) -> None:
    written = new_pipeline("mine", text(tmp_path / "mine.tsv", *lines))
    pipeline = parse(parse_yaml(written.text), "mine.yaml")
    assert pipeline.data == written.source and len(pipeline.seeds) == 6
    ours = written.source.model_fields_set - {"path", "name", "validation"}
    assert {n: v for n, v in written.source if n in ours} == columns


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["text\tlabel", *[f"words {i}\tx" for i in range(20)]], "no classes.*\\n.*1 distinct text in 20 lines"),
        (["text\tlabel", *[f"words {i}\t{i}" for i in range(50)]], "no classes.*\\n.*50 distinct texts"),
        (["id\ttext", *[f"{i}\twords {i}" for i in range(50)]], "no column of labels"),
        (["a\tb"], "one line"),
        (["a\tb", "c"], "line 2: too few columns"),
    ],
)
def test_text_without_classes_is_refused(lines: list[str], message: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=message):
        new_pipeline("mine", text(tmp_path / "mine.tsv", *lines))


def test_a_part_of_long_text_is_used(tmp_path: Path) -> None:
    lines = ["sentence\tlabel", *[f"{'many words ' * 30}{i}\t{i % 2}" for i in range(2_000)]]
    source = dict(new_pipeline("mine", text(tmp_path / "mine.tsv", *lines)).source)
    assert source["too_long"] == "truncate" and source["rows"] == PIECES // LONGEST and source["test_rows"] == TEST_ROWS


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda path: None, "there is no data at"),
        (lambda path: path.mkdir(), "holds no images"),
        (lambda path: path.write_bytes(b"x"), "is of no kind that is known"),
    ],
)
def test_what_is_no_data_is_refused(make: Any, message: str, tmp_path: Path) -> None:
    make(tmp_path / "data")
    with pytest.raises(DataError, match=message):
        new_pipeline("mine", tmp_path / "data")


def test_new_overwrites_nothing(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    arrays(tmp_path / "a.npz", 90)
    first = cli("new", "mine", "--data", "a.npz")
    assert (
        first.code == 0
        and "90 images of 12x12 pixels, 1 channel, 3 classes" in first.out
        and (tmp_path / "mine.yaml").is_file()
    )
    again = cli("new", "mine", "--data", "a.npz")
    assert again.code == 2 and "exists already" in again.err
    (tmp_path / "a.tsv").write_text("sentence\tlabel\n" + "good\t1\nbad\t0\n" * 20, encoding="utf-8")
    lost = cli("new", "text", "--data", "a.tsv", "--tokenizer", "nowhere")
    assert lost.code == 2 and "there is no tokenizer at 'nowhere'" in lost.err and not (tmp_path / "text.yaml").exists()
    elsewhere = cli("new", "there/mine", "--data", "a.npz")
    assert elsewhere.code == 2 and "there is no folder 'there' for 'there/mine.yaml'" in elsewhere.err
