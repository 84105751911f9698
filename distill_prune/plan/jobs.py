"""One settings model a stage: exactly what an artifact depends on beside its inputs. Its canonical form enters the key."""

from __future__ import annotations

from typing import Annotated, NamedTuple, Self

from pydantic import Field, GetPydanticSchema, SerializeAsAny
from pydantic_core import core_schema

from distill_prune.analyze import ANALYSES
from distill_prune.data.source import Source
from distill_prune.distill import has_soft_labels
from distill_prune.distill.kept import Kept, SourceSettings
from distill_prune.duration import NONE, Duration
from distill_prune.plan.records import Roles
from distill_prune.prune.controls import Control
from distill_prune.prune.imp import Step
from distill_prune.settings import Entry, Json, Later, Settings, canonical
from distill_prune.training import Lanes, Recipe

_AS_BUILT = GetPydanticSchema(lambda *_: core_schema.any_schema())
"""A value that this package builds, not a file: its type is checked before anything runs."""

VERSIONS = {"data": 1, "experts": 1, "distill": 2, "prune": 1, "retrain": 1, "compare": 2}
"""Raised by one where the meaning of a stage's artifacts changes, so that no old artifact is taken for a new one."""


PLACES = frozenset({"seed", "index", "level", "copy_index", "draw", "step"})
"""Fields of jobs that say which of many trainings it is, not what the training is like."""


class Conditions(NamedTuple):
    """What of a pipeline decides the order of additions, and so the bits of all that is computed."""

    threads: int = 1
    lanes: Lanes = 1
    compile: bool = False


class Job(Settings):
    """Base of the stages' settings. `threads` is part of every key, `lanes` and `compile` of those where they decide bits."""

    threads: int = 1
    lanes: Lanes = Later(1)
    compile: bool = Later(False)

    def under(self, conditions: Conditions) -> Self:
        """The job under a pipeline's conditions."""
        lanes, compiles = conditions.lanes if self.in_lanes() else 1, conditions.compile and self.compiles()
        return self.model_copy(update={"threads": conditions.threads, "lanes": lanes, "compile": compiles})

    def trains(self) -> bool:
        """Whether it is one training, which can share its steps with those of other jobs."""
        return False

    def in_lanes(self) -> bool:
        """Whether networks share steps where a pipeline asks for lanes."""
        return self.trains()

    def compiles(self) -> bool:
        """Whether steps of a network are compiled where a pipeline asks for that."""
        return self.trains()

    def company(self) -> Json:
        """What jobs have in common whose trainings can share their steps."""
        return {name: value for name, value in canonical(self).items() if name not in PLACES}

    def identity(self) -> dict[str, Json]:
        """What of the settings enters the key: of the network, its identity."""
        settings, model = canonical(self), dict(self).get("model")
        return {**settings, "model": model.identity()} if isinstance(model, Entry) else settings


class DataJob(Job):
    """A prepared data set. The path stays outside the key, the fingerprint of the bytes is in it."""

    source: SerializeAsAny[Source]
    fingerprint: str

    def identity(self) -> dict[str, Json]:
        return {"threads": self.threads, "source": self.source.identity(), "fingerprint": self.fingerprint}


class ExpertsJob(Job):
    """One teacher; `source` says which real images it sees, where these are not all; `convex`, that it keeps its ends alone."""

    model: SerializeAsAny[Entry]
    recipe: Recipe
    seed: int
    index: int
    source: Kept | None = Later(None)
    convex: bool = Later(False)

    def trains(self) -> bool:
        return True


class DistillJob(Job):
    """One synthetic set; `model` only where the method trains one."""

    method: SerializeAsAny[Entry]
    model: SerializeAsAny[Entry] | None
    seed: int

    @property
    def source(self) -> Kept | None:
        """Which real images are distilled, where these are not all."""
        return self.method.source if isinstance(self.method, SourceSettings) else None

    def form(self) -> Json:
        """What decides how many examples the set has, and of what kind they and their labels are."""
        settings, absent = dict(self.method), {"factor": 1, "tokens": None}
        sizes = {name: settings.get(name, absent.get(name)) for name in ("ipc", "factor", "tokens")}
        return {**sizes, "soft": has_soft_labels(self.method)}


class DenseJob(Job):
    """Level 0 of a seed's chains; `recipe` only where k > 0, for nothing is trained otherwise."""

    model: SerializeAsAny[Entry]
    seed: int
    k: Duration
    recipe: Recipe | None
    level: int = 0
    draw: int = Later(0, description="another draw of the initialisation, for controls")

    def trains(self) -> bool:
        return self.recipe is not None


class LevelJob(Job):
    """Base of a further level of a chain. All three kinds enter keys with the same fields."""

    seed: int
    level: int
    step: Step


class TrainedLevelJob(LevelJob):
    """A level whose criterion scores weights trained by `recipe`, from step `first` of its schedule."""

    model: SerializeAsAny[Entry]
    recipe: Recipe
    first: Duration

    def trains(self) -> bool:
        return True


class ScoredLevelJob(LevelJob):
    """A level that trains nothing and looks at the network: its criterion does, or it redraws the head."""

    model: SerializeAsAny[Entry]
    recipe: None = None
    first: Duration = NONE


class MaskLevelJob(LevelJob):
    """A level whose criterion looks at weights alone."""

    model: None = None
    recipe: None = None
    first: Duration = NONE


class ControlJob(Job):
    """A level of a control: the ticket `of` with one thing taken away; `dense` holds the weights that it keeps. Signs are those
    of the copy `trained`. A permutation, for which alone the `model` is needed, aligns `trained` to the copy `target`."""

    seed: int
    level: int
    control: Control
    model: SerializeAsAny[Entry] | None = Later(None)


class RetrainJob(Job):
    """One copy of one ticket, from step `first` of the recipe's schedule."""

    model: SerializeAsAny[Entry]
    seed: int
    copy_index: int
    recipe: Recipe
    first: Duration

    def trains(self) -> bool:
        return True


class CompareJob(Job):
    """One analysis; `seed` names its random streams, `model` is absent where it looks at masks or numbers alone."""

    analysis: SerializeAsAny[Entry]
    model: SerializeAsAny[Entry] | None = None
    seed: int | None = None
    roles: Annotated[Roles, _AS_BUILT] = Field(default_factory=Roles)

    def in_lanes(self) -> bool:
        return ANALYSES[self.analysis.name].LANES

    def compiles(self) -> bool:
        return self.model is not None
