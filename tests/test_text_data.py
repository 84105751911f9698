"""Text: what is read from tab-separated files, and what is refused."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from reference_text import LABELS, ROWS, TEXTS, ids, rows, vocabulary, write, written

from distill_prune import data
from distill_prune.artifacts import Sentences
from distill_prune.data import tsv
from distill_prune.errors import DataError

pytest.importorskip("tokenizers")


words = pytest.fixture(vocabulary)
folder = pytest.fixture(written)


def test_a_folder_is_read_in_order(folder: Path, words: str) -> None:
    made = data.prepare(tsv.Settings(path=str(folder), tokenizer=words, validation=0.2))
    assert isinstance(made, Sentences)
    assert rows(made.tokens) == [ids(text) for text in [*TEXTS, "films", "a bad bad film"]]
    assert made.labels.tolist() == [*map(int, LABELS), 0, 1] and made.labels.dtype == torch.int64
    assert made.classes == ("0", "1") and made.title == "set" and made.vocabulary == 12 and made.heads == ()
    assert [int((made.split == i).sum()) for i in range(3)] == [8, 2, 2] and made.split[10:].tolist() == [2, 2]
    assert made.labels[made.split == 1].tolist().count(1) == 1
    test = made.examples("test")
    assert test.tokens and test.y.tolist() == [0, 1] and test.inputs(slice(None)) is not None
    assert test.lengths is not None and test.lengths.tolist() == [4, 6]


@pytest.mark.parametrize("form", ["gz", "bom", "carriage returns", "no last newline", "single separators"])
def test_forms_of_a_file(folder: Path, words: str, form: str) -> None:
    settings = tsv.Settings(path=str(folder), tokenizer=words)
    before, path = tsv.load(settings), folder / "train.tsv"
    content = path.read_bytes()
    changed: dict[str, Callable[[], bytes]] = {
        "gz": lambda: gzip.compress(content),
        "bom": lambda: b"\xef\xbb\xbf" + content,
        "carriage returns": lambda: content.replace(b"\n", b"\r\n"),
        "no last newline": lambda: content[:-1],
        "single separators": lambda: content.replace(b"no film", "no\u2028film".encode()),
    }
    path.unlink()
    (folder / ("train.tsv.gz" if form == "gz" else "train.tsv")).write_bytes(changed[form]())
    after = tsv.load(settings)
    assert torch.equal(after.pixels, before.pixels) and torch.equal(after.labels, before.labels)
    assert after.classes == before.classes


def test_quotation_marks_are_plain_text(tmp_path: Path, words: str) -> None:
    write(tmp_path / "train.tsv", "sentence\tlabel", '"a good film\tx', 'no "film"\ty', '"bad\tx', "bad\ty")
    write(tmp_path / "dev.tsv", "sentence\tlabel", "bad\tx", "a\ty")
    found = tsv.load(tsv.Settings(path=str(tmp_path), tokenizer=words))
    assert rows(found.pixels)[:4] == [[2, 9, 4, 5, 7, 3], [2, 10, 9, 7, 9, 3], [2, 9, 6, 3], [2, 6, 3]]
    assert found.labels.tolist() == [0, 1, 0, 1, 0, 1] and found.classes == ("x", "y")


def test_columns_by_position_and_named_files(tmp_path: Path, words: str) -> None:
    write(tmp_path / "one.tsv", "q\tyes\tbad\ta", "q\tno\tgood\tno", "q\tno\ta\ta")
    write(tmp_path / "two.tsv", "q\tno\tbad\tbad")
    settings = tsv.Settings(
        path=str(tmp_path), train="one.tsv", test="two.tsv", header=False, sentence=2, second=3, label=1,
        tokenizer=words, classes=("yes", "no"), title="Pairs",
    )  # fmt: skip
    found = tsv.load(settings)
    assert rows(found.pixels) == [[2, 6, 3, 4, 3], [2, 5, 3, 10, 3], [2, 4, 3, 4, 3], [2, 6, 3, 6, 3]]
    assert found.labels.tolist() == [0, 1, 1, 1] and found.classes == ("yes", "no") and found.title == "Pairs"


def test_a_single_file_is_split(tmp_path: Path, words: str) -> None:
    path = write(tmp_path / "reviews.tsv.gz", "sentence\tlabel", *ROWS)
    settings = tsv.Settings(path=str(path), tokenizer=words, test_share=0.4)
    found = tsv.load(settings)
    assert found.test.tolist() == [False] * 6 + [True] * 4 and found.title == "reviews"
    assert found.labels[found.test].bincount().tolist() == [2, 2]
    by_text = sorted(zip(rows(found.pixels), found.labels.tolist(), strict=True))
    assert by_text == sorted((ids(text), int(label)) for text, label in zip(TEXTS, LABELS, strict=True))
    other = tsv.load(settings.model_copy(update={"split_seed": 1}))
    assert not torch.equal(other.pixels, found.pixels)


def test_rows_take_a_stratified_random_part(folder: Path, words: str) -> None:
    settings = tsv.Settings(path=str(folder), tokenizer=words, rows=4, test_rows=2)
    found = tsv.load(settings)
    assert found.labels.tolist() == [*found.labels[:4].tolist(), 0, 1] and found.labels[:4].bincount().tolist() == [2, 2]
    known = [ids(text) for text in TEXTS]
    kept = [known.index(row) for row in rows(found.pixels)[:4]]
    assert kept == sorted(set(kept)) and [int(LABELS[k]) for k in kept] == found.labels[:4].tolist()
    with pytest.raises(DataError, match=r"rows of .*: more rows asked for than there are\n  got:      11\n"):
        tsv.load(settings.model_copy(update={"rows": 11}))


def test_only_chosen_rows_are_looked_at_for_their_length(tmp_path: Path, words: str) -> None:
    long = "a " * 20
    write(tmp_path / "train.tsv", "sentence\tlabel", *ROWS, f"{long}\t0", f"{long}\t1")
    write(tmp_path / "dev.tsv", "sentence\tlabel", "a\t0", "a\t1")
    settings = tsv.Settings(path=str(tmp_path), tokenizer=words, max_length=8)
    with pytest.raises(DataError, match=r"train.tsv', line 12: the example is too long\n  got:      22 tokens; 2 of 14"):
        tsv.load(settings)
    fits = next(s for s in range(100) if tsv_fits(settings.model_copy(update={"rows": 4, "split_seed": s})))
    assert tsv.load(settings.model_copy(update={"rows": 4, "split_seed": fits})).pixels.shape[2] <= 8


def tsv_fits(settings: tsv.Settings) -> bool:
    try:
        tsv.load(settings)
    except DataError:
        return False
    return True


def test_numbers_as_labels(tmp_path: Path, words: str) -> None:
    scores = [0.5 * i for i in range(10)]
    write(tmp_path / "train.tsv", "s\tscore", *(f"{t}\t{v}" for t, v in zip(TEXTS, scores, strict=True)))
    write(tmp_path / "dev.tsv", "s\tscore", "films\t-1e-1", "a\t3")
    settings = tsv.Settings(path=str(tmp_path), sentence="s", label="score", regression=True, tokenizer=words, validation=0.3)
    made = data.prepare(settings)
    assert isinstance(made, Sentences) and made.classes == () and made.labels.dtype == torch.float32
    assert made.labels.tolist() == [*scores, pytest.approx(-0.1), 3.0]
    assert [int((made.split == i).sum()) for i in range(3)] == [7, 3, 2]
    write(tmp_path / "dev.tsv", "s\tscore", "films\t1", "a\thigh")
    with pytest.raises(DataError, match=r"dev.tsv', line 3: a label that is no number\n  got:      'high'"):
        data.prepare(settings)
    write(tmp_path / "dev.tsv", "s\tscore", "films\tnan")
    with pytest.raises(DataError, match=r"dev.tsv', line 2: a label that is no number\n  got:      'nan'"):
        data.prepare(settings)


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("train", ["sentence\tlabel", "a\t0\tx"], r"', line 2: too many columns\n  got:      3\n  expected: 2, as in line 1"),
        ("train", ["sentence\tlabel", "a\t0", "film"], r"train.tsv', line 3: too few columns\n  got:      1\n  expected: 2"),
        ("train", ["sentence\tlabel", "a\t0", "", "b\t1"], r"train.tsv', line 3: too few columns\n  got:      1"),
        ("train", ["sentense\tlabel", "a\t0"], r"no column 'sentence'\n  expected: did you mean 'sentense'\? one of: lab"),
        ("dev", ["index\tsentence", "0\ta"], r"dev.tsv' has no column 'label'\n  expected one of: index, sentence"),
        ("dev", ["label\tlabel\tsentence", "0\t0\ta"], r"dev.tsv' has 2 columns 'label'"),
        ("dev", ["sentence\tlabel", "a\t0", "\t2"], r"3: a label outside the classes\n  got:      '2'\n  expected: '0', '1'"),
        ("dev", ["sentence\tlabel", "a\t"], r"dev.tsv', line 2: no label\n"),
        ("train", ["sentence\tlabel", "a\t", "a\t"], r"train.tsv', line 2: no label\n"),
        ("train", ["sentence\tlabel", "a\t0", "b\t0", "film\t0"], r"dev.tsv', line 3: a label outside the classes"),
        ("train", [], r"train.tsv' is empty"),
        ("dev", ["sentence\tlabel"], r"dev.tsv' has no examples\n  got:      a header alone"),
    ],
)  # fmt: skip
def test_refused_files(folder: Path, words: str, name: str, lines: list[str], message: str) -> None:
    write(folder / f"{name}.tsv", *lines)
    with pytest.raises(DataError, match=message):
        data.prepare(tsv.Settings(path=str(folder), tokenizer=words))


def test_a_single_class(folder: Path, words: str) -> None:
    for name in ("train", "dev"):
        write(folder / f"{name}.tsv", "sentence\tlabel", "a\t0", "film\t0")
    with pytest.raises(DataError, match=r"data 'set' has a single class\n  got:      \['0'\]"):
        data.prepare(tsv.Settings(path=str(folder), tokenizer=words))


def test_files_that_cannot_be_read(folder: Path, words: str) -> None:
    settings = tsv.Settings(path=str(folder), tokenizer=words)
    (folder / "train.tsv").write_bytes(b"sentence\tlabel\ncaf\xe9\t1\n")
    with pytest.raises(DataError, match=r"train.tsv' is no text in UTF-8\n  got:      invalid continuation byte at byte 18"):
        data.prepare(settings)
    (folder / "train.tsv").unlink()
    for broken in (b"no gzip", gzip.compress(b"sentence\tlabel\n" * 99)[:-12]):
        (folder / "train.tsv.gz").write_bytes(broken)
        with pytest.raises(DataError, match=r"^cannot read '.*train.tsv.gz'\n  got: "):
            data.prepare(settings)


def test_a_column_beyond_the_last(tmp_path: Path, words: str) -> None:
    path = write(tmp_path / "x.tsv", "a\t0", "a\t1")
    with pytest.raises(DataError, match=r"x.tsv' has no column 2\n  got:      2 columns\n  expected: 0..1"):
        tsv.load(tsv.Settings(path=str(path), header=False, sentence=2, label=1, tokenizer=words))


def test_files_that_are_not_there(tmp_path: Path, folder: Path, words: str) -> None:
    for ask in (data.fingerprint, data.prepare):
        with pytest.raises(DataError, match=r"there is no data at '.*/nowhere'\n  fix: "):
            ask(tsv.Settings(path=str(tmp_path / "nowhere"), tokenizer=words))
        with pytest.raises(DataError, match=r"has no train.tsv\n  got:      vocab.txt\n  expected: train.tsv or train.tsv.gz"):
            ask(tsv.Settings(path=words, tokenizer=words))
        with pytest.raises(DataError, match=r"has no lost.tsv\n  got:      dev.tsv, train.tsv\n  expected: lost.tsv"):
            ask(tsv.Settings(path=str(folder), test="lost.tsv", tokenizer=words))
        with pytest.raises(DataError, match=r"train.tsv' is a file, and `train` and `test` name files of a folder"):
            ask(tsv.Settings(path=str(folder / "train.tsv"), test="dev.tsv", tokenizer=words))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"header": False}, "sentence: no column can be told so: got sentence: positions from 0, as there is no header"),
        ({"label": 3}, "label: no column can be told so: got 3: names, which stand in the header"),
        ({"header": False, "sentence": 0, "label": -1}, "greater than or equal to 0"),
        ({"regression": True, "classes": ("a", "b")}, "labels are numbers, which have no classes"),
        ({"classes": ("a", "a")}, "a class is given twice"),
        ({"classes": ("a",)}, "at least 2 items"),
        ({"transform": "zca"}, "'text'"),
        ({"max_length": 2}, "greater than or equal to 3"),
    ],
)
def test_refused_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        tsv.Settings(path="x", **settings)


def test_keys_hold_bytes_and_no_paths(folder: Path, words: str, tmp_path: Path) -> None:
    settings = tsv.Settings(path=str(folder), tokenizer=words, title="A")
    assert not {"path", "tokenizer", "title", "train", "test"} & settings.identity().keys()
    before = data.fingerprint(settings)
    shutil.copytree(folder, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "dev.tsv").rename(tmp_path / "elsewhere" / "held.tsv")
    shutil.copytree(words, tmp_path / "words2")
    moved = tsv.Settings(path=str(tmp_path / "elsewhere"), test="held.tsv", tokenizer=str(tmp_path / "words2"), title="B")
    assert data.fingerprint(moved) == before and moved.identity() == settings.identity()
    remembered: dict[str, str] = {}
    assert data.fingerprint(settings, remembered) == before and len(remembered) == 3
    for changed in (folder / "train.tsv", folder / "dev.tsv", Path(words) / "vocab.txt"):
        changed.write_bytes(changed.read_bytes() + b"\n")
        assert data.fingerprint(settings) != before
        before = data.fingerprint(settings)
    (Path(words) / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    assert data.fingerprint(settings) != before
