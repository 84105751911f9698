"""What a pipeline is made of, and the check of a file's values: unknown keys are refused, with the nearest known one named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, SerializeAsAny, ValidationError, model_validator

from distill_prune.analyze import ANALYSES
from distill_prune.data import DATASETS
from distill_prune.distill import METHODS
from distill_prune.duration import Duration
from distill_prune.errors import ConfigError, nearest
from distill_prune.models import MODELS
from distill_prune.plan.arms import Arm, Placed, check, placed
from distill_prune.plan.files import find_pipeline, override, read_raw
from distill_prune.prune import CRITERIA
from distill_prune.prune.imp import Rewind
from distill_prune.prune.select import Share
from distill_prune.settings import Entry, Settings
from distill_prune.table import EntryModule, Table
from distill_prune.training import Recipe


class Experts(Settings):
    """Teachers on real data; `recipe.length` is in epochs, as trajectories are. `model` is the network that sets are
    distilled and evaluated with, where it is not the one that is pruned."""

    model: SerializeAsAny[Entry] | None = None
    count: int = Field(5, ge=1)
    seed: int = Field(0, ge=0)
    recipe: Recipe = Recipe(length=Duration(20, "ep"), lr=0.01, momentum=0.0, batch=256)
    stored: tuple[str, ...] = Field((), description="experts that are there already, by key or name, in place of own ones")


class Stored(Entry):
    """A synthetic set that is there already, by key, beginning of a key, or name. One that was made from other data
    (another split, transform or source) is refused unless `other_data` says that this is meant."""

    name: Literal["stored"] = "stored"
    ref: str
    other_data: bool = False


class Prune(Settings):
    """Chains: how many levels, how much goes at each, and the training that finds masks: `recipe` on small sets, `real` on
    real data. With `real` written out, a change of the retraining leaves every ticket as it is (at k = 0)."""

    levels: int = Field(10, ge=0)
    rate: float = Field(0.2, gt=0, lt=1)
    criterion: SerializeAsAny[Entry]
    share: Share = Field("remaining", description="what `rate` is a share of: of the weights left, or of all at first")
    rewind: Rewind = Rewind()
    scan: tuple[Duration, ...] = Field(
        (), description="rewinding steps, in ascending order, at which every arm is looked at besides rewind.k"
    )
    real: Recipe | None = Field(None, description="training on real data that finds masks; null: the retraining recipe")
    recipe: Recipe = Recipe(
        length=Duration(1000, "it"), lr=0.01, batch=256, weight_decay=5e-4, schedule="step", milestones=(0.5,)
    )


class Retrain(Settings):
    """Training of tickets on real data: `copies` of each, with SGD noise of their own."""

    copies: int = Field(3, ge=1)
    recipe: Recipe


class Only(Settings):
    """What an analysis is made of: these arms, seeds and levels (null: all), and pairs of tickets of these kinds."""

    arms: tuple[str, ...] | None = None
    seeds: tuple[int, ...] | None = None
    levels: tuple[int, ...] | None = None
    pairs: tuple[Literal["arms", "levels"], ...] = Field(
        ("arms", "levels"), description="arms: with the arm `versus` at equal level; levels: a chain's neighbouring levels"
    )

    def holds(self, arm: str, seed: int, level: int) -> bool:
        return (
            (self.arms is None or arm in self.arms)
            and (self.seeds is None or seed in self.seeds)
            and (self.levels is None or level in self.levels)
        )


class Pipeline(Settings):
    """One study. Everything but `title`, `question`, labels and `device` decides bits."""

    title: str = ""
    question: str = ""
    device: str = Field("cpu", description="cpu, cuda or cuda:N; not part of any key")
    threads: int = Field(1, ge=1, description="threads of one worker; part of every key")
    seeds: tuple[int, ...] = Field((0, 1, 2), min_length=1, description="one initialisation each: the statistical unit")
    data: SerializeAsAny[Entry]
    tasks: dict[str, SerializeAsAny[Entry]] = Field(
        default_factory=dict,
        description="further data sets, by name: arms that name one are of it, not of `data`. Without a path or tokenizer: "
        "those of `data`",
    )
    model: SerializeAsAny[Entry]
    experts: Experts = Experts()
    architectures: dict[str, SerializeAsAny[Entry]] = Field(
        default_factory=dict, description="further networks that the sets are evaluated with"
    )
    distill: dict[str, SerializeAsAny[Entry]] = Field(default_factory=dict)
    distill_seed: int = Field(0, ge=0)
    prune: Prune
    arms: dict[str, Arm] = Field(min_length=1)
    retrain: Retrain
    compare: dict[str, SerializeAsAny[Entry]]
    versus: str = Field("real", description="the arm that the others are compared with")
    margin: float = Field(0.0, ge=0, lt=1, description="accuracy that a matching ticket may lack besides one deviation")
    levels: tuple[int, ...] | None = Field(None, description="levels that are retrained and compared; null: all")

    only: dict[str, Only] = Field(
        default_factory=dict, description="analyses of `compare` that are made of a part of the grid alone, by name"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Pipeline:
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds {list(self.seeds)} are not all different")
        check(self.arms, self.distill, self.tasks, self.prune.levels)
        if self.prune.share == "original" and self.prune.rate * self.prune.levels >= 1:
            raise ValueError(f"prune.levels {self.prune.levels} of {self.prune.rate:g} of the original weights leave none")
        if "versus" in self.model_fields_set and self.versus not in self.arms:
            raise ValueError(f"versus is '{self.versus}', which is no arm: {nearest(self.versus, self.arms)}")
        if "real" in self.distill:
            raise ValueError("distill.real: 'real' stands for the data set itself; give the set another name")
        if self.experts.recipe.length.unit != "ep":
            raise ValueError("experts.recipe.length must be in epochs, like 20ep: matching starts at epoch ends")
        for name, method in self.distill.items() if not self.experts.stored else ():
            last = getattr(method, "last_epoch", 0)
            if last > self.experts.recipe.length.count:
                raise ValueError(
                    f"distill.{name} matches up to epoch {last} of the experts (max_start - 1 + "
                    f"expert_epochs), which train for {self.experts.recipe.length}"
                )
        for name in self.compare:
            if self.retrain.copies < (least := ANALYSES[name].MIN_COPIES):
                raise ValueError(f"compare.{name} needs retrain.copies of at least {least}, not {self.retrain.copies}")
        if len(set(self.prune.scan)) != len(self.prune.scan):
            raise ValueError(f"prune.scan {[*map(str, self.prune.scan)]}: a rewinding step stands twice")
        for k in {a.k for a in self.placed().values()}:
            length = self.retrain.recipe.length
            if self.prune.rewind.schedule == "continue" and length < k:
                raise ValueError(
                    f"the rewinding step {k} lies behind the end of the schedule that it is a part of "
                    f"(retrain.recipe.length {length})"
                )
        for name, only in self.only.items():
            _check_only(self, name, only)
        if self.levels is not None and any(not 0 <= level <= self.prune.levels for level in self.levels):
            raise ValueError(f"levels {list(self.levels)} must lie in 0..{self.prune.levels} (prune.levels)")
        return self

    @property
    def teacher(self) -> Entry:
        """The network that sets are distilled and evaluated with."""
        return self.experts.model or self.model

    def placed(self) -> dict[str, Placed]:
        """The arms of the grid, at every rewinding step."""
        return placed(self.arms, self.prune.rewind.k, self.prune.scan)

    def compared(self) -> tuple[int, ...]:
        """The levels that are retrained and compared; level 0, the dense network, always."""
        chosen = range(self.prune.levels + 1) if self.levels is None else self.levels
        return tuple(sorted({0, *chosen}))


def _check_only(p: Pipeline, name: str, only: Only) -> None:
    if name not in p.compare:
        raise ValueError(f"only.{name} names no analysis of `compare`: {nearest(name, p.compare)}")
    for what, given, known in (
        ("arms", only.arms, list(p.placed())),
        ("seeds", only.seeds, list(p.seeds)),
        ("levels", only.levels, list(p.compared())),
    ):
        if lost := [g for g in given or () if g not in known]:
            raise ValueError(f"only.{name}.{what} has {lost[0]}, which the study has not: {', '.join(map(str, known))}")


def _describe(problem: ValidationError, model: type[Settings], where: str, file: str) -> ConfigError:
    """The first of pydantic's complaints, as the person who wrote the file would put it."""
    first = problem.errors(include_url=False)[0]
    place = ".".join([where, *map(str, first["loc"])]).strip(".")
    if first["type"] == "extra_forbidden":
        return ConfigError(
            f"unknown key '{place}' in {file}", expected=nearest(str(first["loc"][-1]), _fields(model, first["loc"][:-1]))
        )
    if first["type"] == "missing":
        return ConfigError(f"'{place}' is missing in {file}")
    message = first["msg"].removeprefix("Value error, ")
    got = first["input"] if not isinstance(first["input"], dict | Settings) else None
    return ConfigError(f"'{place}' in {file}: {message}" if place else f"{file}: {message}", got=got if place else None)


def _fields(model: type[Settings], path: Sequence[Any]) -> list[str]:
    """The known keys of the settings at `path` below `model`."""
    for part in path:
        info = model.model_fields.get(str(part))
        found = (
            [
                t
                for t in (info.annotation, *getattr(info.annotation, "__args__", ()))
                if info and isinstance(t, type) and issubclass(t, Settings)
            ]
            if info
            else []
        )
        if found:
            model = found[0]
    return sorted(model.model_fields)


def validated(model: type[Settings], raw: Any, where: str, file: str) -> Settings:
    if not isinstance(raw, dict | Settings):
        raise ConfigError(f"'{where}' in {file}", got=repr(raw), expected="a mapping of keys to values")
    try:
        return model.model_validate(raw)
    except ValidationError as problem:
        raise _describe(problem, model, where, file) from problem


def entry(table: Table[EntryModule], raw: Any, where: str, file: str) -> Settings:
    """The settings of the table's entry that `raw` names."""
    if not isinstance(raw, dict) or not isinstance(raw.get("name"), str):
        raise ConfigError(f"'{where}' in {file} needs a name", got=raw, expected=f"name: one of {', '.join(sorted(table))}")
    if raw["name"] not in table:
        raise ConfigError(
            f"unknown {table.kind} '{raw['name']}' at '{where}.name' in {file}", expected=nearest(raw["name"], table)
        )
    return validated(table[raw["name"]].Settings, raw, where, file)


def _beside(data: Any, body: Any) -> Any:
    """A task's values, with the path and the tokenizer of the pipeline's data where they name none: tasks of one benchmark lie
    in one folder, and one network reads them. Text to be masked lies in no benchmark's."""
    if not isinstance(body, dict):
        return body
    if isinstance(body.get("tasks"), dict):
        return {**body, "tasks": {name: _beside(data, inner) for name, inner in body["tasks"].items()}}
    kind = DATASETS[body["name"]].Settings if body.get("name") in DATASETS else None
    masked = [getattr(settings, "MASKED", False) for settings in (data, kind)]
    for name in ("path", "tokenizer") if not any(masked) else ("tokenizer",):
        value = getattr(data, name, None)
        if value is not None and kind is not None and name in kind.model_fields:
            body = {name: value, **body}
    return body


def parse(raw: Mapping[str, Any], file: str) -> Pipeline:
    """Check plain values and make settings of them.

    Raises:
        ConfigError: naming the key, the file, what was got and what is known there.
    """
    values = dict(raw)
    unknown = [k for k in values if k not in Pipeline.model_fields]
    if unknown:
        raise ConfigError(f"unknown key '{unknown[0]}' in {file}", expected=nearest(str(unknown[0]), Pipeline.model_fields))
    for key in ("distill", "arms", "compare", "prune", "architectures", "tasks"):
        if not isinstance(values.get(key, {}), dict):
            raise ConfigError(f"'{key}' in {file}", got=repr(values[key]), expected="a mapping of keys to values")
    for key in (
        "arms",
        "distill",
        "tasks",
    ):  # `subset: false` leaves an inherited one out; `subset: null` is one with every default
        values[key] = {name: body for name, body in values.get(key, {}).items() if body is not False}
    for key, table in (("data", DATASETS), ("model", MODELS)):
        if key in values:
            values[key] = entry(table, values[key], key, file)
    values["distill"] = {
        name: validated(Stored, body, f"distill.{name}", file)
        if isinstance(body, dict) and body.get("name") == "stored"
        else entry(METHODS, body, f"distill.{name}", file)
        for name, body in values["distill"].items()
    }
    values["tasks"] = {
        name: entry(DATASETS, _beside(values.get("data"), body), f"tasks.{name}", file)
        for name, body in values["tasks"].items()
    }
    if isinstance(values.get("only"), dict):  # `curvature: null` leaves an inherited restriction out
        values["only"] = {name: body for name, body in values["only"].items() if body is not None}
    values["architectures"] = {
        name: entry(MODELS, body, f"architectures.{name}", file) for name, body in values.get("architectures", {}).items()
    }
    if isinstance(values.get("experts"), dict) and values["experts"].get("model") is not None:
        values["experts"] = {**values["experts"], "model": entry(MODELS, values["experts"]["model"], "experts.model", file)}
    prune = dict(values.get("prune", {}))
    prune["criterion"] = entry(CRITERIA, prune.get("criterion", {"name": "magnitude"}), "prune.criterion", file)
    values["prune"] = validated(Prune, prune, "prune", file)
    arms = {}
    for name, body in values["arms"].items():
        body = dict(body or {}) if isinstance(body, dict | None) else body
        if isinstance(body, dict) and body.get("criterion") is not None:
            body["criterion"] = entry(CRITERIA, body["criterion"], f"arms.{name}.criterion", file)
        arms[name] = validated(Arm, body, f"arms.{name}", file)
    values["arms"] = arms
    compare = {}
    for name, body in values.get("compare", {}).items():
        if name not in ANALYSES or name == "summary":
            raise ConfigError(
                f"unknown analysis 'compare.{name}' in {file}", expected=nearest(name, set(ANALYSES) - {"summary"})
            )
        if body is not None:  # `connectivity: null` leaves an inherited analysis out
            compare[name] = validated(ANALYSES[name].Settings, body, f"compare.{name}", file)
    values["compare"] = compare
    checked = validated(Pipeline, values, "", file)
    assert isinstance(checked, Pipeline)
    return checked


def load(name: str, assignments: Sequence[str] = ()) -> tuple[str, Pipeline]:
    """The pipeline's name and settings: the file with what it extends, and `--set a.b=c` laid on top."""
    path = find_pipeline(name)
    raw = read_raw(path)
    override(raw, assignments)
    return path.stem, parse(raw, path.name if not assignments else f"{path.name} (with --set)")
