"""Sentences by hand: a vocabulary of twelve word pieces, ten labelled texts, and what they are in pieces."""

from __future__ import annotations

import gzip
from pathlib import Path

from torch import Tensor

VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "good", "bad", "film", "##s", '"', "no", "cafe"]
ID = {word: i for i, word in enumerate(VOCABULARY)}
TEXTS = ["a good film", "a bad film", "good films", "no film", "bad", "no good", "a film", "good", "no bad film", "films"]
LABELS = ["1", "0", "1", "0", "0", "0", "1", "1", "0", "1"]


def vocabulary(tmp_path: Path) -> str:
    """Made a fixture by its tests: a directory with a vocabulary."""
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


def written(tmp_path: Path) -> Path:
    """Made a fixture by its tests: ten examples to train with, two to test with."""
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
