"""All examples of several text tasks in one set, for tickets that are found on all tasks at once.

Of tasks t = 0, 1, ... in the order of their names, segments s > 0 become s + 2 t, and labels y become y + K_0 + ... + K_(t-1),
where K_t is the number of classes of t. Classes are named task/class. Each task keeps its own training and test examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from pydantic import Field, SerializeAsAny, ValidationError, field_validator
from torch import Tensor

from distill_prune.data import DATASETS
from distill_prune.data.source import Remembered, Source
from distill_prune.data.tokens import LoadedText, TextSource
from distill_prune.data.tokens import fingerprint as tokenizer_fingerprint
from distill_prune.entries import EntryOf
from distill_prune.errors import DataError, nearest
from distill_prune.settings import Entry, digest

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
    def _entries(cls, tasks: Any) -> Any:
        if not isinstance(tasks, Mapping):
            return tasks
        return {str(name): _task(str(name), tasks[name]) for name in sorted(tasks, key=str)}

    @property
    def texts(self) -> dict[str, TextSource]:
        """The tasks, which are all of text."""
        return {name: task for name, task in self.tasks.items() if isinstance(task, TextSource)}

    def identity(self) -> dict[str, Any]:
        """What enters keys: of each task what enters them elsewhere."""
        return {**super().identity(), "tasks": {name: task.identity() for name, task in self.tasks.items()}}


def _task(name: str, raw: Any) -> TextSource:
    """A task's settings, checked.

    Raises:
        ValueError: they are not those of a text data set with classes.
    """
    if isinstance(raw, TextSource):
        task = raw
    else:
        named = raw.get("name") if isinstance(raw, Mapping) else None
        kinds = {entry: DATASETS[entry].Settings for entry in sorted(DATASETS.own)}
        texts = ", ".join(entry for entry, known in kinds.items() if issubclass(known, TextSource) and not known.MASKED)
        kind = DATASETS[named].Settings if isinstance(named, str) and named in DATASETS else Entry
        if not issubclass(kind, TextSource):
            raise ValueError(f"task '{name}' is no data set of text with a name: {named!r}, known: {texts}")
        try:
            task = kind.model_validate(raw)
        except ValidationError as problem:
            raise ValueError(f"task '{name}': {_complaint(problem, kind)}") from None
    if not task.has_classes:
        raise ValueError(f"task '{name}' has {'word pieces' if task.MASKED else 'numbers'} as labels: a union has classes")
    fields = type(task).model_fields
    if written := [field for field in _SHARED if getattr(task, field) != fields[field].default]:
        raise ValueError(f"task '{name}' has a {written[0]} of its own: it is the union's, beside `tasks`")
    return task


def _complaint(problem: ValidationError, kind: type[TextSource]) -> str:
    """The first of pydantic's complaints, in a line."""
    first = problem.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key '{place}', {nearest(place, kind.model_fields)}"
    if first["type"] == "missing":
        return f"'{place}' is missing"
    return ": ".join(part for part in (place, first["msg"].removeprefix("Value error, ")) if part)


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
