"""Labelled sentences, or pairs of them, in tab-separated files: a folder with train.tsv and dev.tsv, or one file, split here.

Each line is an example, its columns parted by tabs; quotation marks are plain text. Files are UTF-8, also with a byte order
mark or carriage returns, and may be gzipped (.tsv.gz). Labels are classes, or with `regression` numbers. The dev file is the
test part: published test files have no labels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from distill_prune.data.labels import check_names
from distill_prune.data.source import Remembered, file_hash
from distill_prune.data.split import chosen, hold_out
from distill_prune.data.tokens import LoadedText, TextSource, Tokenizer, tokenize
from distill_prune.data.tokens import fingerprint as tokenizer_fingerprint
from distill_prune.data.tsv_file import Column, Columns, Part, file_of, numbered, numbers, packed
from distill_prune.errors import DataError, Misfit
from distill_prune.settings import digest


class Settings(TextSource):
    """`sentence`, `second` and `label` are names of columns, or with `header: false` their positions from 0.

    `test_share` splits a single file.
    """

    OUTSIDE_KEYS: ClassVar[frozenset[str]] = TextSource.OUTSIDE_KEYS | {"train", "test"}

    name: Literal["tsv"] = "tsv"
    train: str | None = Field(None, description="the folder's training file; null: train.tsv or train.tsv.gz")
    test: str | None = Field(None, description="the folder's test file; null: dev.tsv or dev.tsv.gz")
    header: bool = Field(True, description="whether the first line names the columns")
    sentence: Column = Field("sentence", description="the column of the sentence: its name, or its position from 0")
    second: Column | None = Field(None, description="the column of the second sentence of a pair")
    label: Column = Field("label", description="the column of the label: its name, or its position from 0")
    classes: tuple[str, ...] | None = Field(
        None, min_length=2, description="texts of labels, in order; null: the training file's, sorted"
    )
    regression: bool = Field(False, description="labels are numbers, not classes")
    test_share: float = Field(0.2, gt=0, lt=1, description="share that becomes the test part, of a single file")

    @property
    def has_classes(self) -> bool:
        return not self.regression

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        for name in ("sentence", "second", "label"):
            column = getattr(self, name)
            if column is not None and isinstance(column, str) != self.header:
                kinds = ("names, which stand in the header", "positions from 0, as there is no header")
                raise Misfit("no column can be told so", [name], got=column, expected=f"{kinds[not self.header]} (header)")
        if self.regression and self.classes is not None:
            raise Misfit("with regression labels are numbers, which have no classes", ["classes"], fix="leave classes out")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise Misfit("a class is given twice", ["classes"], got=list(self.classes))
        return self


def fingerprint(settings: Settings, remembered: Remembered | None = None) -> str:
    """sha256 of the hashes of the files and of the tokenizer's.

    Raises:
        DataError: a file is missing, or there is no tokenizer.
        UserError: the package that holds the tokenizer is missing.
    """
    return hashed(_files(settings), settings.tokenizer, remembered)


def load(settings: Settings) -> LoadedText:
    """The chosen rows of the train part, then those of the test part, tokenized.

    Raises:
        DataError: a file is missing, or does not hold what it should.
        UserError: a package that text takes is missing.
    """
    files, place = _files(settings), Path(settings.path).expanduser().resolve()
    columns = Columns(settings.sentence, settings.second, settings.label, settings.header)
    names = None if settings.classes is None else {text: text for text in settings.classes}
    parts = [Part.read(file, columns) for file in files]
    title = settings.title or (place.name if place.is_dir() else place.name.removesuffix(".gz").removesuffix(".tsv"))
    return loaded(settings, parts, names, title, regression=settings.regression, share=settings.test_share)


def _files(settings: Settings) -> list[Path]:
    """The training and the test file of a folder, or the single file."""
    path, named = Path(settings.path).expanduser(), (settings.train, settings.test)
    if not path.exists():
        raise DataError(
            f"there is no data at '{path}'",
            fix="give the path of a folder with train.tsv and dev.tsv, or of one .tsv file",
            setting="path",
        )
    if path.is_dir():
        return [file_of(path, [name] if name else packed(part)) for name, part in zip(named, ("train", "dev"), strict=True)]
    if settings.train or settings.test:
        raise DataError(f"'{path}' is a file, and `train` and `test` name files of a folder", fix="the folder as `path`")
    return [path]


# -- what every set of such files is read by


def hashed(files: Sequence[Path], tokenizer: str, remembered: Remembered | None) -> str:
    """What stands for the bytes of a training and a test file, or of a single one, and a tokenizer."""
    hashes = [file_hash(file, remembered) for file in files]
    return digest({"files": hashes, "tokenizer": tokenizer_fingerprint(tokenizer, remembered)})


def loaded(
    settings: TextSource,
    parts: Sequence[Part],
    names: Mapping[str, str] | None,
    title: str,
    *,
    regression: bool = False,
    share: float = 0.0,
) -> LoadedText:
    """The chosen rows of a training and a test part, or of a single one that is split, tokenized.

    `names` are the classes' names by the texts of their labels; None takes the training part's texts, sorted.

    Raises:
        DataError: a label or an example cannot be used, or there are too few.
        UserError: a package that text takes is missing.
    """
    names = {} if regression else names or {text: text for text in sorted({*parts[0].labels} - {""})}
    check_names(names, settings.path)
    known = [numbers(part) if regression else numbered(part, names) for part in parts]
    # Where labels are numbers there is one stratum.
    classes, strata = ("numbers",) if regression else tuple(names.values()), [_strata(y) for y in known]
    if len(parts) == 2:
        pools = tuple(torch.arange(len(y)) for y in known)
    else:
        pools = hold_out(strata[0], share, classes, settings.split_seed, of=settings.path)
        parts, known, strata = [*parts] * 2, known * 2, strata * 2
    asked = (settings.rows, settings.test_rows)
    train, test = (rows.tolist() for rows in chosen(pools, strata, asked, classes, settings.split_seed, of=settings.path))
    rows = [(part, row) for part, kept in zip(parts, (train, test), strict=True) for row in kept]
    tokenizer = Tokenizer.read(settings.tokenizer)
    tokens = tokenize(
        tokenizer,
        [part.first[row] for part, row in rows],
        [part.second[row] for part, row in rows if part.second is not None] if parts[0].second is not None else None,
        max_length=settings.max_length,
        too_long=settings.too_long,
        where=lambda i: rows[i][0].where(rows[i][1]),
    )
    labels = torch.cat([y[kept] for y, kept in zip(known, (train, test), strict=True)])
    is_test = torch.arange(len(rows)) >= len(train)
    return LoadedText(tokens, labels, is_test, () if regression else classes, 1.0, title, tokenizer.vocabulary)


def _strata(labels: Tensor) -> Tensor:
    return torch.zeros(len(labels), dtype=torch.int64) if labels.is_floating_point() else labels
