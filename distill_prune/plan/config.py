"""The settings of a pipeline, and what the values of a file mean beyond their types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationInfo, field_validator, model_validator

from distill_prune.data import DATASETS
from distill_prune.data.source import Source
from distill_prune.errors import ConfigError
from distill_prune.plan.consistency import check_study
from distill_prune.plan.files import find_pipeline, overridden, read_file
from distill_prune.plan.places import Layer, Locate, locator
from distill_prune.plan.sections import Sections
from distill_prune.plan.validate import validated
from distill_prune.settings import Json


class Pipeline(Sections):
    """One study. Every setting but `title`, `question`, labels and `device` can change the results."""

    @field_validator("tasks", mode="before")
    @classmethod
    def _beside_the_data(cls, tasks: object, info: ValidationInfo) -> object:
        data = info.data.get("data")
        if not isinstance(tasks, Mapping) or not isinstance(data, Source):
            return tasks
        return {name: _beside(data, task) for name, task in tasks.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Pipeline:
        check_study(self)
        return self


def _beside(data: Source, task: object) -> object:
    """What is written of a task, with the path and the tokenizer of the pipeline's data where it names none: tasks of one
    benchmark lie in one folder, and one network reads them. Text to be masked lies in no benchmark's."""
    if not isinstance(task, Mapping):
        return task
    if isinstance(tasks := task.get("tasks"), Mapping):
        return {**task, "tasks": {name: _beside(data, inner) for name, inner in tasks.items()}}
    name = task.get("name")
    kind = DATASETS[name].Settings if isinstance(name, str) and name in DATASETS else Source
    masked = data.MASKED or (issubclass(kind, Source) and kind.MASKED)
    shared = ("tokenizer",) if masked else ("tokenizer", "path")
    return {n: value for n, value in data if n in shared and value is not None and n in kind.model_fields} | {**task}


def parse(raw: Mapping[str, Json], file: str, layers: Sequence[Layer] = ()) -> Pipeline:
    """The settings that the plain values of a file stand for, where `layers` know their places. Beyond the types of the fields:

    - An arm, a set or a task that is `false` is left out, and so is an analysis or a restriction that is null: a file that
      extends another leaves out in this way what the other has. `distill: false` leaves out every set, `tasks: false` every
      task. An arm that is null has every default.
    - Sections that may be left out are empty, and masks are by magnitude.

    Raises:
        ConfigError: naming the key, the file, what was got and what is known there.
    """
    sections: dict[str, Json] = {"distill": {}, "tasks": {}, "architectures": {}, "prune": {}, "compare": {}, **raw}
    for name, absent in (("arms", False), ("distill", False), ("tasks", False), ("only", None), ("compare", None)):
        if (section := sections.get(name)) is False and name in ("distill", "tasks"):
            sections[name] = {}
        elif isinstance(section, dict):
            sections[name] = {key: body for key, body in section.items() if body is not absent}
    values: dict[str, object] = dict(sections)
    if isinstance(arms := sections.get("arms"), dict):
        values["arms"] = {name: {} if body is None else body for name, body in arms.items()}
    if isinstance(prune := sections["prune"], dict):
        values["prune"] = {"criterion": {"name": "magnitude"}, **prune}
    return validated(Pipeline, values, (), locator(file, layers))


@dataclass(frozen=True)
class Opened:
    """A study as a command opens it: its name, its settings, where they are written, and notes of what was narrowed."""

    name: str
    pipeline: Pipeline
    locate: Locate
    notes: tuple[str, ...]


def opened(name: str, assignments: Sequence[str] = ()) -> Opened:
    """The study of a pipeline file, with `--set a.b=c` laid on top.

    Raises:
        ConfigError: there is no such file, it is a sweep, or it or an assignment cannot be used.
    """
    path = find_pipeline(name)
    written = overridden(read_file(path), assignments)
    values = {key: value for key, value in written.values.items() if key != "sweep"}
    if written.values.get("sweep"):
        raise ConfigError(f"{path.name} is a sweep, not one study", fix="`run`, `plan` or `report` it, or --set sweep={}")
    settings = parse(values, path.name, written.layers)
    return Opened(path.stem, settings, locator(path.name, written.layers), written.notes)


def load(name: str, assignments: Sequence[str] = ()) -> tuple[str, Pipeline]:
    """The name and the settings of a study, as `opened` has them."""
    study = opened(name, assignments)
    return study.name, study.pipeline
