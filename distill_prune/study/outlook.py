"""What a study will take before anything is spent: artifacts by stage and arm, time on this machine, memory, disk; and whether
its seeds suffice for a claim."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from distill_prune.analyze.paired import CLAIMS_FROM
from distill_prune.plan.nodes import Graph, drawn
from distill_prune.run.run import urgency
from distill_prune.store.store import STAGES
from distill_prune.study.costs import Price

BEGIN_SECONDS, REPORT_SECONDS = 4.0, 3.0
"""To start the workers, and to draw a report."""
SPREAD = {"seen": (0.8, 1.25), "tried": (0.75, 1.4), "guessed": (0.2, 5.0)}
"""What a run took at least and at most of its price, by how the price is known."""
LONG = 12 * 3600.0
"""Seconds on a processor from which on a GPU is wanted."""


@dataclass(frozen=True)
class Line:
    """The artifacts of one stage and arm (or set): how many, those that are there, seconds each and of all that are missing."""

    stage: str
    arm: str
    artifacts: int
    hits: int
    each: float
    missing_seconds: float


@dataclass(frozen=True)
class Outlook:
    """What is missing of a study will take `low` to `high` seconds on `workers` workers, `work` seconds of one; MiB of memory a
    worker (None: not known), and `bytes` on the disk without those of `unsized` artifacts, which nobody knows. `guessed` is the
    share of the work whose price is a guess."""

    lines: list[Line]
    workers: int
    work: float
    low: float
    high: float
    guessed: float
    mb: float | None
    bytes: int
    unsized: int
    wants_gpu: bool
    seeds: int
    sets: int | None

    @property
    def units(self) -> int:
        """The initialisations that a claim can rest on; the draws of the sets, where these are fewer."""
        return self.seeds if self.sets is None else min(self.seeds, self.sets)

    @property
    def can_claim(self) -> bool:
        return self.units >= CLAIMS_FROM


def outlook(graph: Graph, missing: Collection[str], prices: Mapping[str, Price], workers: int) -> Outlook:
    """What the artifacts of a study that are `missing` take."""
    left = [key for key in graph.nodes if key in missing]
    work = sum(prices[key].seconds for key in left)
    longest = max(urgency(graph, left, lambda node: prices[node.key].seconds).values(), default=0.0)
    bounds = [sum(prices[key].seconds * SPREAD[prices[key].known][end] for key in left) for end in (0, 1)]
    scale = max(longest, work / workers) / work if work else 0.0
    around = BEGIN_SECONDS + REPORT_SECONDS if left else 0.0
    guessed = sum(prices[key].seconds for key in left if prices[key].known == "guessed")
    sizes = [prices[key] for key in left]
    return Outlook(
        _lines(graph, missing, prices),
        workers,
        work,
        bounds[0] * scale + around,
        bounds[1] * scale + around,
        guessed / work if work else 0.0,
        max((price.mb for price in sizes if price.mb is not None), default=None),
        sum(price.bytes or 0 for price in sizes),
        sum(price.bytes is None for price in sizes),
        graph.pipeline.device.startswith("cuda") or work / workers > LONG,
        len(graph.pipeline.seeds),
        len(graph.pipeline.distill_seeds) or None,
    )


def arms_of(graph: Graph) -> dict[str, str]:
    """The arm, or set, that each artifact is of; "(shared)" where it is of several."""
    arms: dict[str, str] = {}

    def of(key: str, arm: str) -> None:
        arms[key] = arm if arms.get(key, arm) == arm else "(shared)"

    for cell in graph.cells.values():
        for key, arm in arms_of(cell).items():
            of(key, arm)
    for (arm, *_), tickets in graph.chains.items():
        for key in tickets.values():
            of(key, arm)
    for unit in graph.units:
        for key in (*unit.copies, *unit.measured.values()):
            of(key, unit.arm)
    for between in graph.betweens:
        of(between.key, between.unit.arm)
    sets = {drawn(name, draw): name for name in graph.pipeline.distill for draw in graph.draws}
    for name, key in graph.sets.items() if not graph.cells else ():
        of(key, sets[name])
    for measure in graph.set_measures:
        of(measure.key, sets[measure.set])
    return {key: arms.get(key, "(shared)") for key in graph.nodes}


def _lines(graph: Graph, missing: Collection[str], prices: Mapping[str, Price]) -> list[Line]:
    arms, groups = arms_of(graph), dict[tuple[str, str], list[str]]()
    for key, node in graph.nodes.items():
        groups.setdefault((node.stage, arms[key]), []).append(key)
    lines = []
    for (stage, arm), keys in sorted(groups.items(), key=lambda item: STAGES.index(item[0][0])):
        each = sum(prices[key].seconds for key in keys) / len(keys)
        left = sum(prices[key].seconds for key in keys if key in missing)
        lines.append(Line(stage, arm, len(keys), sum(key not in missing for key in keys), each, left))
    return lines
