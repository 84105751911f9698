"""Sentences: what is written and read, and what they refuse to be."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from distill_prune.artifacts import SPLITS, Sentences, Transform
from distill_prune.errors import DataError, NonFiniteError


def sentences(**more: Any) -> Sentences:
    pieces = torch.tensor([[2, 4, 3, 0], [2, 5, 5, 3], [2, 6, 3, 0], [2, 7, 3, 0]], dtype=torch.int32)
    plain: dict[str, Any] = {
        "tokens": torch.stack([pieces, (pieces > 0).int()], 1),
        "labels": torch.tensor([0, 1, 1, 0]),
        "split": torch.tensor([0, 0, 1, 2], dtype=torch.uint8),
        "classes": ("no", "yes"),
        "vocabulary": 8,
    }
    return Sentences(**{**plain, **more})


def test_sentences_are_written_and_read() -> None:
    made = sentences(title="T")
    parts = made.parts()
    assert parts.numbers == {
        "classes": ["no", "yes"], "counts": {"train": 2, "validation": 1, "test": 1}, "transform": "text",
        "shape": [2, 4], "vocabulary": 8, "heads": [],
    }  # fmt: skip
    again = Sentences.of(replace(parts, numbers=json.loads(json.dumps(parts.numbers))))
    assert all(torch.equal(getattr(again, n), getattr(made, n)) for n in ("tokens", "labels", "split"))
    assert (again.classes, again.vocabulary, again.heads, again.shape) == (made.classes, 8, (), (2, 4))
    assert made.transform == Transform("text", {}) and made.transform.apply(made.tokens) is made.tokens
    assert [made.examples(part).y.tolist() for part in SPLITS] == [[0, 1], [1], [0]]
    assert torch.equal(made.examples("test").x, made.tokens[3:])
    numbers = sentences(labels=torch.tensor([0.5, 1, -1, 0]), classes=())
    assert Sentences.of(numbers.parts()).labels.dtype == torch.float32


def changed(place: tuple[int, int, int], value: int) -> Tensor:
    found = sentences().tokens.clone()
    found[place] = value
    return found


TWO_TASKS = {"classes": ("a/no", "a/yes", "b/no", "b/yes"), "heads": (2, 2)}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ({"tokens": torch.zeros(4, 4)}, r"wrong shape\n  got:      tokens \(4, 4\)"),
        ({"labels": torch.tensor([0, 1])}, r"wrong shape\n.*labels \(2,\)\n  expected: tokens \(N, 2, L\), labels \(N,\)"),
        ({"split": torch.zeros(4, dtype=torch.uint8)}, "has no test examples"),
        ({"split": torch.full((4,), 2, dtype=torch.uint8)}, "has no train examples"),
        ({"labels": torch.tensor([0, 1, 2, 0])}, "labels outside its classes\n  got:      labels 0..2\n  expected: 0..1"),
        ({"labels": torch.tensor([0, -1, 1, 0])}, "labels outside its classes\n  got:      labels -1..1"),
        ({"labels": torch.tensor([0.0, 1, 1, 0])}, "labels of another kind.*\n  got:      torch.float32, 2 classes"),
        ({"classes": ()}, "labels of another kind.*\n  got:      torch.int64, 0 classes"),
        ({"vocabulary": 7}, r"word pieces outside the vocabulary\n  got:      ids 0..7\n  expected: 0..6\n  fix:      the tok"),
        ({"tokens": changed((0, 0, 1), -1)}, "ids -1..7"),
        ({"tokens": changed((1, 1, 1), 0)}, "padding that is not zeros behind a sentence\n  got:      example 1"),
        ({"tokens": changed((2, 0, 3), 5)}, "padding that is not zeros behind a sentence\n  got:      example 2"),
        ({"tokens": changed((3, 1, 0), 0)}, "padding that is not zeros behind a sentence\n  got:      example 3"),
        ({"tokens": changed((0, 1, 0), 3)}, "segments of tasks that are not there\n  got:      3\n  expected: at most 2"),
        ({"heads": (2, 2)}, r"tasks that do not cover its classes\n  got:      2 \+ 2 classes\n  expected: 2"),
        ({**TWO_TASKS, "labels": torch.tensor([0, 1, 2, 0])}, "a label of another task.*\n  got:      example 2"),
    ],
)
def test_refused_sentences(more: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        sentences(**more)


def test_labels_are_finite() -> None:
    with pytest.raises(NonFiniteError, match="tensor 'labels' is not finite"):
        sentences(labels=torch.tensor([0.5, float("nan"), 0, 0]), classes=())
