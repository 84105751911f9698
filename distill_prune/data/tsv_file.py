"""Tab-separated files of labelled sentences: their columns, line by line, and their labels as numbers."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.errors import DataError, nearest
from distill_prune.limits import Budget
from distill_prune.outside import content, gunzipped

_TEXT, _CELL = 6, 100
"""Bytes of memory for a byte of text (itself, as a string, which has up to 4 for a letter, and cut up), and for a column of a
line, which is an object."""

Column = Annotated[int, Field(strict=True, ge=0)] | str
"""A column by its name in the header, or by its position from 0 in a file without one."""


@dataclass(frozen=True)
class Columns:
    """Where a file has its sentences and labels."""

    sentence: Column
    second: Column | None
    label: Column
    header: bool


def packed(name: str, kind: str = "tsv") -> list[str]:
    """The names of a file as it is and gzipped."""
    return [f"{name}.{kind}", f"{name}.{kind}.gz"]


def file_of(folder: Path, names: Sequence[str]) -> Path:
    """The first file of these names in `folder`.

    Raises:
        DataError: there is none.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    there = ", ".join(sorted(f.name for f in folder.iterdir())[:20]) if folder.is_dir() else "no such folder"
    raise DataError(f"the folder '{folder}' has no {names[0]}", got=there or "nothing", expected=" or ".join(names))


@dataclass(frozen=True)
class Part:
    """The texts of one file, row by row; `header` is the number of lines before the first."""

    path: Path
    first: list[str]
    second: list[str] | None
    labels: list[str]
    header: int

    def where(self, row: int) -> str:
        return f"'{self.path}', line {row + 1 + self.header}"

    @classmethod
    def read(cls, path: Path, columns: Columns) -> Part:
        """The columns of a file.

        Raises:
            DataError: it cannot be read, a column is not there, or a line has too few or too many.
        """
        lines = lines_of(path)
        header = lines.pop(0) if columns.header else None
        if not lines:
            raise DataError(f"'{path}' has no examples", got="a header alone")
        width, begin = len(header or lines[0]), int(columns.header)
        asked = (columns.sentence, columns.second, columns.label)
        places = [None if column is None else _place(column, header, width, path) for column in asked]
        first, second, labels = ([] if place is None else [line[place] for line in lines] for place in places)
        return cls(path, first, None if columns.second is None else second, labels, begin)


def numbered(part: Part, names: Iterable[str]) -> Tensor:
    """Labels (N,) int64 by the texts of the classes."""
    number = {text: c for c, text in enumerate(names)}
    for row, text in enumerate(part.labels):
        if not text or text not in number:
            classes = ", ".join(map(repr, [*number][:20])) + (", ..." if len(number) > 20 else "")
            raise DataError(
                f"{part.where(row)}: a label outside the classes" if text else f"{part.where(row)}: no label",
                got=repr(text),
                expected=classes,
            )
    return torch.tensor([number[text] for text in part.labels])


def numbers(part: Part) -> Tensor:
    """Labels (N,) float32."""
    values = []
    for row, text in enumerate(part.labels):
        try:
            values.append(float(text))
        except ValueError:
            values.append(float("nan"))
        if not isfinite(values[-1]):
            raise DataError(f"{part.where(row)}: a label that is no number", got=repr(text), expected="a finite number")
    return torch.tensor(values, dtype=torch.float32)


def lines_of(path: Path) -> list[list[str]]:
    """The columns of every line, as many in each.

    Raises:
        DataError: the file cannot be read or is empty, or a line has too few columns or too many.
    """
    lines = [line.removesuffix("\r").split("\t") for line in text_of(path).removesuffix("\n").split("\n")]
    if lines == [[""]]:
        raise DataError(f"'{path}' is empty", expected="a line for each example")
    width = len(lines[0])
    for row, line in enumerate(lines):
        if len(line) != width:
            raise DataError(
                f"'{path}', line {row + 1}: too {'few' if len(line) < width else 'many'} columns",
                got=len(line),
                expected=f"{width}, as in line 1",
            )
    return lines


def text_of(path: Path) -> str:
    """The text of a file in UTF-8, unpacked, without a byte order mark.

    Raises:
        DataError: it cannot be read, is too large, or is no such text.
    """
    try:
        budget = Budget(path)
        text = gunzipped(path, budget, _TEXT) if path.suffix == ".gz" else content(path, budget, _TEXT)
        cells = text.count(b"\t") + text.count(b"\n")
        budget.take(_CELL * cells, f"{cells} columns of lines")
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError(f"'{path}' is no text in UTF-8", got=f"{problem.reason} at byte {problem.start}") from None
    except (OSError, EOFError, zlib.error) as problem:
        raise DataError(f"cannot read '{path}'", got=problem) from None


def _place(column: Column, header: Sequence[str] | None, width: int, path: Path) -> int:
    """The position of a column."""
    if header is None:
        if int(column) >= width:
            raise DataError(f"'{path}' has no column {column}", got=f"{width} columns", expected=f"0..{width - 1}")
        return int(column)
    if header.count(str(column)) != 1:
        there = f"{header.count(str(column))} columns" if column in header else "no column"
        raise DataError(f"'{path}' has {there} '{column}'", expected=nearest(str(column), set(header)))
    return header.index(str(column))
