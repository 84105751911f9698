"""From measurements in the store to the plain records that the summary and the report are made of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_prune.analyze.inputs import Study
from distill_prune.artifacts import Cost
from distill_prune.plan.jobs import CompareJob
from distill_prune.store.store import Store

STAGE_OF = {"ticket": "prune", "set": "distill", "expert": "experts"}
"""Where a role's artifact lies; analyses lie in `compare`."""


def record_of(kind: str, numbers: Mapping[str, Any]) -> dict[str, Any]:
    """What a unit's record takes from one artifact: means over the copies of a ticket."""
    if kind == "ticket":
        return {"sparsity": numbers["sparsity"]}
    if kind == "accuracy":
        return {"accuracy": numbers["accuracy"]["test"]["mean"], "train_accuracy": numbers["accuracy"]["train"]["mean"]}
    if kind == "metrics":
        return {name: numbers[name]["mean"] for name in ("f1", "matthews", "spearman") if name in numbers}
    if kind == "connectivity":
        barrier, excess = numbers["barrier"], numbers["excess"]
        return {
            "barrier_test": barrier["test_error"]["mean"],
            "barrier_train": barrier["train_error"]["mean"],
            "barrier_loss": barrier["test_loss"]["mean"],
            "excess_test": excess["test_error"]["mean"],
        }
    if kind == "disagreement":
        return {"disagreement": numbers["test"]["mean"], "relative_distance": numbers["relative_distance"]["mean"]}
    if kind == "spectrum":
        return {"top_eigenvalue": numbers["top"]["mean"]}
    if kind == "diagonal":
        return {"diagonal_median": numbers["median"]["mean"], "diagonal_negative": numbers["negative"]["mean"]}
    if kind == "curvature":
        return {
            "trace": numbers["trace"]["mean"],
            "trace_se": numbers["trace"]["se"],
            "trace_per_weight": numbers["trace_per_weight"]["mean"],
            "trace_invariant": numbers["invariant"]["mean"],
            "weight_norm": numbers["weight_norm"]["mean"],
            "train_loss": numbers["train_loss"]["mean"],
        }
    return {}


def gather(roles: Mapping[str, Mapping[str, Any]], numbers: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The records `units`, `pairs` and `costs` out of the artifacts' numbers by role; roles without numbers are skipped."""
    units: dict[tuple[str, int, int], dict[str, Any]] = {}
    pairs, search, sets = [], [], {}
    experts: dict[str, int] | None = None
    measured = {(r["arm"], r["seed"], r["level"]) for r in roles.values() if r["kind"] not in (*STAGE_OF, "overlap")}
    for name, role in roles.items():
        if name not in numbers:
            continue
        kind, found = role["kind"], numbers[name]
        place = {k: role[k] for k in ("arm", "seed", "level") if k in role}
        if kind == "ticket" and role.get("counted", True):
            search.append({**place, **found["cost"]})
        if kind == "overlap":
            pairs.append(
                {**place, "versus": role["versus"], "iou": found["iou"], "chance": found["chance"]["iou"], "z": found["z"]}
            )
        elif kind == "set":
            sets[role["set"]] = {"distill": found["cost"], "by_experts": role["experts"]}
        elif kind == "expert":
            experts = {k: (experts or {}).get(k, 0) + v for k, v in found["cost"].items()}
        elif tuple(place.values()) in measured or not measured:
            units.setdefault((place["arm"], place["seed"], place["level"]), dict(place)).update(record_of(kind, found))
    # A stored set was made with experts that this study does not know: their cost is unknown, not nothing.
    known = {True: experts, False: Cost().json(), None: None}
    costs = {
        "search": search,
        "sets": {n: {"distill": s["distill"], "experts": known[s["by_experts"]]} for n, s in sets.items()},
    }
    return {"units": list(units.values()), "pairs": pairs, "costs": costs}


def collected(job: CompareJob, inputs: Mapping[str, str], store: Store) -> Study:
    """What the summary is made of, of a study whose measurements are all in the store."""
    roles = job.roles["inputs"]
    seen: dict[str, dict[str, Any]] = {}
    numbers = {}
    for name, key in inputs.items():
        if key not in seen:
            seen[key] = store.numbers(STAGE_OF.get(roles[name]["kind"], "compare"), key)
        numbers[name] = seen[key]
    records = gather(roles, numbers)
    return Study(records["units"], job.roles["arms"], records["pairs"], records["costs"])
