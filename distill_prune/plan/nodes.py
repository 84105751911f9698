"""Artifacts of a study before any is made: nodes with their keys, and the units of the grid."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from distill_prune.distill import METHODS
from distill_prune.errors import ConfigError
from distill_prune.limits import ARTIFACTS
from distill_prune.plan.config import Pipeline
from distill_prune.plan.jobs import VERSIONS, Conditions, Job
from distill_prune.plan.places import NOWHERE, Locate
from distill_prune.store.store import STAGES, identity


@dataclass(frozen=True)
class Node:
    """One artifact: its key, what it is made from, and what to call it."""

    stage: str
    key: str
    job: Job
    inputs: Mapping[str, str]
    label: str
    kind: str


ChainKey = tuple[str, int] | tuple[str, int, int]


class Chain(NamedTuple):
    """Which chain of tickets: its arm and seed, and the draw of its sets where there are several."""

    arm: str
    seed: int
    draw: int | None = None

    @property
    def key(self) -> ChainKey:
        return (self.arm, self.seed) if self.draw is None else (self.arm, self.seed, self.draw)

    @property
    def where(self) -> str:
        """In words, without the arm."""
        return f"seed {self.seed}" + ("" if self.draw is None else f" draw {self.draw}")

    def __str__(self) -> str:
        return f"{self.arm} {self.where}"


@dataclass(frozen=True)
class Unit:
    """One ticket of the grid: its arm, seed and level, its copies, its analyses by name, and the draw of its sets."""

    arm: str
    seed: int
    level: int
    ticket: str
    copies: tuple[str, ...] = ()
    measured: Mapping[str, str] = field(default_factory=dict)
    draw: int | None = None

    @property
    def chain(self) -> Chain:
        return Chain(self.arm, self.seed, self.draw)


@dataclass(frozen=True)
class Between:
    """One analysis of two tickets of one seed: an arm's and the control's at one level (`arms`), or two levels of an arm."""

    kind: str
    analysis: str
    unit: Unit
    other: Unit
    key: str


@dataclass(frozen=True)
class SetMeasure:
    """One analysis of one synthetic set with one network: the pipeline's own ("") or an entry of `architectures`."""

    set: str
    analysis: str
    architecture: str
    key: str


def is_control(method: str) -> bool:
    """Whether a set made by `method` holds plain real images: a control, not the treatment."""
    return method in METHODS and METHODS[method].REAL_IMAGES


def drawn(name: str, draw: int | None) -> str:
    """What a set is called in one of several draws."""
    return name if draw is None else f"{name}/{draw}"


@dataclass
class Graph:
    """The artifacts of one study, inputs before what is made from them. `sets`, and their `methods`, are by name in each
    draw."""

    pipeline: Pipeline
    locate: Locate = NOWHERE
    nodes: dict[str, Node] = field(default_factory=dict)
    units: list[Unit] = field(default_factory=list)
    chains: dict[ChainKey, dict[int, str]] = field(default_factory=dict)
    sets: dict[str, str] = field(default_factory=dict)
    methods: dict[str, str] = field(default_factory=dict)
    set_measures: list[SetMeasure] = field(default_factory=list)
    betweens: list[Between] = field(default_factory=list)
    data: str = ""
    tasks: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    cells: dict[str, Graph] = field(default_factory=dict)
    _by_ticket: dict[tuple[str, str], Unit] = field(default_factory=dict, repr=False)

    @classmethod
    def union(cls, cells: dict[str, Graph]) -> Graph:
        """The artifacts of several studies, the cells of a sweep by name, with the settings of the first."""
        nodes = {key: node for cell in cells.values() for key, node in cell.nodes.items()}
        sets = {f"{name}: {of_set}": key for name, cell in cells.items() for of_set, key in cell.sets.items()}
        first = next(iter(cells.values()))
        return cls(first.pipeline, first.locate, nodes, sets=sets, cells=cells)

    def real(self, task: str | None) -> str:
        """The key of a task's data; of the pipeline's own without a name."""
        return self.data if task is None else self.tasks[task]

    def chain(self, place: Chain) -> dict[int, str]:
        """The tickets of a chain by level; of an arm that takes no set, its only chain of the seed."""
        return self.chains.get(place.key) or self.chains[place.arm, place.seed]

    def is_learned(self, name: str) -> bool:
        """Whether `name` is a set that is no control."""
        return any(drawn(name, draw) in self.sets and not is_control(self.methods[drawn(name, draw)]) for draw in self.draws)

    def add_unit(self, unit: Unit) -> None:
        """Add a unit of the grid. Where sets of several draws are equal, so are tickets; the first one answers to `unit`."""
        self.units.append(unit)
        self._by_ticket.setdefault((unit.arm, unit.ticket), unit)

    def unit(self, arm: str, ticket: str) -> Unit:
        """The unit of an arm's ticket, which is there already."""
        return self._by_ticket[arm, ticket]

    @property
    def draws(self) -> tuple[int | None, ...]:
        """The draws of every set; None: the only one."""
        return self.pipeline.distill_seeds or (None,)

    def learned(self, draw: int | None) -> str | None:
        """The key of the first set that is no control and was made from the study's own data, in a draw."""
        names = (n for n in self.pipeline.distill if self.is_learned(n) and not self.pipeline.of_other_data(n))
        return next((self.sets[drawn(n, draw)] for n in names), None)

    @property
    def evaluations(self) -> dict[str, str]:
        """The evaluation of each set with the network that the sets are made for."""
        return {m.set: m.key for m in self.set_measures if m.analysis == "evaluation" and not m.architecture}

    def add(self, stage: str, job: Job, inputs: Mapping[str, str], label: str, kind: str = "") -> str:
        """Add the artifact of a job under the pipeline's conditions, unless it is there; its key.

        Raises:
            ConfigError: there are too many.
        """
        job = job.under(Conditions(self.pipeline.threads, self.pipeline.lanes, self.pipeline.compile))
        key = identity(stage, VERSIONS[stage], job.identity(), inputs)
        if len(self.nodes) >= ARTIFACTS:
            raise ConfigError(
                f"the pipeline asks for more than {ARTIFACTS:,} artifacts",
                got=f"{len(self.pipeline.seeds)} seeds, {len(self.pipeline.arms)} arms, {self.pipeline.prune.levels} levels, "
                f"{self.pipeline.retrain.copies} copies, {self.pipeline.experts.count} experts",
                fix="several pipelines",
            )
        self.nodes.setdefault(key, Node(stage, key, job, dict(inputs), label, kind or stage))
        return key

    def keys(self) -> set[str]:
        """All artifacts of the study, and those of the store that it is made from."""
        return {key for node in self.nodes.values() for key in node.inputs.values()} | set(self.nodes)

    def behind(self, keys: Iterable[str]) -> set[str]:
        """Artifacts of the study, and all that they are made from."""
        behind, stack = set[str](), [*keys]
        while stack:
            key = stack.pop()
            if key in self.nodes and key not in behind:
                behind.add(key)
                stack += self.nodes[key].inputs.values()
        return behind

    def goals(self, until: str) -> list[str]:
        """The artifacts that a run up to and including stage `until` is for."""
        last = STAGES.index(until)
        inside = {k: n for k, n in self.nodes.items() if STAGES.index(n.stage) <= last}
        used = {i for n in inside.values() for i in n.inputs.values()}
        return [k for k, n in inside.items() if n.stage == until or k not in used]
