"""What finding the masks of an arm cost, in three totals: the search; with distillation; with the experts, too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

KINDS = ("images", "steps", "flops")


def totals(arm: Record, arms: Sequence[Record], costs: Record) -> dict[str, Any]:
    """Mask search of the whole chain, mean over seeds; then with distillation; then with experts, too. A chain that begins
    with another arm's levels has that arm's set to pay for as well. None where a part is not known."""
    chains: dict[int, dict[str, int]] = {}
    for spent in costs.get("search") or ():
        if spent["arm"] == arm["name"]:
            chain = chains.setdefault(spent["seed"], dict.fromkeys(KINDS, 0))
            for kind in KINDS:
                chain[kind] += spent[kind]
    search = {k: sum(c[k] for c in chains.values()) / len(chains) for k in KINDS} if chains else None

    sets = costs.get("sets") or {}
    used = [name for name in dict.fromkeys(_images(arm, arms)) if name != "real"]

    def plus(total: dict[str, float] | None, what: str) -> dict[str, float] | None:
        parts: list[Any] = [(sets.get(name) or {}).get(what) for name in used]
        if total is None or None in parts:
            return None
        return {k: total[k] + sum(part[k] for part in parts) for k in KINDS}

    distilled = plus(search, "distill")
    return {
        "arm": arm["name"],
        "n": len(chains),
        "search": search,
        "with_distillation": distilled,
        "with_experts": plus(distilled, "experts"),
    }


def _images(arm: Record, arms: Sequence[Record]) -> Iterator[str]:
    """What the arm's chain was pruned with, and what the chain that it begins with was."""
    yield arm["images"]
    if "begins" in arm:
        for parent in arms:
            if parent["name"] == arm["begins"]["arm"]:
                yield from _images(parent, arms)


def unequal(arms: Sequence[Record], costs: Sequence[Record]) -> list[str]:
    """Arms on real data with the recipe of small sets that did not see as many images as a learned arm; of a scan, at the
    first step."""
    search = {c["arm"]: c["search"] for c in costs}
    first = [a for a in arms if "base" not in a]
    real = [a for a in first if a["images"] == "real" and a.get("criterion") != "random"]
    short = [a["name"] for a in real if a.get("recipe") == "prune"]
    learned = [a["name"] for a in first if a.get("learned")]
    return [
        f"Arm {s} is not at equal compute with {n}: {search[s]['images']:,.0f} images seen against {search[n]['images']:,.0f}."
        for s in short
        for n in learned
        if search[s] and search[n] and search[s]["images"] != search[n]["images"]
    ]
