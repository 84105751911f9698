"""What finding the masks of an arm cost, in three totals: the search; with distillation; with the experts, too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal

from distill_prune.analyze.records import ArmRecord, CostRow, Costs, Total

KINDS: tuple[Literal["images", "steps", "flops"], ...] = ("images", "steps", "flops")


def totals(arm: ArmRecord, arms: Sequence[ArmRecord], costs: Costs) -> CostRow:
    """Mask search of the whole chain, mean over chains; then with distillation; then with experts, too. A chain that begins
    with another arm's levels has that arm's set to pay for as well. None where a part is not known."""
    chains: dict[tuple[int, int | None], dict[str, int]] = {}
    for spent in costs.get("search") or ():
        if spent["arm"] == arm["name"]:
            chain = chains.setdefault((spent["seed"], spent.get("draw")), dict.fromkeys(KINDS, 0))
            for kind in KINDS:
                chain[kind] += spent[kind]
    search: Total | None = {k: sum(c[k] for c in chains.values()) / len(chains) for k in KINDS} if chains else None

    sets = costs.get("sets") or {}
    used = [name for name in dict.fromkeys(_images(arm, arms)) if name != "real"]

    def plus(total: Total | None, what: str) -> Total | None:
        parts = [part for name in used if (part := (sets.get(name) or {}).get(what)) is not None]
        if total is None or len(parts) < len(used):
            return None
        return {k: total[k] + sum(part[k] for part in parts) for k in KINDS}

    distilled = plus(search, "distill")
    return {
        "arm": arm["name"],
        "n": len({seed for seed, _ in chains}),
        "search": search,
        "with_distillation": distilled,
        "with_experts": plus(distilled, "experts"),
    }


def _images(arm: ArmRecord, arms: Sequence[ArmRecord]) -> Iterator[str]:
    """What the arm's chain was pruned with, and what the chain that it begins with was."""
    yield arm["images"]
    if "begins" in arm:
        for parent in arms:
            if parent["name"] == arm["begins"]["arm"]:
                yield from _images(parent, arms)


def unequal(arms: Sequence[ArmRecord], costs: Sequence[CostRow]) -> list[str]:
    """Arms on real data with the recipe of small sets that did not see as many images as a learned arm; of a scan, at the
    first step."""
    search = {c["arm"]: c["search"] for c in costs}
    first = [a for a in arms if "base" not in a]
    real = [a for a in first if a["images"] == "real" and a.get("criterion") != "random"]
    short = [a["name"] for a in real if a.get("recipe") == "prune"]
    learned = [a["name"] for a in first if a.get("learned")]
    return [
        f"Arm {s} is not at equal compute with {n}: {a['images']:,.0f} images seen against {b['images']:,.0f}."
        for s in short
        for n in learned
        if (a := search[s]) and (b := search[n]) and a["images"] != b["images"]
    ]
