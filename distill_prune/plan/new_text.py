"""A pipeline for a person's own labelled sentences: the columns are found, and a study is written that ends in minutes."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from distill_prune.data.tsv_file import file_of, lines_of, packed
from distill_prune.errors import DataError
from distill_prune.letters import printable

LINE = 120
"""Characters of a line of comments."""
CLASSES = 20
"""Distinct texts of a column at most that are taken for labels."""
SENTENCE = 3
"""Words of a second column, on average, from which on examples are taken for pairs."""
ROWS, TEST_ROWS, BATCH = 640, 300, 32
"""Examples that are used at most, and those of a batch."""
PIECES, LONGEST = 9_600, 64
"""Word pieces of all training examples together, about, and of the longest example."""


@dataclass(frozen=True)
class TextTable:
    """What a file of sentences holds: the settings of its columns, what was seen, a sentence a line, and rows to train on."""

    settings: dict[str, object]
    seen: Sequence[str]
    rows: int


def text_values(path: Path) -> TextTable:
    """The columns of tab-separated text: of labels that with this name or the shortest texts, of sentences the longest.

    Raises:
        DataError: the file cannot be read, or it is not clear which columns are meant.
    """
    file = path if path.is_file() else file_of(path, packed("train"))
    columns = list(zip(*lines_of(file), strict=True))
    if len(columns[0]) < 2:
        raise DataError(f"'{file}' has one line", expected="a line for each example")
    label, first, second = _places(columns, file)
    header = columns[label][0] not in columns[label][1:]
    counts = _classes(columns[label][header:], f"'{file}', column {label}")
    places = {n: p for n, p in (("sentence", first), ("second", second), ("label", label)) if p is not None}
    usual = {name: name for name in ("sentence", "label")} if header else {}
    settings: dict[str, object] = {"validation": 0.0, **({} if header else {"header": False})}
    settings |= {n: columns[p][0] if header else p for n, p in places.items() if columns[p][0] != usual.get(n)}

    texts = zip(*(columns[p][header:] for p in (first, second) if p is not None), strict=True)
    pieces = [sum(2 + round(1.3 * len(text.split())) for text in example) for example in texts]
    settings |= {"too_long": "truncate"} if max(pieces) > LONGEST / 2 else {}
    total = len(pieces)
    test = round(0.2 * total) if path.is_file() else len(lines_of(file_of(path, packed("dev")))) - header
    train = total - test if path.is_file() else total
    rows = min(train, ROWS, int(PIECES * total / sum(min(count, LONGEST) for count in pieces)))
    settings |= {"rows": rows} if train > rows else {}
    settings |= {"test_rows": TEST_ROWS} if test > TEST_ROWS else {}

    counted = ", ".join(f"{printable(name)} {count:,}" for name, count in counts.most_common())
    taken = ", ".join(f"{n} from {f'{printable(columns[p][0])!r}, ' if header else ''}column {p}" for n, p in places.items())
    return TextTable(settings, [f"{total:,} lines in {file.name}, {len(counts)} classes: {counted}", taken], rows)


def _classes(labels: Sequence[str], where: str) -> Counter[str]:
    """How many examples each class has."""
    counts = Counter(labels)
    if not 2 <= len(counts) <= CLASSES:
        raise DataError(
            f"the labels of {where}, are no classes",
            got=f"{len(counts)} distinct text{'s' * (len(counts) > 1)} in {len(labels):,} lines",
            expected=f"2 to {CLASSES} classes",
        )
    return counts


def _places(columns: Sequence[Sequence[str]], file: Path) -> tuple[int, int, int | None]:
    """The columns of the label, of the sentence, and of the second one of a pair; the first line may be a header."""
    names = {column[0].strip().lower(): place for place, column in enumerate(columns)}
    distinct = [len({*column[1:]}) for column in columns]
    words = [sum(len(text.split()) for text in column[1:]) / len(column[1:]) for column in columns]
    few = [p for p, count in enumerate(distinct) if 2 <= count <= min(CLASSES, len(columns[p]) // 2) and "" not in columns[p]]
    label = names.get("label", min(few, key=lambda p: (words[p], distinct[p]), default=None))
    text = sorted((p for p in range(len(columns)) if p != label), key=lambda p: -words[p])
    if label is None or not text:
        raise DataError(
            f"'{file}' has no column of labels" if text else f"'{file}' has no column of sentences",
            got=f"columns with {', '.join(map(str, distinct))} distinct texts",
            expected=f"one with 2 to {CLASSES}, and one with sentences",
        )
    pair = sorted(p for p in text[:2] if words[p] >= SENTENCE)
    return (label, pair[0], pair[1]) if len(pair) == 2 else (label, text[0], None)


def commented(lines: Sequence[str]) -> str:
    """The lines as comments of a pipeline file."""
    return "\n".join(textwrap.fill(line, LINE, initial_indent="# ", subsequent_indent="#   ") for line in lines)


def text_study(name: str, data: str, table: TextTable) -> str:
    """The text of a pipeline; `name` and `data` are as YAML has them."""
    about, batch = commented(table.seen), min(BATCH, max(4, table.rows // 10))
    return f"""# Tickets of a pre-trained transformer on labelled sentences, beside one-shot pruning and a random mask.
{about}
#
#   distill-prune plan FILE     what it makes, and how long that takes on your machine; FILE is this file
#   distill-prune run FILE      make it; needs the extra [text]
#
# Its size was chosen so that two cores finish it in about five minutes. To make it larger, the most useful first:
#   data: more `rows` (leave rows and test_rows out for all)
#   prune.real.length         more epochs: more accurate networks
#   prune.levels and levels   sparser tickets, and more sparsities that are compared
#   retrain.copies: 2, with compare.connectivity: {{}}   whether the tickets are stable
title: {name}
question: >-
  Do tickets of a pre-trained transformer match it on these sentences, and do they beat one-shot pruning and random masks?
# Six initialisations of the head are the fewest with which a difference can be claimed.
seeds: [0, 1, 2, 3, 4, 5]

# Columns by name, or by position where the file has no header: sentence, label, and second for pairs.
data: {data}
model: {{name: minilm}}

prune:
  levels: 3
  rate: 0.2
  share: original
  real: &real {{length: 1ep, batch: {batch}, optimizer: adamw, lr: 1e-4, head_lr: 1e-3, schedule: linear, batches: by_length}}

arms:
  real: {{label: IMP}}
  one_shot: {{criterion: {{name: initial_magnitude}}, label: one-shot}}
  random: {{criterion: {{name: random}}, label: random mask}}

# The dense network and this level are retrained and compared: 60% sparsity.
levels: [3]

retrain:
  copies: 1
  recipe: *real

compare:
  accuracy: {{}}
  overlap: {{}}
"""
