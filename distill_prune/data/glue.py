"""Tasks of the GLUE benchmark that have one label for a sentence or a pair: SST-2, CoLA, RTE and MRPC.

The folder holds TASK_train.tsv and TASK_dev.tsv, also gzipped, or as GLUE's own download has them TASK/train.tsv and
TASK/dev.tsv. Published test files have no labels, so the dev file is the test part. What is usually reported is accuracy
(SST-2, RTE), accuracy and F1 (MRPC), and Matthews correlation (CoLA).

SST-2's training file holds phrases beside whole sentences, and phrases of one sentence may fall on both sides of the split
into training and validation part. Encoders of sentences that were trained on natural language inference (SNLI, MultiNLI),
as `minilm`'s was, have seen RTE's task before: what they reach on it is no measure of what a few examples teach.

References:
    | GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding (Wang et al., 2019),
      https://arxiv.org/abs/1804.07461
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from distill_prune.data.source import Remembered
from distill_prune.data.tokens import LoadedText, TextSource
from distill_prune.data.tsv import hashed, loaded
from distill_prune.data.tsv_file import Columns, Part, file_of, packed
from distill_prune.errors import DataError


@dataclass(frozen=True)
class Layout:
    """A task's name in files, where its columns are, and the names of its classes by the texts of their labels."""

    title: str
    columns: Columns
    classes: Mapping[str, str]


TASKS = {
    "sst2": Layout("SST-2", Columns("sentence", None, "label", True), {"0": "negative", "1": "positive"}),
    "cola": Layout("CoLA", Columns(3, None, 1, False), {"0": "unacceptable", "1": "acceptable"}),
    "rte": Layout(
        "RTE",
        Columns("sentence1", "sentence2", "label", True),
        {"entailment": "entailment", "not_entailment": "not_entailment"},
    ),
    "mrpc": Layout("MRPC", Columns("#1 String", "#2 String", "Quality", True), {"0": "not_equivalent", "1": "equivalent"}),
}


class Settings(TextSource):
    name: Literal["glue"] = "glue"
    task: Literal["sst2", "cola", "rte", "mrpc"] = Field(
        description="the task: sentiment, acceptability, entailment or paraphrase"
    )
    max_length: int = Field(128, ge=3, description="word pieces of an example at most, [CLS] and [SEP] among them")

    @property
    def score(self) -> str:
        return "matthews" if self.task == "cola" else "accuracy"


def fingerprint(settings: Settings, remembered: Remembered | None = None) -> str:
    """sha256 of the hashes of the task's two files and of the tokenizer's.

    Raises:
        DataError: a file is missing, or there is no tokenizer.
        UserError: the package that holds the tokenizer is missing.
    """
    return hashed(_files(settings), settings.tokenizer, remembered)


def load(settings: Settings) -> LoadedText:
    """The chosen rows of the task's training file, then those of its dev file, tokenized.

    Raises:
        DataError: a file is missing, or does not hold what it should.
        UserError: a package that text takes is missing.
    """
    layout = TASKS[settings.task]
    parts = [Part.read(file, layout.columns) for file in _files(settings)]
    return loaded(settings, parts, layout.classes, settings.title or layout.title)


def _files(settings: Settings) -> list[Path]:
    folder, task = Path(settings.path).expanduser(), TASKS[settings.task].title
    if not folder.is_dir():
        raise DataError(
            f"there is no folder '{folder}'",
            fix=f"give the path of a folder with {task}_train.tsv, or with {task}/train.tsv",
            setting="path",
        )
    return [file_of(folder, [*packed(f"{task}_{part}"), *packed(f"{task}/{part}")]) for part in ("train", "dev")]
