"""The sections of a pipeline file, as settings."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, SerializeAsAny

from distill_prune.analyze import ANALYSES
from distill_prune.data import DATASETS
from distill_prune.data.source import Source
from distill_prune.distill import METHODS
from distill_prune.duration import Duration
from distill_prune.entries import EntriesOf, EntryOf
from distill_prune.models import MODELS
from distill_prune.plan.arms import AnyCriterion, Arm, Placed, placed
from distill_prune.plan.narrow import LEVELS, MOST_LEVELS, SEEDS
from distill_prune.prune.imp import Rewind
from distill_prune.prune.select import Share
from distill_prune.settings import Entry, Settings
from distill_prune.training import Lanes, Recipe

AnyData = Annotated[SerializeAsAny[Source], EntryOf(DATASETS)]
Seed = Annotated[int, Field(ge=0)]
Reference = Annotated[str, Field(coerce_numbers_to_str=True)]
"""A key, its beginning or a name: text, though YAML may read it as a number."""
AnyModel = Annotated[SerializeAsAny[Entry], EntryOf(MODELS)]


class Experts(Settings):
    """Teachers on real data; `recipe.length` is in epochs, as trajectories are. `model` is the network that sets are
    distilled and evaluated with, where it is not the one that is pruned."""

    model: AnyModel | None = Field(None, description="the network that sets are distilled with; null: the one that is pruned")
    count: int = Field(5, ge=1, description="how many teachers")
    seed: int = Field(0, ge=0, description="of their initialisations and orders")
    recipe: Recipe = Field(
        Recipe(length=Duration(20, "ep"), lr=0.01, momentum=0.0, batch=256),
        description="how each is trained; its length in epochs",
    )
    convex: bool = Field(
        False, description="keep the first and the last checkpoint alone; points on the line between them stand for the others"
    )
    stored: tuple[Reference, ...] = Field(
        (), description="experts that are there already, by key or name, in place of own ones"
    )


class Stored(Entry):
    """A synthetic set that is there already, by key, beginning of a key, or name. One that was made from other data
    (another split, transform or source) is refused unless `other_data` says that this is meant."""

    name: Literal["stored"] = "stored"
    ref: Reference = Field(description="the set's key, the beginning of it, or its name")
    other_data: bool = Field(False, description="whether it is meant that the set was made from other data than this study's")


Analyses = Annotated[dict[str, SerializeAsAny[Entry]], EntriesOf(ANALYSES, frozenset({"summary"}))]
AnySet = Annotated[SerializeAsAny[Entry], EntryOf(METHODS, {"stored": Stored})]


class Prune(Settings):
    """Chains: how many levels, how much goes at each, and the training that finds masks: `recipe` on small sets, `real` on
    real data. With `real` written out, a change of the retraining leaves every ticket as it is (at k = 0)."""

    levels: int = Field(LEVELS, ge=0, le=MOST_LEVELS, description="rounds of pruning: how many times `rate` is pruned")
    rate: float = Field(0.2, gt=0, lt=1, description="the share that goes at each level, like 0.2")
    criterion: AnyCriterion = Field(description="what decides which weights go")
    share: Share = Field("remaining", description="what `rate` is a share of: of the weights left, or of all at first")
    rewind: Rewind = Field(Rewind(), description="where the weights that stay return to")
    scan: tuple[Duration, ...] = Field(
        (), description="rewinding steps, in ascending order, at which every arm is looked at besides rewind.k"
    )
    real: Recipe | None = Field(None, description="training on real data that finds masks; null: the retraining recipe")
    recipe: Recipe = Field(
        Recipe(length=Duration(1000, "it"), lr=0.01, batch=256, weight_decay=5e-4, schedule="step", milestones=(0.5,)),
        description="the training that finds masks on small sets",
    )


class Retrain(Settings):
    """Training of tickets on real data: `copies` of each, with SGD noise of their own."""

    copies: int = Field(3, ge=1, description="trainings of each ticket, which differ in their SGD noise alone")
    recipe: Recipe = Field(description="the training of tickets on real data")


class Only(Settings):
    """What an analysis is made of: these arms, seeds and levels (null: all), and pairs of tickets of these kinds."""

    arms: tuple[str, ...] | None = Field(None, description="of these arms alone; null: all")
    seeds: tuple[Seed, ...] | None = Field(None, description="of these initialisations alone; null: all")
    levels: tuple[int, ...] | None = Field(None, description="of these levels alone; null: all")
    pairs: tuple[Literal["arms", "levels"], ...] = Field(
        ("arms", "levels"), description="arms: with the arm `versus` at equal level; levels: a chain's neighbouring levels"
    )

    def holds(self, arm: str, seed: int, level: int) -> bool:
        return (
            (self.arms is None or arm in self.arms)
            and (self.seeds is None or seed in self.seeds)
            and (self.levels is None or level in self.levels)
        )


class Sections(Settings):
    """What a pipeline file says, section by section, and what follows from it alone."""

    title: str = Field("", description="what the page is called; default: the data set's name")
    question: str = Field("", description="what the study asks, on the page in words")
    device: str = Field("cpu", description="cpu, cuda or cuda:N; not part of any key")
    threads: int = Field(1, ge=1, description="threads of one worker; part of every key")
    lanes: Lanes = Field(
        1, description="small networks that share a training step, for speed; part of the keys of what is trained so"
    )
    compile: bool = Field(
        False, description="compile the steps of networks, for speed; needs a C++ compiler; part of the keys of what has steps"
    )
    seeds: tuple[Seed, ...] = Field(SEEDS, min_length=1, description="one initialisation each: the statistical unit")
    data: AnyData = Field(description="the real data")
    tasks: dict[str, AnyData] = Field(
        default_factory=dict,
        description="further data sets, by name: arms that name one are of it, not of `data`. Without a path or tokenizer: "
        "those of `data`",
    )
    model: AnyModel = Field(description="the network that is pruned")
    experts: Experts = Field(Experts(), description="teachers whose trajectories sets are matched to")
    architectures: dict[str, AnyModel] = Field(
        default_factory=dict, description="further networks that the sets are evaluated with"
    )
    distill: dict[str, AnySet] = Field(default_factory=dict, description="synthetic sets and real subsets, by name")
    distill_seed: int = Field(0, ge=0, description="of the draws of distillation")
    distill_seeds: tuple[Seed, ...] = Field(
        (),
        description="several draws of every set, in place of distill_seed: each set is distilled, or each subset drawn, once "
        "for each of these, and intervals cover sets, too",
    )
    distill_grid: Literal["nested", "crossed"] = Field(
        "nested", description="nested: each initialisation takes one of distill_seeds, in turn; crossed: it takes all"
    )
    prune: Prune = Field(description="how masks are found")
    arms: dict[str, Arm] = Field(min_length=1, description="sources of masks, by name")
    retrain: Retrain = Field(description="how tickets are trained on real data")
    compare: Analyses = Field(description="analyses, by name")
    versus: str = Field("real", description="the arm that the others are compared with")
    margin: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="a matching ticket may be less accurate than dense networks by one standard deviation and this much",
    )
    claim_p: float = Field(
        0.05, gt=0, le=1, description="largest exact p-value of a claimed difference; 1: its interval alone decides"
    )
    levels: tuple[int, ...] | None = Field(
        None, description="levels that are retrained and compared; null: all, as where a file changes prune.levels alone"
    )
    only: dict[str, Only] = Field(
        default_factory=dict, description="analyses of `compare` that are made of a part of the grid alone, by name"
    )

    def draws(self, seed: int) -> tuple[int | None, ...]:
        """The draws of the sets that an initialisation is pruned with; None: the only one."""
        if not self.distill_seeds:
            return (None,)
        if self.distill_grid == "crossed":
            return self.distill_seeds
        return (self.distill_seeds[self.seeds.index(seed) % len(self.distill_seeds)],)

    @property
    def teacher(self) -> Entry:
        """The network that sets are distilled and evaluated with."""
        return self.experts.model or self.model

    def of_other_data(self, name: str) -> bool:
        """Whether `name` is a set that is meant to be of other data than the study's."""
        method = self.distill.get(name)
        return isinstance(method, Stored) and method.other_data

    def placed(self) -> dict[str, Placed]:
        """The arms of the grid, at every rewinding step."""
        return placed(self.arms, self.prune.rewind.k, self.prune.scan)

    def compared(self) -> tuple[int, ...]:
        """The levels that are retrained and compared; level 0, the dense network, always."""
        chosen = range(self.prune.levels + 1) if self.levels is None else self.levels
        return tuple(sorted({0, *chosen}))
