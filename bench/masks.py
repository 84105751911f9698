"""Does the order of small sets by accuracy predict the order of the masks that are found on them?

    python bench/masks.py NAME [--draws 10000]     NAME: a record in docs/results of a study with `distill_seeds`

For every arm that prunes with a set: the test accuracy of networks trained on the set alone, and of its tickets, level by
level; Spearman's rank correlation over the arms, with a 95% interval by resampling initialisations (each with the set that it
was pruned with), and the p-value of no order, by permuting the arms. Writes docs/results/orders/NAME.json, which results.py
puts on the study's page, and prints a table.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata

from distill_prune.analyze.sets import by_arm_and_level, known

FOLDER = Path(__file__).resolve().parent.parent / "docs" / "results"
NOTE = (
    "Sets and masks are ordered by their means over initialisations. Intervals resample initialisations, each with its set; "
    "resampled means are noisier than the means, which draws the intervals towards zero. p permutes the sets."
)
Array = npt.NDArray[np.float64]
Record = Mapping[str, Any]
"""A study, as results.py wrote it."""


class Order(TypedDict):
    """The rank correlation of arms with its 95% interval and p-value, and how many arms and units it is over."""

    rho: float
    low: float
    high: float
    p: float
    arms: int
    units: int


class OrderRow(Order):
    level: int
    metric: str


class Orders(TypedDict):
    """By level and metric of tickets; `sets` is the accuracy of each arm's set."""

    pipeline: str
    sets: dict[str, float]
    orders: list[OrderRow]


def of_sets(record: Record) -> dict[str, float]:
    """Test accuracy of each set, in each draw, with the network that sets are made for: the first that evaluated it."""
    scores: dict[str, float] = {}
    for evaluation in record["evaluations"]:
        scores.setdefault(evaluation["set"], evaluation["accuracy"]["mean"])
    return scores


def spearman(x: Array, y: Array) -> float:
    """The rank correlation of two vectors, ties at their mean rank."""
    a, b = rankdata(x), rankdata(y)
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def order(sets: Array, masks: Array, draws: int) -> Order:
    """The rank correlation of means over units, arms (rows) by units (columns), with its interval and p-value."""
    rng, units = np.random.default_rng(0), sets.shape[1]
    rho = spearman(sets.mean(1), masks.mean(1))
    resampled = [
        spearman(sets[:, chosen].mean(1), masks[:, chosen].mean(1)) for chosen in rng.integers(units, size=(draws, units))
    ]
    permuted = [spearman(sets.mean(1), rng.permutation(masks.mean(1))) for _ in range(draws)]
    low, high = np.quantile(resampled, (0.025, 0.975))
    p = (1 + sum(abs(r) >= abs(rho) - 1e-12 for r in permuted)) / (1 + draws)
    return {"rho": rho, "low": float(low), "high": float(high), "p": p, "arms": len(sets), "units": units}


def orders(record: Record, draws: int) -> Orders:
    """By level and metric of tickets, the order of arms beside that of their sets."""
    scores = of_sets(record)
    arms = [a for a in record["summary"]["arms"] if a["images"] != "real" and "control" not in a]
    arms = [a for a in arms if a.get("criterion") == "magnitude"]
    units = by_arm_and_level(record["units"])
    levels = sorted({level for _, level in units} - {0})
    rows: list[OrderRow] = []
    for level in levels:
        for metric in ("accuracy", "barrier_test", "trace_per_weight"):
            places = [known(units[a["name"], level], metric) for a in arms]
            shared = sorted(set.intersection(*(set(p) for p in places)))
            if shared:
                sets = np.array([[scores[f"{a['images']}/{draw}"] for _, draw in shared] for a in arms])
                masks = np.array([[p[place] for place in shared] for p in places])
                rows.append({"level": level, "metric": metric, **order(sets, masks, draws)})
    accuracy = {a["name"]: float(np.mean([s for n, s in scores.items() if n.split("/")[0] == a["images"]])) for a in arms}
    return {"pipeline": record["pipeline"], "sets": accuracy, "orders": rows}


def lines(result: Orders) -> list[str]:
    """The table, as Markdown."""
    head = "| level | tickets by | rank correlation with the sets' accuracy [95% interval] | p | sets | units |"
    rows = (
        f"| {r['level']} | {r['metric']} | {r['rho']:+.2f} [{r['low']:+.2f}, {r['high']:+.2f}] | {r['p']:.2g} | {r['arms']} "
        f"| {r['units']} |"
        for r in result["orders"]
    )
    return [head, "|---|---|---|---|---|---|", *rows, "", NOTE]


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("--draws", type=int, default=10_000)
    options = parser.parse_args(words)
    record = json.loads((FOLDER / f"{options.name}.json").read_text(encoding="utf-8"))
    result, target = orders(record, options.draws), FOLDER / "orders" / f"{options.name}.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print("\n".join([*lines(result), "", str(target)]))


if __name__ == "__main__":
    main()
