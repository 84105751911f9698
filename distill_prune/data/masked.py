"""Masked language modelling: the task that BERT was pre-trained by, on plain text of one's own, a passage a line.

    asked of n word pieces:  max(1, round(share n)), drawn at random        labels: what they are
    shown in their places:   [MASK] 8 times of 10, a random word piece once, the word piece itself once

What is asked and shown is drawn once, when the data are prepared, and is the same in every epoch. [CLS], [SEP] and [MASK]
in the text are never asked. Blank lines are no passages. A long passage is cut into examples of at most `max_length` word
pieces; they stay on one side of a split into training and test part, and may fall on both sides of the validation part's.

References:
    | BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding (Devlin et al., 2019), section 3.1,
      https://arxiv.org/abs/1810.04805
    | The Lottery Ticket Hypothesis for Pre-trained BERT Networks (Chen et al., 2020), for tickets of this task,
      https://arxiv.org/abs/2007.12223
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from distill_prune.data.source import Remembered
from distill_prune.data.split import chosen, hold_out
from distill_prune.data.tokens import LoadedText, TextSource, Tokenizer, tokenize
from distill_prune.data.tsv import hashed
from distill_prune.data.tsv_file import file_of, packed, text_of
from distill_prune.errors import DataError
from distill_prune.rng import stream

ALL = ("passages",)
"""The one stratum of examples without classes."""

MASK, OTHER = 0.8, 0.1
"""Of what is asked: how much is shown as [MASK], and how much as a random word piece."""


class Settings(TextSource):
    """`path` is a folder with train.txt and dev.txt, which may be gzipped, or one file, which `test_share` splits; `rows` and
    `test_rows` count passages."""

    MASKED: ClassVar[bool] = True

    name: Literal["masked"] = "masked"
    max_length: int = Field(128, ge=3, description="word pieces of an example at most, [CLS] and [SEP] among them")
    too_long: Literal["cut", "refuse", "truncate"] = Field("cut", description="what becomes of longer passages")  # type: ignore[assignment]
    share: float = Field(0.15, gt=0, lt=1, description="of an example's word pieces, how many are asked")
    test_share: float = Field(0.2, gt=0, lt=1, description="share of the passages that becomes the test part, of a single file")


def fingerprint(settings: Settings, remembered: Remembered | None = None) -> str:
    """sha256 of the hashes of the files and of the tokenizer's.

    Raises:
        DataError: a file is missing, or there is no tokenizer.
        UserError: the package that holds the tokenizer is missing.
    """
    return hashed(_files(settings), settings.tokenizer, remembered)


def load(settings: Settings) -> LoadedText:
    """The chosen passages of the training part, then those of the test part, tokenized and masked.

    Raises:
        DataError: a file is missing or has too few passages, or the tokenizer has no [MASK].
        UserError: a package that text takes is missing.
    """
    files, place = _files(settings), Path(settings.path).expanduser().resolve()
    parts = [Passages.read(file) for file in files]
    strata = [torch.zeros(len(part.texts), dtype=torch.int64) for part in parts]
    if len(parts) == 2:
        pools = tuple(torch.arange(len(y)) for y in strata)
    else:
        pools = hold_out(strata[0], settings.test_share, ALL, settings.split_seed, of=settings.path)
        parts, strata = parts * 2, strata * 2
    wanted = (settings.rows, settings.test_rows)
    kept = chosen(pools, strata, wanted, ALL, settings.split_seed, of=settings.path)
    tokenizer = Tokenizer.read(settings.tokenizer)
    mask, never = _special(tokenizer)
    tokens = [
        _with_words(part.take(rows).tokens(tokenizer, settings), never, part.path)
        for part, rows in zip(parts, kept, strict=True)
    ]
    longest = max(t.shape[2] for t in tokens)
    whole = torch.cat([F.pad(t, (0, longest - t.shape[2])) for t in tokens])
    draws = stream(settings.split_seed, "data", "masked")
    shown, labels = ask(whole, settings.share, mask, never, tokenizer.vocabulary, draws)
    title = settings.title or (place.name if place.is_dir() else place.name.removesuffix(".gz").removesuffix(".txt"))
    return LoadedText(
        shown, labels, torch.arange(len(whole)) >= len(tokens[0]), (), 1.0, title, tokenizer.vocabulary, masked=True
    )


def ask(
    tokens: Tensor, share: float, mask: int, never: Tensor, vocabulary: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Tokens (N, 2, L) as they are shown, 2 added to the segments of what is asked, and labels (N, M), which is that, then -1.

    `never` are word pieces that are not asked; every example has others. A random word piece is any of the vocabulary.
    """
    ids, segments = tokens.unbind(1)
    words = _words(tokens, never)
    number = (share * words.sum(1).double()).round().clamp_min(1).long()  # (N,)
    order = torch.rand(ids.shape, generator=generator).masked_fill_(~words, 2).argsort(stable=True, dim=1)
    asked = torch.zeros_like(words).scatter_(1, order, torch.arange(ids.shape[1]) < number[:, None])
    fate = torch.rand(ids.shape, generator=generator)
    other = torch.randint(vocabulary, ids.shape, generator=generator, dtype=ids.dtype)
    shown = torch.where(fate < MASK, mask, torch.where(fate < MASK + OTHER, other, ids))
    labels = torch.full((len(ids), int(number.max())), -1)
    labels[torch.arange(labels.shape[1]) < number[:, None]] = ids[asked].long()
    return torch.stack([torch.where(asked, shown, ids), segments + 2 * asked.to(segments.dtype)], 1), labels


def _words(tokens: Tensor, never: Tensor) -> Tensor:
    """Whether a place (N, L) of tokens (N, 2, L) holds a word piece that may be asked."""
    return (tokens[:, 1] > 0) & ~torch.isin(tokens[:, 0], never)


def _with_words(tokens: Tensor, never: Tensor, path: Path) -> Tensor:
    """The examples that hold a word piece which may be asked: a line of control characters is as good as blank."""
    kept = tokens[_words(tokens, never).any(1)]
    if not len(kept):
        raise DataError(f"'{path}' has no passages", got="no word that could be asked")
    return kept


def _special(tokenizer: Tokenizer) -> tuple[int, Tensor]:
    """[MASK], and what is never asked."""
    mask = tokenizer.encoder.token_to_id("[MASK]")
    if mask is None:
        raise DataError(
            f"the tokenizer in '{tokenizer.directory}' has no [MASK]",
            fix="the tokenizer of a network that was trained by masked language modelling",
        )
    others = (tokenizer.encoder.token_to_id(name) for name in ("[PAD]", "[CLS]", "[SEP]"))
    return mask, torch.tensor([mask, *(i for i in others if i is not None)], dtype=torch.int32)


@dataclass(frozen=True)
class Passages:
    """The passages of one file, and the numbers of their lines."""

    path: Path
    texts: list[str]
    lines: list[int]

    @classmethod
    def read(cls, path: Path) -> Passages:
        """The lines that are not blank.

        Raises:
            DataError: the file cannot be read, or has none.
        """
        numbered = [(text.strip(), line) for line, text in enumerate(text_of(path).split("\n"), start=1) if text.strip()]
        if not numbered:
            raise DataError(f"'{path}' has no passages", got="blank lines", expected="a passage a line")
        return cls(path, [text for text, _ in numbered], [line for _, line in numbered])

    def take(self, rows: Tensor) -> Passages:
        return Passages(self.path, [self.texts[r] for r in rows.tolist()], [self.lines[r] for r in rows.tolist()])

    def tokens(self, tokenizer: Tokenizer, settings: Settings) -> Tensor:
        """Tokens (N, 2, L) of the passages, of each as many examples as it is cut into."""
        return tokenize(
            tokenizer,
            self.texts,
            None,
            max_length=settings.max_length,
            too_long=settings.too_long,
            where=lambda i: f"'{self.path}', line {self.lines[i]}",
        )


def _files(settings: Settings) -> list[Path]:
    """The training and the test file of a folder, or the single file."""
    path = Path(settings.path).expanduser()
    if not path.exists():
        raise DataError(
            f"there is no text at '{path}'", fix="give the path of a folder with train.txt and dev.txt, or of one .txt file"
        )
    return [file_of(path, packed(part, "txt")) for part in ("train", "dev")] if path.is_dir() else [path]
