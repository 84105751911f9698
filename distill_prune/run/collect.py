"""From measurements in the store to the plain records that the summary and the report are made of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

from distill_prune.analyze.declared import readings
from distill_prune.analyze.inputs import Study
from distill_prune.analyze.records import Costs, Pair, Search, Total, Unit
from distill_prune.artifacts import Cost
from distill_prune.plan.jobs import CompareJob
from distill_prune.run import measured
from distill_prune.store.store import Store

STAGE_OF = {"ticket": "prune", "set": "distill", "expert": "experts"}
"""Where a role's artifact lies; analyses lie in `compare`."""


def record_of(kind: str, numbers: Mapping[str, Any]) -> dict[str, float | None]:
    """What a unit's record takes from one artifact: a ticket's sparsity, or the metrics that an analysis declares."""
    return {"sparsity": numbers["sparsity"]} if kind == "ticket" else readings(kind, numbers)


@dataclass(frozen=True)
class Records:
    """What a summary is made of."""

    units: list[Unit]
    pairs: list[Pair]
    costs: Costs


class _Place(NamedTuple):
    """Where a unit stands; `draw` is None where it depends on no set, or a study draws each set once."""

    arm: str
    seed: int
    level: int
    draw: int | None

    @classmethod
    def of(cls, role: Mapping[str, Any]) -> _Place:
        return cls(role["arm"], role["seed"], role["level"], role.get("draw"))

    def record(self) -> dict[str, str | float | None]:
        """The beginning of a unit's record."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def _unit_of(role: Mapping[str, Any], retrained: Collection[_Place]) -> _Place | None:
    """The place of the unit that a role's numbers belong to, None where none was retrained. A dense ticket that depends on no
    set belongs to the unit without a draw."""
    place = _Place.of(role)
    if not retrained or place in retrained:
        return place
    dense = place._replace(draw=None)
    return dense if place.level == 0 and dense in retrained else None


def _mean(costs: Sequence[Total | None]) -> Total | None:
    """The mean cost of the draws of a set; None where one is not known."""
    if len(costs) == 1:
        return costs[0]  # whole numbers, which a division would store as 100.0
    totals = [cost for cost in costs if cost is not None]
    if len(totals) < len(costs):
        return None
    return {kind: sum(total[kind] for total in totals) / len(totals) for kind in totals[0]}


def gather(roles: Mapping[str, Mapping[str, Any]], numbers: Mapping[str, Mapping[str, Any]]) -> Records:
    """The records out of the artifacts' numbers by role; roles without numbers are skipped."""
    units: dict[_Place, dict[str, str | float | None]] = {}
    pairs: list[Pair] = []
    search: list[Search] = []
    sets: dict[str, list[Total | None]] = {}
    by_experts: dict[str, bool | None] = {}
    experts: Total | None = None
    retrained = {_Place.of(r) for r in roles.values() if r["kind"] not in (*STAGE_OF, "overlap")}
    for name, role in roles.items():
        if name not in numbers:
            continue
        kind, content = role["kind"], numbers[name]
        place = {k: role[k] for k in ("arm", "seed", "draw", "level") if k in role}
        if kind == "ticket" and role.get("counted", True):
            search.append(cast(Search, {**place, **content["cost"]}))
        if kind == "overlap":
            overlap = {**place, "versus": role["versus"], "iou": content["iou"]}
            pairs.append(cast(Pair, {**overlap, "chance": content["chance"]["iou"], "z": content["z"]}))
        elif kind == "set":
            sets.setdefault(role["set"], []).append(content.get("cost"))
            by_experts.setdefault(role["set"], role["experts"])
        elif kind == "expert":
            experts = {k: (experts or {}).get(k, 0) + v for k, v in content["cost"].items()}
        elif (at := _unit_of(role, retrained)) is not None:
            units.setdefault(at, at.record()).update(record_of(kind, content))
    # A stored set was made with experts that this study does not know: their cost is unknown, not nothing.
    teaching: dict[bool | None, Total | None] = {True: experts, False: {**Cost().json()}, None: None}
    costs: Costs = {
        "search": search,
        "sets": {name: {"distill": _mean(of_draws), "experts": teaching[by_experts[name]]} for name, of_draws in sets.items()},
    }
    return Records(cast(list[Unit], list(units.values())), pairs, costs)


def collected(job: CompareJob, inputs: Mapping[str, str], store: Store) -> Study:
    """What the summary is made of, of a study whose measurements are all in the store."""
    roles = job.roles["inputs"]
    seen: dict[str, dict[str, Any]] = {}
    numbers = {}
    for name, key in inputs.items():
        if key not in seen:
            seen[key] = measured.numbers(store, STAGE_OF.get(roles[name]["kind"], "compare"), key)
        numbers[name] = seen[key]
    records = gather(roles, numbers)
    return Study(records.units, job.roles["arms"], records.pairs, records.costs)
