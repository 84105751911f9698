"""What the template of the page takes: everything that stands on it, chosen and in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_prune.analyze.metric import Metric
from distill_prune.analyze.records import PairedRow, Row, Summary
from distill_prune.report.figures import Drawing
from distill_prune.report.legend import Swatch
from distill_prune.report.pictures import Sheet
from distill_prune.report.style import Arm
from distill_prune.report.tickets import Table
from distill_prune.report.transfer import Beside
from distill_prune.report.unmeasured import Unmeasured
from distill_prune.report.words import Kept, Onset, Shares

if TYPE_CHECKING:
    from distill_prune.study.records import Density, Missing
    from distill_prune.study.study import Study


@dataclass(frozen=True)
class Column:
    """A metric in the table of all levels; `unit` says how an estimate is written (formats.estimate)."""

    metric: str
    heading: str
    unit: str


@dataclass(frozen=True)
class Group:
    """Rows of the table of all levels under one title."""

    title: str
    color: str | None
    rows: list[Row]


@dataclass(frozen=True)
class Leading:
    """The leading eigenvalues of one copy, its arm, and the layer that holds most of the first eigenvector with its share."""

    arm: Arm
    density: Density
    most: tuple[str, float] | None


@dataclass(frozen=True)
class Page:
    """The model of the page.

    Attributes:
        study, summary: what is laid out; the summary is empty until there is one.
        text, noun: whether examples are sentences, and what to call them.
        n: how many initialisations the rows have, in words.
        sections: of the list of sections, as (id, title).
        swatches: the one legend.
        answer_arms, answer_differences, answer_sets, could_show: the answer's tables, heads first, and its lines.
        evidence: the answer in sentences.
        leads: the figures of the question, which stand at the head.
        missing, unmeasured: missing artifacts by stage; what nobody asked for.
        drawings, groups, unseen: figures by name, the names that stand together, and the arms that a figure leaves out.
        links: the files of each figure; `tables` are the names of all tables.
        metrics: the metrics that the page shows, by name.
        dark, light: the values of the variables of colours.
        labels, first, at: labels by arm, the arms at their first rewinding step, and sparsity by arm and level.
    """

    study: Study
    summary: Summary
    text: bool
    noun: str
    n: str
    sections: list[tuple[str, str]]
    swatches: list[Swatch]
    answer_arms: list[list[str]]
    answer_differences: list[list[str]]
    answer_sets: list[str]
    could_show: str
    evidence: str
    leads: list[str]
    unmeasured: list[Unmeasured]
    missing: dict[str, list[Missing]]
    drawings: Mapping[str, Drawing]
    groups: dict[str, list[str]]
    unseen: dict[str, list[str]]
    metrics: dict[str, Metric]
    links: dict[str, list[tuple[str, str]]]
    tables: list[str]
    labels: dict[str, str]
    first: set[str]
    at: dict[tuple[str, int], float]
    sheets: list[Sheet]
    shares: list[Shares]
    onsets: list[Onset]
    spectra: list[Leading]
    noisy: list[str]
    kinds: dict[str, str]
    surfaces: list[str]
    columns: list[Column]
    table: list[Group]
    claims: list[PairedRow]
    moved: list[Beside]
    targets: list[tuple[str | None, str, str]]
    compared: list[tuple[str, list[Kept]]]
    tickets: Table | None
    barrier: str
    dark: str
    light: str

    def any_of(self, *names: str) -> bool:
        """Whether any of the figures was drawn and stands below the head."""
        return any(name in self.drawings and name not in self.leads for name in names)
