"""The records that a summary is computed from and consists of, as they are stored.

Units and rows have, beside the keys here, one for every metric (metric.py): `value` and `estimate_of` read them. Shares are
fractions. A key that is not required stands there where it applies.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NotRequired, cast

from typing_extensions import TypedDict  # before Python 3.12 pydantic reads these alone

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.verdict import MATCHING, Property, Verdict
from distill_prune.letters import looks, printable


class Control(TypedDict):
    """`mask` and `norms` are there where they are not the kind's defaults."""

    of: str
    kind: str
    mask: NotRequired[bool]
    norms: NotRequired[str]


class Begins(TypedDict):
    arm: str
    level: int


class ArmRecord(TypedDict):
    """An arm: `images` is "real" or the name of a set; `k` and `base` are there in a scan of rewinding steps."""

    name: str
    images: str
    label: NotRequired[str]
    learned: NotRequired[bool]
    other_data: NotRequired[bool]
    recipe: NotRequired[str]
    criterion: NotRequired[str]
    k: NotRequired[str]
    base: NotRequired[str]
    control: NotRequired[Control]
    begins: NotRequired[Begins]
    one_shot: NotRequired[bool]
    task: NotRequired[str]
    score: NotRequired[str]
    rewind: NotRequired[str]
    retrain: NotRequired[str]


def labels_of(arms: Iterable[ArmRecord]) -> dict[str, str]:
    """What each arm is called, by name: its label, else its name; with its name where another arm's label looks the same."""
    labels = {a["name"]: printable(label if looks(label := str(a.get("label", ""))) else a["name"]) for a in arms}
    count = Counter(map(looks, labels.values()))
    return {name: label if count[looks(label)] == 1 else f"{label} ({printable(name)})" for name, label in labels.items()}


class Unit(TypedDict):
    """One initialisation of an arm at a level; level 0 is dense. `draw` is that of its sets, where there are several."""

    arm: str
    seed: int
    level: int
    sparsity: float
    draw: NotRequired[int]


class Pair(TypedDict):
    """The overlap of an arm's mask with the control's."""

    arm: str
    seed: int
    level: int
    versus: str
    iou: float
    chance: float
    z: float
    draw: NotRequired[int]


class Row(TypedDict):
    """An arm at a level, over `n` initialisations."""

    arm: str
    level: int
    sparsity: float
    n: int
    matching: str
    stable: str
    iou: Estimate | None
    chance: Estimate | None
    z: Estimate | None


class PairedRow(TypedDict):
    """One metric's difference of an arm from `versus` within initialisations."""

    arm: str
    versus: str
    level: int
    metric: str
    difference: Estimate
    p: float
    p_smallest: float
    claim: str | None
    p_holm: NotRequired[float]


class ReachOf(TypedDict):
    last: float | None
    known: bool
    units: Estimate | None
    at_least: int


class ReachRow(TypedDict):
    arm: str
    matching: ReachOf
    stable: ReachOf


class ScanRow(TypedDict):
    """A row at one rewinding step; it has the metrics of the verdicts."""

    arm: str
    k: str
    level: int
    sparsity: float
    matching: str
    stable: str


class OnsetRow(TypedDict):
    arm: str
    level: int
    sparsity: float
    stable_at: str | None
    matching_at: str | None
    ks: list[str]


class TransferRow(TypedDict):
    source: str
    target: str | None
    own: bool
    level: int
    sparsity: float
    metric: str
    score: Estimate | None
    to_dense: Estimate | None
    to_own: Estimate | None


Total = dict[str, float]
"""Training examples seen, optimizer steps and FLOPs: `images`, `steps`, `flops`."""


class CostRow(TypedDict):
    arm: str
    n: int
    search: Total | None
    with_distillation: Total | None
    with_experts: Total | None


class Search(TypedDict):
    """What one level of a chain cost."""

    arm: str
    seed: int
    draw: NotRequired[int]
    level: int
    images: int
    steps: int
    flops: int


class Costs(TypedDict, total=False):
    """Of the search, level by level, and of each set: `distill` and `experts`, None where it is not known."""

    search: list[Search]
    sets: dict[str, dict[str, Total | None]]


class Summary(TypedDict, total=False):
    """All of it; records of older versions lack the later keys."""

    arms: list[ArmRecord]
    dense: dict[str, Estimate | None]
    rows: list[Row]
    reach: list[ReachRow]
    paired: list[PairedRow]
    scan: list[ScanRow]
    onset: list[OnsetRow]
    transfer: list[TransferRow]
    costs: list[CostRow]
    answer: str
    notes: list[str]


def value(unit: Mapping[str, object], metric: str) -> float | None:
    """The value that a unit, or a record like one, has of a metric; None where it was not measured."""
    return cast(float | None, unit.get(metric))


def estimate_of(row: Mapping[str, object], metric: str) -> Estimate | None:
    """The estimate that a row has of a metric, or of `iou`, `chance` or `z`; None where it was not measured."""
    return cast(Estimate | None, row.get(metric))


def verdict_on(row: Mapping[str, object], prop: Property) -> Verdict | None:
    """A row's verdict; None in a record without it."""
    text = cast(str | None, row.get(prop.name))
    return None if text is None else Verdict(text)


def reach_of(row: ReachRow, prop: Property) -> ReachOf:
    return row["matching"] if prop is MATCHING else row["stable"]


def onset_of(row: OnsetRow, prop: Property) -> str | None:
    """The first step of a scan from which on the row's arm has the property."""
    return row["matching_at"] if prop is MATCHING else row["stable_at"]
