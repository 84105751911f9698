"""Statistics over initialisations: what a study's measurements say, with intervals, verdicts and paired tests.

The unit is one initialisation (seed), its copies averaged before. Verdicts on an arm at a level:

    matching: mean accuracy >= mean - sd (sample) of the dense networks, minus a margin where asked; at least 3 units
    stable:   mean test barrier < 0.02

Paired differences are taken at equal seed and level against the arm `versus`.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis (Frankle et al., 2020): stable below 2 points
    | The Lottery Ticket Hypothesis for Pre-trained BERT Networks (Chen et al., 2020): matching within one deviation
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any, Literal

from pydantic import Field

from distill_prune.analyze.answer import answer
from distill_prune.analyze.estimate import Estimate, estimate, sign_flip_p, smallest_p
from distill_prune.artifacts import Measurements
from distill_prune.settings import Entry as Base

TAKES: Literal["study"] = "study"

Record = Mapping[str, Any]

METRICS = (
    "accuracy",
    "train_accuracy",
    "barrier_test",
    "barrier_train",
    "barrier_loss",
    "excess_test",
    "trace",
    "trace_se",
    "trace_per_weight",
    "trace_invariant",
    "weight_norm",
    "train_loss",
)
PAIRED = ("accuracy", "barrier_test", "trace_per_weight")
STABLE_BELOW = 0.02
DECIDABLE_FROM = 3
CLAIMS_FROM = 6


class Settings(Base):
    name: Literal["summary"] = "summary"
    versus: str = Field("real", description="the arm that the others are compared with")
    margin: float = Field(0.0, ge=0, lt=1, description="accuracy (a fraction) that a matching ticket may lack besides")


def measure(
    settings: Settings, units: Sequence[Record], arms: Sequence[Record], pairs: Sequence[Record], costs: Record
) -> Measurements:
    """The summary of a study, from plain records.

    `units`: {arm, seed, level, sparsity, and any of `METRICS`}, one an arm, seed and level. `arms`: {name, images,
    label} and more, in the order to show. `pairs`: {arm, versus, seed, level, iou, chance, z}. `costs`: {sets:
    {name of images: {distill, experts}}, search: [{arm, seed, level}]}, each with {images, steps, flops}; None where
    it is not known. Shares are fractions.

    Numbers: `arms` as given; `dense` {metric: estimate or None}; `rows`, one an arm and level; `paired`; `costs` in
    three totals (None where a part is not known); `answer`; `notes`. Units of level 0 are shared by arms without any.
    """
    dense = _by_seed(u for u in units if u["level"] == 0)
    rows = [row for arm in arms for row in _rows(arm["name"], units, dense, pairs, settings)]
    paired = _paired(units, arms, settings.versus)
    summed = [_costs(arm, costs) for arm in arms]
    return Measurements(
        "summary",
        {
            "arms": [dict(a) for a in arms],
            "dense": _metrics(list(dense.values())),
            "rows": rows,
            "paired": paired,
            "costs": summed,
            "answer": answer(arms, rows, settings.versus, CLAIMS_FROM),
            "notes": _notes(units, arms, paired, summed),
        },
    )


def _by_seed(units: Any) -> dict[int, Record]:
    """The first unit of each seed."""
    first: dict[int, Record] = {}
    for unit in units:
        first.setdefault(unit["seed"], unit)
    return first


def _metrics(units: Sequence[Record]) -> dict[str, Estimate | None]:
    return {name: _over(units, name) for name in METRICS}


def _over(records: Sequence[Record], key: str) -> Estimate | None:
    """The estimate over the records that have a value; None where none has."""
    values = [float(r[key]) for r in records if r.get(key) is not None]
    return estimate(values) if values else None


def _rows(
    arm: str,
    units: Sequence[Record],
    dense: Mapping[int, Record],
    pairs: Sequence[Record],
    settings: Settings,
) -> list[dict[str, Any]]:
    """One row a level of the arm, the dense level first."""
    levels: dict[int, dict[int, Record]] = {0: _by_seed(u for u in units if u["arm"] == arm and u["level"] == 0) or dict(dense)}
    for level in sorted({u["level"] for u in units if u["arm"] == arm} - {0}):
        levels[level] = _by_seed(u for u in units if u["arm"] == arm and u["level"] == level)
    baseline = _over(list(levels[0].values()), "accuracy")
    rows = []
    for level, held in levels.items():
        if not held:
            continue
        metrics = _metrics(list(held.values()))
        here = [p for p in pairs if p["arm"] == arm and p["level"] == level]
        against = [p for p in here if p["versus"] == settings.versus]
        rows.append(
            {
                "arm": arm,
                "level": level,
                "sparsity": estimate([u["sparsity"] for u in held.values()])["mean"],
                "n": len(held),
                **metrics,
                "matching": _matching(metrics["accuracy"], baseline, settings.margin),
                "stable": _stable(metrics["barrier_test"]),
                **{k: _over(against, k) for k in ("iou", "chance", "z")},
            }
        )
    return rows


def _matching(accuracy: Estimate | None, dense: Estimate | None, margin: float) -> str:
    if accuracy is None or dense is None or min(accuracy["n"] or 0, dense["n"] or 0) < DECIDABLE_FROM:
        return "not decidable"
    return "yes" if (accuracy["mean"] or 0) >= (dense["mean"] or 0) - (dense["sd"] or 0) - margin else "no"


def _stable(barrier: Estimate | None) -> str:
    if barrier is None or barrier["mean"] is None:
        return "not measured"
    return "yes" if barrier["mean"] < STABLE_BELOW else "no"


def _paired(units: Sequence[Record], arms: Sequence[Record], control: str) -> list[dict[str, Any]]:
    """Differences arm minus control at equal seed and level, above level 0, which all arms share."""
    labels = {a["name"]: a.get("label") or a["name"] for a in arms}
    if control not in labels:
        return []
    held: dict[tuple[str, int], dict[int, Record]] = {}
    for u in units:
        held.setdefault((u["arm"], u["level"]), {}).setdefault(u["seed"], u)
    results = []
    levels = sorted({level for _, level in held} - {0})
    for arm, level in product((a for a in labels if a != control), levels):
        ours, theirs = held.get((arm, level), {}), held.get((control, level), {})
        for metric in PAIRED:
            both = [(ours[s].get(metric), theirs[s].get(metric)) for s in sorted(ours.keys() & theirs.keys())]
            differences = [a - b for a, b in both if a is not None and b is not None]
            if not differences:
                continue
            difference, n = estimate(differences), len(differences)
            results.append(
                {
                    "arm": arm,
                    "versus": control,
                    "level": level,
                    "metric": metric,
                    "difference": difference,
                    "p": sign_flip_p(differences),
                    "p_smallest": smallest_p(n),
                    "claim": _claim(labels[arm], labels[control], metric, level, difference),
                }
            )
    return results


def _claim(arm: str, control: str, metric: str, level: int, difference: Estimate) -> str | None:
    """A sentence, from 6 units on and where the interval excludes zero."""
    low, high, n = difference["low"], difference["high"], difference["n"]
    if low is None or high is None or n is None or n < CLAIMS_FROM or low <= 0 <= high:
        return None
    what = {"accuracy": "accuracy", "barrier_test": "test barrier", "trace_per_weight": "trace per weight"}[metric]
    size, unit = abs(difference["mean"] or 0), ""
    if metric != "trace_per_weight":
        size, unit = 100 * size, " points"
    return (
        f"{what} of {arm} is {'higher' if low > 0 else 'lower'} than of {control} by {size:.3g}{unit} "
        f"at level {level} (n = {n})"
    )


def _costs(arm: Record, costs: Record) -> dict[str, Any]:
    """Mask search of the whole chain, mean over seeds; then with distillation; then with experts too."""
    kinds = ("images", "steps", "flops")
    chains: dict[int, dict[str, int]] = {}
    for spent in costs.get("search") or ():
        if spent["arm"] == arm["name"]:
            chain = chains.setdefault(spent["seed"], dict.fromkeys(kinds, 0))
            for kind in kinds:
                chain[kind] += spent[kind]
    search = {k: sum(c[k] for c in chains.values()) / len(chains) for k in kinds} if chains else None

    made = (costs.get("sets") or {}).get(arm["images"])

    def plus(total: dict[str, float] | None, what: str) -> dict[str, float] | None:
        if total is None or arm["images"] == "real":
            return total
        part = None if made is None else made.get(what)
        return None if part is None else {k: total[k] + part[k] for k in kinds}

    distilled = plus(search, "distill")
    return {
        "arm": arm["name"],
        "n": len(chains),
        "search": search,
        "with_distillation": distilled,
        "with_experts": plus(distilled, "experts"),
    }


def _unequal(arms: Sequence[Record], costs: Sequence[Record]) -> list[str]:
    """Arms on real data with the recipe of small sets that did not see as many images as a learned arm."""
    search = {c["arm"]: c["search"] for c in costs}
    short = [a["name"] for a in arms if a["images"] == "real" and a.get("recipe") == "prune" and a.get("criterion") != "random"]
    learned = [a["name"] for a in arms if a.get("learned")]
    return [
        f"Arm {s} is not at equal compute with {n}: {search[s]['images']:,.0f} images seen against {search[n]['images']:,.0f}."
        for s in short
        for n in learned
        if search[s] and search[n] and search[s]["images"] != search[n]["images"]
    ]


def _notes(units: Sequence[Record], arms: Sequence[Record], paired: Sequence[Record], costs: Sequence[Record]) -> list[str]:
    n = max((int(p["difference"]["n"]) for p in paired), default=len({u["seed"] for u in units}))
    notes = [
        f"The unit is one initialisation. With n = {n} paired differences the smallest attainable p-value is "
        f"{smallest_p(n):.3g}; no claim is made below {CLAIMS_FROM} initialisations."
    ]
    if paired:
        notes.append(f"{len(paired)} paired differences were looked at; nothing is corrected for their number.")
    if any(a["images"] != "real" for a in arms):
        notes.append("Intervals are conditional on the synthetic sets at hand: they do not cover another run of distillation.")
    notes += [
        f"Arm {a['name']} prunes with a set made from other data than it is retrained and tested on."
        for a in arms
        if a.get("other_data")
    ]
    notes += _unequal(arms, costs)
    if any(c["search"] is not None and c["with_experts"] is None for c in costs):
        notes.append("What the synthetic set cost to make is not known here, so totals with distillation are left out.")
    dense: dict[int, set[Any]] = {}
    for u in units:
        if u["level"] == 0:
            dense.setdefault(u["seed"], set()).add(u.get("accuracy"))
    if any(len(values) > 1 for values in dense.values()):
        notes.append("Dense networks differ between arms; each arm is compared with its own.")
    return notes
