"""Text for masked language modelling: what is asked and what is shown, what is read and refused, and the loss of it."""

from __future__ import annotations

import gzip
import json
import math
import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from reference_text import ID, VOCABULARY, rows, write

from distill_prune import data, objective
from distill_prune.artifacts import Sentences
from distill_prune.data import masked, union
from distill_prune.distill.subset import random_rows
from distill_prune.errors import ConfigError, DataError
from distill_prune.plan.config import parse
from distill_prune.rng import Streams, stream

NEVER = torch.tensor([0, 2, 3, 4], dtype=torch.int32)
PASSAGES = ["a good film", "bad films", "no good film a bad film", "a film", "good bad good bad no no films"]


@pytest.fixture
def words(tmp_path: Path) -> str:
    """A vocabulary with [MASK] at its end."""
    write(tmp_path / "words" / "vocab.txt", *VOCABULARY, "[MASK]")
    return str(tmp_path / "words")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "text" / "train.txt", "", *PASSAGES, "  ", *PASSAGES)
    write(tmp_path / "text" / "dev.txt", "no film", "", "films a good film")
    return tmp_path / "text"


def settings_of(path: Path, words: str, **changes: Any) -> masked.Settings:
    return masked.Settings(path=str(path), tokenizer=words, **changes)


def plain(text: str) -> list[int]:
    found = []
    for word in text.split():
        found += [ID[word]] if word in ID else [ID[word.removesuffix("s")], ID["##s"]]
    return found


def unmasked(tokens: torch.Tensor, labels: torch.Tensor) -> list[list[int]]:
    """The word pieces of every example with what is asked put back, without [CLS], [SEP] and padding."""
    back = tokens.clone()
    back[:, 0][tokens[:, 1] > 2] = labels[labels >= 0].int()
    return [[i for i in row if i not in (2, 3)] for row in rows(back)]


def tokens(n: int, seed: int = 0, longest: int = 30) -> torch.Tensor:
    draws = random.Random(seed)
    x = torch.zeros(n, 2, longest, dtype=torch.int32)
    for row in x:
        length = draws.randrange(3, longest + 1)
        row[0, :length] = torch.tensor([2, *(draws.randrange(5, 64) for _ in range(length - 2)), 3])
        row[1, :length] = 1
    return x


# -- what is asked


def test_what_is_asked_place_by_place() -> None:
    """The same draws, looked at one by one: of an example's words those with the smallest draws are asked."""
    x = tokens(50)
    shown, labels = masked.ask(x, 0.2, 4, NEVER, 64, stream(0, "x"))
    draws = stream(0, "x")
    first, fate = torch.rand(50, 30, generator=draws), torch.rand(50, 30, generator=draws)
    other = torch.randint(64, (50, 30), generator=draws, dtype=torch.int32)
    most = 0
    for n in range(50):
        words = [i for i in range(30) if int(x[n, 1, i]) and int(x[n, 0, i]) not in (0, 2, 3, 4)]
        asked = sorted(sorted(words, key=lambda i: float(first[n, i]))[: max(1, round(0.2 * len(words)))])
        most = max(most, len(asked))
        assert [i for i in range(30) if int(shown[n, 1, i]) > 2] == asked
        assert labels[n].tolist() == [int(x[n, 0, i]) for i in asked] + [-1] * (labels.shape[1] - len(asked))
        for i in range(30):
            chance, own = float(fate[n, i]), int(x[n, 0, i])
            instead = 4 if chance < 0.8 else int(other[n, i]) if chance < 0.9 else own
            assert int(shown[n, 0, i]) == (instead if i in asked else own)
            assert int(shown[n, 1, i]) == int(x[n, 1, i]) + 2 * (i in asked)
    assert labels.shape == (50, most) and labels.dtype == torch.int64 and shown.dtype == torch.int32


def test_shares_of_what_is_asked_and_shown() -> None:
    x = tokens(6000, 1)
    shown, labels = masked.ask(x, 0.15, 4, NEVER, 64, stream(0, "y"))
    asked = shown[:, 1] > 2
    assert int(asked.sum()) == int((labels >= 0).sum()) > 10_000
    assert not torch.isin(x[:, 0][asked], NEVER).any()
    assert int(asked.sum()) / int((x[:, 0] > 4).sum()) == pytest.approx(0.15, abs=0.02)
    was, now = x[:, 0][asked], shown[:, 0][asked]
    assert float((now == 4).double().mean()) == pytest.approx(0.8 + 0.1 / 64, abs=0.015)
    assert float((now == was).double().mean()) == pytest.approx(0.1 + 0.1 / 64, abs=0.01)
    places = asked.nonzero()[:, 1].bincount(minlength=30)
    assert int(places[0]) == 0 and int((places[1:20] > 100).sum()) == 19


# -- what is read


def test_a_folder_is_read(folder: Path, words: str) -> None:
    pytest.importorskip("tokenizers")
    made = data.prepare(settings_of(folder, words, validation=0.2))
    assert isinstance(made, Sentences) and made.masked and made.classes == () and made.heads == ()
    assert unmasked(made.tokens, made.labels) == [plain(t) for t in [*PASSAGES, *PASSAGES, "no film", "films a good film"]]
    assert [int((made.split == i).sum()) for i in range(3)] == [8, 2, 2] and made.split[10:].tolist() == [2, 2]
    assert made.title == "text" and made.vocabulary == 13 and int((made.tokens[:, 1] > 2).sum()) == 12
    test = made.examples("test")
    assert test.tokens and test.lengths is not None and test.lengths.tolist() == [4, 7] and objective.is_asked(test.y)
    parts = made.parts()
    assert parts.numbers["masked"] is True
    again = Sentences.of(replace(parts, numbers=json.loads(json.dumps(parts.numbers))))
    assert again.masked and torch.equal(again.labels, made.labels) and torch.equal(again.tokens, made.tokens)


def test_draws_are_the_split_seed_s(folder: Path, words: str) -> None:
    pytest.importorskip("tokenizers")
    first, again, other = (masked.load(settings_of(folder, words, split_seed=s)) for s in (0, 0, 1))
    assert torch.equal(first.pixels, again.pixels) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.pixels, other.pixels)
    many = masked.load(settings_of(folder, words, share=0.9))
    assert int((many.labels >= 0).sum()) > 2 * int((first.labels >= 0).sum())


def test_packed_files_are_the_same(folder: Path, words: str) -> None:
    pytest.importorskip("tokenizers")
    before, path = masked.load(settings_of(folder, words)), folder / "train.txt"
    (folder / "train.txt.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n")))
    path.unlink()
    after = masked.load(settings_of(folder, words))
    assert torch.equal(after.pixels, before.pixels) and torch.equal(after.labels, before.labels)


def test_long_passages_are_cut(folder: Path, words: str) -> None:
    pytest.importorskip("tokenizers")
    found = masked.load(settings_of(folder, words, max_length=5))
    pieces = [plain(t)[i : i + 3] for t in [*PASSAGES, *PASSAGES] for i in range(0, len(plain(t)), 3)]
    ends = [plain("no film"), plain("films a"), plain("good film")]
    assert unmasked(found.pixels, found.labels) == [*pieces, *ends] and found.test.sum() == 3
    assert all(row[0] == 2 and row[-1] == 3 for row in rows(found.pixels)) and found.pixels.shape[2] == 5
    short = masked.load(settings_of(folder, words, max_length=5, too_long="truncate"))
    assert unmasked(short.pixels, short.labels) == [
        plain(t)[:3] for t in [*PASSAGES, *PASSAGES, "no film", "films a good film"]
    ]
    with pytest.raises(DataError, match=r"train.txt', line 2: the example is too long|line 4: the example is too long"):
        masked.load(settings_of(folder, words, max_length=5, too_long="refuse"))


def test_one_file_is_split_by_passages(folder: Path, words: str) -> None:
    pytest.importorskip("tokenizers")
    text = write(folder.parent / "mine.txt", *(f"{'a ' * i}film" for i in range(1, 11)))
    whole = masked.load(settings_of(text, words, test_share=0.3))
    assert whole.title == "mine" and whole.test.tolist() == [False] * 7 + [True] * 3
    lengths = sorted(map(len, unmasked(whole.pixels, whole.labels)))
    assert lengths == list(range(2, 12)), "every passage is on one side"
    found = masked.load(settings_of(text, words, max_length=5, test_share=0.3, rows=4, test_rows=2))
    assert sum(map(len, unmasked(found.pixels, found.labels))) in range(6 + 8, 66)


def test_what_is_no_word_is_not_asked(folder: Path, words: str) -> None:
    pytest.importorskip("tokenizers")
    write(folder / "train.txt", "a [MASK] film [SEP]", "\u200b", "good")
    found = masked.load(settings_of(folder, words, share=0.99))
    assert (~found.test).sum() == 2 and [int(y) for y in found.labels[0] if y >= 0] == plain("a film")


def test_keys_know_no_places(folder: Path, words: str, tmp_path: Path) -> None:
    settings = settings_of(folder, words)
    moved = settings_of(folder.rename(tmp_path / "moved"), words)
    assert "path" not in settings.identity() and settings.identity() == moved.identity()
    before = masked.fingerprint(moved)
    (tmp_path / "moved" / "dev.txt").write_text("other\n", encoding="utf-8")
    assert masked.fingerprint(moved) != before


# -- what is refused


def test_text_that_cannot_be_used(folder: Path, words: str, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    write(tmp_path / "other" / "vocab.txt", *VOCABULARY)
    with pytest.raises(DataError, match=r"other' has no \[MASK\]\n  fix:      the tokenizer of a network"):
        masked.load(settings_of(folder, str(tmp_path / "other")))
    with pytest.raises(DataError, match=r"there is no text at .*none'\n  fix:      give the path of a folder with train.txt"):
        masked.fingerprint(settings_of(tmp_path / "none", words))
    with pytest.raises(DataError, match=r"rows of .*: more rows asked for than there are\n  got:      99"):
        masked.load(settings_of(folder, words, rows=99))
    write(folder / "dev.txt", "", "  ")
    with pytest.raises(DataError, match=r"dev.txt' has no passages\n  got:      blank lines"):
        masked.load(settings_of(folder, words))
    (folder / "dev.txt").unlink()
    with pytest.raises(DataError, match=r"has no dev.txt\n.*\n  expected: dev.txt or dev.txt.gz"):
        masked.fingerprint(settings_of(folder, words))


def test_word_pieces_are_no_classes(folder: Path) -> None:
    task = {"name": "masked", "path": str(folder)}
    with pytest.raises(ValidationError, match="a: a union has classes, and the labels of this task are word pieces"):
        union.Settings(tasks={"a": task, "b": task})
    with pytest.raises(DataError, match="the labels of these data are word pieces"):
        random_rows(torch.tensor([[1, -1]]), (), 1, Streams(0))


def sentences(**more: Any) -> Sentences:
    pieces = torch.tensor([[2, 4, 3, 0], [2, 5, 5, 3], [2, 4, 3, 0], [2, 7, 3, 0]], dtype=torch.int32)
    segments = torch.tensor([[1, 3, 1, 0], [1, 3, 3, 1], [1, 4, 2, 0], [1, 3, 1, 0]], dtype=torch.int32)
    held: dict[str, Any] = {
        "tokens": torch.stack([pieces, segments], 1),
        "labels": torch.tensor([[7, -1], [5, 6], [6, -1], [7, -1]]),
        "split": torch.tensor([0, 0, 1, 2], dtype=torch.uint8),
        "classes": (),
        "vocabulary": 8,
        "masked": True,
    }
    return Sentences(**{**held, **more})


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"labels": torch.tensor([7, 5, 6, 7])}, r"wrong shape\n.*labels \(4,\)\n  expected: .*, labels \(N, M\)"),
        ({"labels": torch.zeros(4, 0, dtype=torch.int64)}, r"wrong shape\n.*labels \(4, 0\)"),
        ({"masked": False}, r"wrong shape\n.*labels \(4, 2\)\n  expected: tokens \(N, 2, L\), labels \(N,\)"),
        ({"classes": ("a", "b")}, "labels of another kind.*\n.*2 classes\n  expected: integers and no classes"),
        ({"labels": torch.ones(4, 2)}, "labels of another kind.*\n  got:      torch.float32"),
        ({"labels": torch.tensor([[8, -1], [5, 6], [6, -1], [7, -1]])}, "labels outside the vocabulary\n  got:      8"),
        ({"labels": torch.tensor([[7, 7], [5, 6], [6, -1], [7, -1]])}, "example 0: 2 labels, 1 asked"),
        ({"labels": torch.tensor([[7, -1], [5, -1], [6, -1], [7, -1]])}, "example 1: 1 labels, 2 asked"),
        ({"labels": torch.tensor([[7, -1], [5, 6], [-1, 6], [7, -1]])}, "example 2: 1 labels, 1 asked\n  expected: a label"),
    ],
)  # fmt: skip
def test_refused_labels(more: dict[str, Any], message: str) -> None:
    assert sentences().masked
    with pytest.raises(DataError, match=message):
        sentences(**more)


def test_segments_above_four_are_of_no_task() -> None:
    high = sentences().tokens.clone()
    high[0, 1, 1] = 5
    with pytest.raises(DataError, match="segments of tasks that are not there\n  got:      5\n  expected: at most 4"):
        sentences(tokens=high)


# -- beside other tasks


STUDY: dict[str, Any] = {
    "data": {"name": "glue", "task": "sst2", "path": "G", "tokenizer": "T"},
    "model": {"name": "bert"},
    "prune": {},
    "arms": {"real": {}},
    "retrain": {"recipe": {"length": "1ep", "lr": 0.1}},
    "compare": {},
}


def test_tasks_take_the_tokenizer_and_masked_text_its_own_path() -> None:
    tasks = {
        "cola": {"name": "glue", "task": "cola"},
        "mlm": {"name": "masked", "path": "M"},
        "own": {"name": "tsv", "tokenizer": "O"},
    }
    found: Any = parse({**STUDY, "tasks": tasks}, "a.yaml").tasks
    assert [(t.path, t.tokenizer) for t in found.values()] == [("G", "T"), ("M", "T"), ("G", "O")]
    with pytest.raises(ConfigError, match=r"'tasks.mlm.path' is missing in a.yaml"):
        parse({**STUDY, "tasks": {"mlm": {"name": "masked"}}}, "a.yaml")
    other = {**STUDY, "data": {"name": "masked", "path": "M", "tokenizer": "T"}}
    with pytest.raises(ConfigError, match=r"'tasks.cola.path' is missing in a.yaml"):
        parse({**other, "tasks": {"cola": {"name": "glue", "task": "cola"}}}, "a.yaml")


# -- the loss


def test_loss_and_error_by_hand() -> None:
    out = torch.tensor([[2.0, 0.0, -1.0], [0.5, 0.1, 0.5], [-1.0, 3.0, 0.0]], dtype=torch.float64)
    y = torch.tensor([[0, -1], [2, 1]])
    by_hand = [math.log(sum(math.exp(v) for v in row)) - row[t] for row, t in zip(out.tolist(), (0, 2, 1), strict=True)]
    assert float(objective.loss(out, y)) == pytest.approx(sum(by_hand) / 3, rel=1e-12)
    assert float(objective.loss(out, y, reduction="sum")) == pytest.approx(sum(by_hand), rel=1e-12)
    smooth = [h + 0.1 * (row[t] - sum(row) / 3) for h, row, t in zip(by_hand, out.tolist(), (0, 2, 1), strict=True)]
    assert float(objective.loss(out, y, smoothing=0.1)) == pytest.approx(sum(smooth) / 3, rel=1e-12)
    assert objective.error(out, y) == pytest.approx(1 / 3)
    assert objective.is_asked(y) and objective.count(y) == 3 and objective.counts(y).tolist() == [1, 2]
    assert objective.truth(y).tolist() == [0, 2, 1]


def test_other_labels_count_by_examples() -> None:
    for y in (torch.tensor([0, 1]), torch.tensor([0.5, 1.0]), torch.tensor([[0.5, 0.5], [1.0, 0.0]])):
        assert not objective.is_asked(y) and objective.count(y) == 2 and objective.counts(y).tolist() == [1, 1]
        assert objective.truth(y) is y
