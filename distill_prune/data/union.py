"""All examples of several text tasks in one set, for tickets that are found on all tasks at once.

Of tasks t = 0, 1, ... in the order of their names, segments s > 0 become s + 2 t, and labels y become y + K_0 + ... + K_(t-1),
where K_t is the number of classes of t. Classes are named task/class. Each task keeps its own training and test examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field, SerializeAsAny, field_validator
from torch import Tensor

from distill_prune.data import DATASETS
from distill_prune.data.source import Remembered, Source
from distill_prune.data.tokens import LoadedText, TextSource
from distill_prune.data.tokens import fingerprint as tokenizer_fingerprint
from distill_prune.entries import EntryOf
from distill_prune.errors import ONE_OF, DataError, Misfit
from distill_prune.settings import Entry, Json, digest

_SHARED = ("split_seed", "validation")


class Settings(Source):
    """`tasks` are data sets of text by name, as under `data`. The validation part is drawn of all of them at once, so
    `validation` and `split_seed` stand here and not there; the seed draws the tasks' `rows`, too."""

    OUTSIDE_KEYS: ClassVar[frozenset[str]] = frozenset({"title"})

    name: Literal["union"] = "union"
    transform: Literal["text"] = Field("text", description="text has no other")  # type: ignore[assignment]
    tasks: dict[str, Annotated[SerializeAsAny[Source], EntryOf(DATASETS)]] = Field(
        min_length=2, description="data sets of text by name"
    )
    title: str = Field("", description="what the page calls the data; default: the names of the tasks")

    @field_validator("tasks", mode="before")
    @classmethod
    def _of_text(cls, tasks: object) -> object:
        """The tasks in the order of their names, each of which must be of text."""
        if not isinstance(tasks, Mapping):
            return tasks
        for name, raw in tasks.items():
            _check_kind(str(name), raw)
        return {str(name): tasks[name] for name in sorted(tasks, key=str)}

    @field_validator("tasks", mode="after")
    @classmethod
    def _with_classes(cls, tasks: dict[str, TextSource]) -> dict[str, TextSource]:
        for name, task in tasks.items():
            if not task.has_classes:
                labels = "word pieces" if task.MASKED else "numbers"
                raise Misfit(f"a union has classes, and the labels of this task are {labels}", [name])
            fields = type(task).model_fields
            if written := [field for field in _SHARED if getattr(task, field) != fields[field].default]:
                raise Misfit("it is the union's, not a task's", [name, written[0]], fix=f"write {written[0]} beside `tasks`")
        return tasks

    @property
    def texts(self) -> dict[str, TextSource]:
        """The tasks, which are all of text."""
        return {name: task for name, task in self.tasks.items() if isinstance(task, TextSource)}

    def identity(self) -> dict[str, Json]:
        """What enters keys: of each task what enters them elsewhere."""
        return {**super().identity(), "tasks": {name: task.identity() for name, task in self.tasks.items()}}


def _check_kind(name: str, raw: object) -> None:
    """Refuse a task that names no data set of text.

    Raises:
        Misfit: saying which data sets are of text.
    """
    if isinstance(raw, TextSource):
        return
    named = raw.get("name") if isinstance(raw, Mapping) else None
    kind = DATASETS[named].Settings if isinstance(named, str) and named in DATASETS else Entry
    if not issubclass(kind, TextSource):
        kinds = {entry: DATASETS[entry].Settings for entry in sorted(DATASETS.own)}
        texts = ", ".join(entry for entry, known in kinds.items() if issubclass(known, TextSource) and not known.MASKED)
        raise Misfit("a task is a data set of text", [name, "name"], got=named or "no name", expected=f"{ONE_OF}{texts}")


def fingerprint(settings: Settings, remembered: Remembered | None = None) -> str:
    """sha256 of the tasks' fingerprints.

    Raises:
        DataError: a file is missing, or there are several tokenizers.
        UserError: the package that holds the tokenizer is missing.
    """
    fingerprints = {name: DATASETS[task.name].fingerprint(task, remembered) for name, task in settings.tasks.items()}
    _one_tokenizer(settings, remembered)
    return digest(fingerprints)


def load(settings: Settings) -> LoadedText:
    """The rows of every task, one task after the other, tokens padded to the longest.

    Raises:
        DataError: a task cannot be loaded, has a single class, or another tokenizer than the others.
        UserError: a package that text takes is missing.
    """
    tasks = {
        name: cast(LoadedText, DATASETS[task.name].load(task.model_copy(update={"split_seed": settings.split_seed})))
        for name, task in settings.tasks.items()
    }
    _one_tokenizer(settings, None)
    for name, task in tasks.items():
        if len(task.classes) < 2:
            raise DataError(f"task '{name}' has a single class", got=list(task.classes), expected="at least 2 classes")
    heads = tuple(len(task.classes) for task in tasks.values())
    length = max(task.pixels.shape[2] for task in tasks.values())
    tokens, labels, first = [], [], 0
    for t, task in enumerate(tasks.values()):
        tokens.append(_of_task(F.pad(task.pixels, (0, length - task.pixels.shape[2])), t))
        labels.append(task.labels + first)
        first += heads[t]
    return LoadedText(
        torch.cat(tokens),
        torch.cat(labels),
        torch.cat([task.test for task in tasks.values()]),
        tuple(f"{name}/{text}" for name, task in tasks.items() for text in task.classes),
        1.0,
        settings.title or " + ".join(task.title for task in tasks.values()),
        next(iter(tasks.values())).vocabulary,
        heads,
    )


def _of_task(tokens: Tensor, t: int) -> Tensor:
    """Tokens (N, 2, L) with the segments of task t."""
    ids, segments = tokens.unbind(1)
    return torch.stack([ids, torch.where(segments > 0, segments + 2 * t, 0)], 1)


def _one_tokenizer(settings: Settings, remembered: Remembered | None) -> None:
    """Ids of all tasks mean the same."""
    tokenizers = {name: task.tokenizer for name, task in settings.texts.items()}
    fingerprints = {name: tokenizer_fingerprint(tokenizer, remembered) for name, tokenizer in tokenizers.items()}
    first = next(iter(fingerprints))
    for name, of_task in fingerprints.items():
        if of_task != fingerprints[first]:
            raise DataError(
                f"the tasks '{first}' and '{name}' have different tokenizers",
                got=f"'{tokenizers[name]}'",
                expected=f"'{tokenizers[first]}', as of '{first}'",
            )
