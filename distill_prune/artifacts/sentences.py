"""A prepared text data set: sentences as word pieces, labels, and their split."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from distill_prune.artifacts.basis import Parts, finite
from distill_prune.artifacts.images import SPLITS, DataNumbers, Examples, Transform
from distill_prune.errors import DataError


class SentencesNumbers(DataNumbers):
    vocabulary: int
    heads: list[int]
    masked: bool = False


@dataclass(frozen=True)
class Sentences:
    """Tokens (N, 2, L) as `Examples` has them, labels (N,), split (N,) into train 0, validation 1 and test 2.

    Labels are classes, int64, or numbers, float32, which have no `classes`. `vocabulary` is the number of word pieces.
    `heads` are, of a union of tasks, the numbers of classes of each, whose labels follow one another; else empty.

    Where they are `masked`, labels (N, M) int64 are the word pieces that are asked of an example, in order, then -1, and the
    segments of what is asked have 2 added: a network of them sees which pieces it is to give.
    """

    tokens: Tensor
    labels: Tensor
    split: Tensor
    classes: tuple[str, ...]
    vocabulary: int
    title: str = "data"
    heads: tuple[int, ...] = ()
    masked: bool = False

    def __post_init__(self) -> None:
        n = len(self.tokens)
        labels = self.labels[:, 0] if self.masked and self.labels.dim() == 2 and self.labels.shape[1] else self.labels
        flat = self.masked == (self.labels.dim() == 2) and labels.shape == (n,)
        if self.tokens.dim() != 3 or self.tokens.shape[1] != 2 or not flat or self.split.shape != (n,):
            raise DataError(
                f"data '{self.title}' has the wrong shape",
                got=f"tokens {tuple(self.tokens.shape)}, labels {tuple(self.labels.shape)}",
                expected=f"tokens (N, 2, L), labels ({'N, M' if self.masked else 'N,'})",
            )
        for i, name in enumerate(SPLITS):
            if name != "validation" and not bool((self.split == i).any()):
                raise DataError(f"data '{self.title}' has no {name} examples")
        self._check_labels()
        low, high = int(self.tokens[:, 0].min()), int(self.tokens[:, 0].max())
        if low < 0 or high >= self.vocabulary:
            raise DataError(
                f"data '{self.title}' has word pieces outside the vocabulary",
                got=f"ids {low}..{high}",
                expected=f"0..{self.vocabulary - 1}",
                fix="the tokenizer of the network",
            )
        self._check_segments()

    def _check_labels(self) -> None:
        """They are classes that there are, word pieces that there are, or numbers."""
        if self.labels.is_floating_point() == (bool(self.classes) or self.masked) or (self.masked and self.classes):
            raise DataError(
                f"data '{self.title}' has labels of another kind than its classes say",
                got=f"{self.labels.dtype}, {len(self.classes)} classes",
                expected="integers and no classes" if self.masked else "integers and their classes, or numbers and no classes",
            )
        finite("labels", self.labels)
        low, high = float(self.labels.min()), float(self.labels.max())
        if self.classes and (low < 0 or high >= len(self.classes)):
            raise DataError(
                f"data '{self.title}' has labels outside its classes",
                got=f"labels {low:.0f}..{high:.0f}",
                expected=f"0..{len(self.classes) - 1}",
            )
        if not self.masked:
            return
        if high >= self.vocabulary:
            raise DataError(
                f"data '{self.title}' has labels outside the vocabulary",
                got=f"{high:.0f}",
                expected=f"0..{self.vocabulary - 1}",
            )
        asked = (self.tokens[:, 1] > 2).sum(1, keepdim=True)
        known = self.labels >= 0
        odd = (known != (torch.arange(known.shape[1]) < asked)).any(1) | (known.sum(1) != asked[:, 0]) | ~known[:, 0]
        if bool(odd.any()):
            row = int(odd.nonzero()[0])
            raise DataError(
                f"data '{self.title}' has other labels than word pieces that are asked",
                got=f"example {row}: {int(known[row].sum())} labels, {int(asked[row])} asked",
                expected="a label for each, at least 1, then -1",
            )

    def _check_segments(self) -> None:
        """Padding is zeros behind a sentence; of a union, sentences and labels are of one of its tasks, and the same."""
        ids, segments = self.tokens.unbind(1)
        begun = segments > 0
        gaps = (begun[:, 1:] & ~begun[:, :-1]).any(1) | ~begun[:, 0] | ((ids != 0) & ~begun).any(1) | (segments < 0).any(1)
        if bool(gaps.any()):
            raise DataError(
                f"data '{self.title}' has padding that is not zeros behind a sentence",
                got=f"example {int(gaps.nonzero()[0])}",
                expected="segments 1 and above, then 0 with word piece 0",
            )
        tasks, last = 2 if self.masked else max(len(self.heads), 1), int(segments.max())
        if last > 2 * tasks:
            raise DataError(
                f"data '{self.title}' has segments of tasks that are not there", got=last, expected=f"at most {2 * tasks}"
            )
        if not self.heads:
            return
        if sum(self.heads) != len(self.classes):
            raise DataError(
                f"data '{self.title}' has tasks that do not cover its classes",
                got=f"{' + '.join(map(str, self.heads))} classes",
                expected=len(self.classes),
            )
        owner = torch.repeat_interleave(torch.tensor(self.heads))  # (K,) the task of every class
        strangers = owner[self.labels] != (segments[:, 0] - 1) // 2
        if bool(strangers.any()):
            raise DataError(
                f"data '{self.title}' has a label of another task than its sentence",
                got=f"example {int(strangers.nonzero()[0])}",
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """(2, L)."""
        return tuple(self.tokens.shape[1:])

    @property
    def transform(self) -> Transform:
        """Tokens are network input as they are."""
        return Transform("text", {})

    def examples(self, part: str) -> Examples:
        """The examples of `train`, `validation` or `test`."""
        rows = (self.split == SPLITS.index(part)).nonzero().squeeze(1)
        return Examples(self.tokens[rows], self.labels[rows])

    def parts(self) -> Parts:
        counts = {name: int((self.split == i).sum()) for i, name in enumerate(SPLITS)}
        return Parts(
            {"tokens": self.tokens, "labels": self.labels, "split": self.split},
            {
                "classes": list(self.classes),
                "counts": counts,
                "transform": "text",
                "shape": list(self.shape),
                "vocabulary": self.vocabulary,
                "heads": list(self.heads),
                **({"masked": True} if self.masked else {}),
            },
        )

    @classmethod
    def of(cls, p: Parts) -> Sentences:
        n = SentencesNumbers.model_validate(p.numbers)
        return cls(
            p.tensor("tokens", 3, "integers"),
            p.tensor("labels", 2 if n.masked else 1, "integers or floats"),
            p.tensor("split", 1, "integers"),
            tuple(n.classes),
            n.vocabulary,
            heads=tuple(n.heads),
            masked=n.masked,
        )
