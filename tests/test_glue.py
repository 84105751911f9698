"""Tasks of GLUE, and several tasks at once: how their files are read and put together, what is refused."""

from __future__ import annotations

import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from reference_text import VOCABULARY, rows, vocabulary, write, written

from distill_prune import data
from distill_prune.artifacts import Sentences
from distill_prune.data import glue, union
from distill_prune.errors import DataError

pytest.importorskip("tokenizers")


words = pytest.fixture(vocabulary)
folder = pytest.fixture(written)


# tasks of GLUE, and several at once

TASKS = {
    "SST-2": (["sentence\tlabel", "a good film \t1", "bad \t0"], [[2, 4, 5, 7, 3], [2, 6, 3]], [1, 0]),
    "CoLA": (["gj04\t1\t\tA film.", "gj04\t0\t*\tFilm a."], [[2, 4, 7, 1, 3], [2, 7, 4, 1, 3]], [1, 0]),
    "RTE": (
        ["index\tsentence1\tsentence2\tlabel", "0\tgood\tbad\tnot_entailment", "1\ta film\tfilm\tentailment"],
        [[2, 5, 3, 6, 3], [2, 4, 7, 3, 7, 3]],
        [1, 0],
    ),
    "MRPC": (
        ["\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String", "1\t7\t8\t\" good\tgood", "0\t9\t9\tbad\tno"],
        [[2, 9, 5, 3, 5, 3], [2, 6, 3, 10, 3]],
        [1, 0],
    ),
}  # fmt: skip
CLASSES = {
    "SST-2": ("negative", "positive"),
    "CoLA": ("unacceptable", "acceptable"),
    "RTE": ("entailment", "not_entailment"),
    "MRPC": ("not_equivalent", "equivalent"),
}


@pytest.fixture(params=["TASK_part.tsv.gz", "TASK/part.tsv"])
def benchmark(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    for task, (lines, _, _) in TASKS.items():
        for part in ("train", "dev"):
            write(tmp_path / "glue" / request.param.replace("TASK", task).replace("part", part), *lines)
    return tmp_path / "glue"


def of(benchmark: Path, words: str, task: str, **more: Any) -> glue.Settings:
    return glue.Settings(path=str(benchmark), task=task.lower().replace("-", ""), tokenizer=words, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("task", TASKS)
def test_tasks_of_glue(benchmark: Path, words: str, task: str) -> None:
    found = glue.load(of(benchmark, words, task))
    _, expected, labels = TASKS[task]
    assert rows(found.pixels) == expected * 2 and found.labels.tolist() == labels * 2
    assert found.classes == CLASSES[task] and found.title == task and found.test.tolist() == [False, False, True, True]
    assert len(data.fingerprint(of(benchmark, words, task))) == 64


def test_glue_that_is_not_there(tmp_path: Path, words: str) -> None:
    for ask in (data.fingerprint, data.prepare):
        with pytest.raises(DataError, match=r"there is no folder '.*none'\n  fix: .* a folder with RTE_train.tsv"):
            ask(of(tmp_path / "none", words, "RTE"))
        with pytest.raises(
            DataError,
            match=r"has no SST-2_train.tsv\n  got:      words\n  expected: SST-2_train.tsv or .* or SST-2/train.tsv or",
        ):
            ask(of(tmp_path, words, "SST-2"))


def union_of(benchmark: Path, words: str, *tasks: str, **more: Any) -> union.Settings:
    entries = {task: {**of(benchmark, words, task).model_dump(), "name": "glue"} for task in tasks}
    return union.Settings(tasks=entries, **more)


def test_a_union_is_its_tasks_one_after_the_other(benchmark: Path, words: str) -> None:
    names = ["CoLA", "MRPC", "SST-2"]
    found = union.load(union_of(benchmark, words, *reversed(names)))
    assert found.classes == tuple(f"{name}/{text}" for name in names for text in CLASSES[name])
    assert found.heads == (2, 2, 2) and found.title == "CoLA + MRPC + SST-2" and found.vocabulary == 12
    at = 0
    for t, name in enumerate(names):
        alone = glue.load(of(benchmark, words, name))
        here = slice(at, at + len(alone.labels))
        for example, (piece, segment) in zip(found.pixels[here].tolist(), alone.pixels.tolist(), strict=True):
            padding = [0] * (6 - len(piece))
            assert example == [piece + padding, [s + 2 * t if s else 0 for s in segment] + padding]
        assert found.labels[here].tolist() == [y + 2 * t for y in alone.labels.tolist()]
        assert torch.equal(found.test[here], alone.test)
        at = here.stop
    assert found.pixels.shape == (at, 2, 6) and found.pixels.dtype == torch.int32


def test_a_union_is_split_once(folder: Path, words: str) -> None:
    entry = {"name": "tsv", "path": str(folder), "tokenizer": words}
    settings = union.Settings(tasks={"b": entry, "a": {**entry, "rows": 6}}, validation=0.25)
    made = data.prepare(settings)
    assert isinstance(made, Sentences) and made.heads == (2, 2) and made.title == "set + set"
    assert made.split.tolist().count(2) == 4 and made.labels[made.split == 1].bincount().tolist() == [1, 1, 1, 1]
    again = Sentences.of(made.parts())
    assert again.heads == (2, 2) and torch.equal(again.tokens, made.tokens)
    drawn = union.load(settings.model_copy(update={"split_seed": 1})).pixels
    assert not torch.equal(drawn, union.load(settings).pixels)


def test_keys_of_a_union(benchmark: Path, words: str, tmp_path: Path) -> None:
    settings = union_of(benchmark, words, "RTE", "CoLA")
    assert settings == union_of(benchmark, words, "CoLA", "RTE", title="")
    tasks = settings.identity()["tasks"]
    assert [*tasks] == ["CoLA", "RTE"] and tasks["RTE"] == of(benchmark, words, "RTE").identity()
    assert str(tmp_path) not in json.dumps(settings.identity()) and "title" not in settings.identity()
    assert union.Settings.model_validate(settings.model_dump()) == settings
    before = data.fingerprint(settings)
    path = next(benchmark.rglob("*RTE*/dev.tsv"), benchmark / "RTE_dev.tsv.gz")
    path.write_bytes(gzip.compress(b"other") if path.suffix == ".gz" else b"other")
    assert data.fingerprint(settings) != before


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"path": "x"}, "a.name: a task is a data set of text: got no name: one of: glue, tsv"),
        ("tsv", "a.name: a task is a data set of text"),
        ({"name": "digits"}, "a.name: a task is a data set of text: got digits: one of: glue, tsv"),
        ({"name": "union", "tasks": {}}, "a task is a data set of text: got union"),
        ({"name": "tsv", "path": "x", "labels": "y"}, r"tasks\.a\.labels"),
        ({"name": "glue", "path": "x"}, r"tasks\.a\.task"),
        ({"name": "glue", "path": "x", "task": "wnli"}, r"tasks\.a\.task"),
        ({"name": "tsv", "path": "x", "header": False}, "sentence: no column can be told so"),
        ({"name": "tsv", "path": "x", "regression": True}, "a: a union has classes, and the labels of this task are numbers"),
        ({"name": "tsv", "path": "x", "validation": 0.2}, "a.validation: it is the union's"),
        ({"name": "tsv", "path": "x", "split_seed": 3}, "a.split_seed: it is the union's"),
    ],
)
def test_refused_tasks(task: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        union.Settings(tasks={"a": task, "b": {"name": "tsv", "path": "x"}})


def test_a_union_has_tasks() -> None:
    for tasks, message in (({"b": {"name": "tsv", "path": "x"}}, "at least 2 items"), (["tsv"], "valid dictionary")):
        with pytest.raises(ValidationError, match=message):
            union.Settings(tasks=tasks)


def test_tasks_of_a_union_that_do_not_go_together(folder: Path, words: str, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(words, other)
    (other / "vocab.txt").write_text("\n".join([*VOCABULARY, "more"]), encoding="utf-8")
    entry = {"name": "tsv", "path": str(folder), "tokenizer": words}
    settings = union.Settings(tasks={"a": entry, "b": {**entry, "tokenizer": str(other)}})
    for ask in (data.fingerprint, data.prepare):
        with pytest.raises(DataError, match=r"the tasks 'a' and 'b' have different tokenizers\n  got:      '.*other'"):
            ask(settings)
    write(tmp_path / "one" / "train.tsv", "sentence\tlabel", "a\t0")
    write(tmp_path / "one" / "dev.tsv", "sentence\tlabel", "a\t0")
    alone = union.Settings(tasks={"a": entry, "b": {**entry, "path": str(tmp_path / "one")}})
    with pytest.raises(DataError, match=r"task 'b' has a single class\n  got:      \['0'\]"):
        data.prepare(alone)
