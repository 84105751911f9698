"""What a store holds of one study, for programs: its answer, its tables, its tickets and networks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from distill_prune.analyze.records import Row, Unit
from distill_prune.artifacts import Images, Sentences, SyntheticSet, Ticket
from distill_prune.errors import ConfigError, DamagedArtifact, StoreError, UserError, nearest
from distill_prune.models import Model
from distill_prune.plan.config import Pipeline
from distill_prune.plan.nodes import Chain, Graph
from distill_prune.report import write
from distill_prune.report.tables import columns, tables
from distill_prune.run.reader import Reader
from distill_prune.run.run import Report
from distill_prune.store.store import Store
from distill_prune.study.conclusion import conclusion
from distill_prune.study.outcome import Document
from distill_prune.study.records import Ticket as TicketRecord
from distill_prune.study.study import Study, read
from distill_prune.tree import State

if TYPE_CHECKING:
    from pandas import DataFrame

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Results:
    """A study in a store, finished or not. Nothing is read before it is asked for.

    `made` says what the run that these results come from did: nothing where nothing was run.
    """

    name: str
    graph: Graph
    store: Store
    made: Report = field(default_factory=Report)
    _reader: Reader = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_reader", Reader(self.store, "cpu"))

    @property
    def pipeline(self) -> Pipeline:
        """The settings."""
        return self.graph.pipeline

    @cached_property
    def plain(self) -> Study:
        """Everything that the report shows, as plain data, as far as the store holds it."""
        return read(self.name, self.graph, self.store)

    @property
    def missing(self) -> int:
        """How many artifacts of the study are not in the store."""
        return len(self.plain.missing)

    @cached_property
    def answer(self) -> Document:
        """The answer: `verdict` (one line), `arms` and `differences` at the level compared, `sentences`; what `run` prints.

        Raises:
            StoreError: the study is not finished.
        """
        try:
            return conclusion(self.graph, self.store)
        except DamagedArtifact as absent:
            raise StoreError(
                f"the study '{self.name}' has no answer yet",
                got=f"{self.missing:,} of {len(self.graph.nodes):,} artifacts are missing in {self.store.root}",
                fix=f"run(...), or `distill-prune run {self.name}`",
            ) from absent

    # -- tables

    @property
    def rows(self) -> list[Row]:
        """A row for each arm and level, with an estimate (`mean`, `sd`, `low`, `high`, `n`) of every metric over the
        initialisations; empty until the study is finished. Accuracies, errors and barriers are shares of 1."""
        return self.plain.summary["rows"] if self.plain.summary else []

    @property
    def runs(self) -> list[Unit]:
        """A row for each arm, seed and level that was measured, with the value of every metric, means over its copies."""
        return self.plain.units

    @property
    def tickets(self) -> list[TicketRecord]:
        """A row for each retrained ticket: arm, seed, level, sparsity, weights left, key. `ticket` reads one."""
        return self.plain.tickets

    def table(self, name: str = "levels") -> list[dict[str, object]]:
        """The records of one of the report's tables, a column for each part of an estimate: `accuracy_mean`, `accuracy_sd`.

        Raises:
            ConfigError: the study has no such table; the message lists those that it has.
        """
        by_name = tables(self.plain)
        if name not in by_name:
            raise ConfigError(f"the study has no table '{name}'", expected=nearest(name, by_name))
        return columns(by_name[name])

    def frame(self, name: str = "levels") -> DataFrame:
        """The same as a pandas frame.

        Raises:
            UserError: pandas is not installed.
            ConfigError: the study has no such table; the message lists those that it has.
        """
        try:
            from pandas import DataFrame
        except ImportError as problem:
            raise UserError(
                "a frame needs pandas, which is not installed", fix="pip install pandas, or `table`, which gives plain records"
            ) from problem
        return DataFrame(self.table(name))

    def report(self, folder: Path | str) -> Path:
        """Write the page with its figures and tables into `folder`; the page's path.

        Raises:
            UserError: the folder cannot be written to.
        """
        return write(self.plain, Path(folder).expanduser())

    # -- artifacts

    @property
    def data(self) -> Images | Sentences:
        """The real data, prepared.

        Raises:
            StoreError: they are not in the store.
        """
        self._require("data", self.graph.data, "the data")
        return self._reader.images(self.graph.data)

    @property
    def model(self) -> Model:
        """The network that is pruned, as a function of its state.

        Raises:
            StoreError: the data, which give its input and classes, are not in the store.
        """
        self._require("data", self.graph.data, "the data")
        return self._reader.model_for(self.pipeline.model, self.graph.data)

    def synthetic(self, name: str) -> SyntheticSet:
        """A synthetic set, or a real subset, by its name under `distill:`; "name/0" is that of draw 0,
        where a study has several.

        Raises:
            ConfigError: the study has no set of this name.
            StoreError: it is not in the store.
        """
        if name not in self.graph.sets:
            raise ConfigError(f"the study has no set '{name}'", expected=nearest(name, self.graph.sets))
        key = self.graph.sets[name]
        self._require("distill", key, f"the set '{name}'")
        return self._reader.set(key)

    def ticket(self, arm: str, seed: int, level: int, draw: int | None = None) -> Ticket:
        """The ticket of a chain at a level: its mask, and the state that survivors are rewound to. `draw` is that of its set,
        where a study has several.

        Raises:
            ConfigError: the study has no such arm, seed, draw or level.
            StoreError: it is not in the store.
        """
        chains = ((Chain(*place), keys) for place, keys in self.graph.chains.items())
        grid = {(c.arm, c.seed, c.draw, n): key for c, keys in chains for n, key in keys.items()}
        key = _at(grid, arm, seed, draw, level)
        self._require("prune", key, f"the ticket of {arm}, seed {seed}, level {level},")
        return self._reader.ticket(key)

    def weights(self, arm: str, seed: int, level: int, copy: int = 0, draw: int | None = None) -> State:
        """Every tensor of a retrained copy of a ticket, by name. Levels that are not compared have no copies.

        Raises:
            ConfigError: the study has no such arm, seed, draw, level or copy.
            StoreError: it is not in the store.
        """
        grid = {(unit.arm, unit.seed, unit.draw, unit.level): unit.copies for unit in self.graph.units}
        copies = _at(grid, arm, seed, draw, level)
        if not 0 <= copy < len(copies):
            raise ConfigError(f"a ticket of the study '{self.name}' has no copy {copy}", expected=f"0 to {len(copies) - 1}")
        self._require("retrain", copies[copy], f"copy {copy} of {arm}, seed {seed}, level {level},")
        return self._reader.state(copies[copy])

    def _require(self, stage: str, key: str, what: str) -> None:
        if not self.store.has(stage, key):
            raise StoreError(f"{what} is not in the store", got=str(self.store.root), fix=f'run("{self.name}", ...) makes it')


def _at(grid: Mapping[tuple[str, int, int | None, int], T], arm: str, seed: int, draw: int | None, level: int) -> T:
    """What the grid has at a place.

    Raises:
        ConfigError: naming the first part of the place that it does not have.
    """
    left, place = [*grid], {"arm": arm, "seed": seed, "draw": draw, "level": level}
    for axis, (what, value) in enumerate(place.items()):
        known = dict.fromkeys(other[axis] for other in left)
        left = [other for other in left if other[axis] == value]
        if not left:
            raise ConfigError(f"the study has no {what} {value!r} here", expected=", ".join(map(str, known)))
    return grid[arm, seed, draw, level]
