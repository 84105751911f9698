"""The study's answer in plain sentences: how far synthetic masks carry, beside masks found on real data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]


def answer(arms: Sequence[Record], rows: Sequence[Record], control: str, claims_from: int) -> str:
    """Accuracy and barrier of each synthetic arm and the control at the highest sparsity that they share, then how far
    each is matching and stable. `rows` are the summary's; accuracies are fractions.
    """
    labels = {a["name"]: a.get("label") or a["name"] for a in arms}
    shown = [a["name"] for a in arms if a.get("learned", a["images"] == "synthetic")]
    if not shown:
        return "This study has no arm on synthetic images, so its question has no answer here."
    shown += [control] if control in labels else []
    levels = [{r["level"] for r in rows if r["arm"] == a and r["level"] > 0 and r["accuracy"]} for a in shown]
    shared = set.intersection(*levels)
    if not shared:
        return "No pruned level has been retrained for every arm compared, so the question has no answer yet."
    last = {r["arm"]: r for r in rows if r["level"] == max(shared) and r["arm"] in shown}
    first = (
        f"At {_percent(last[shown[0]]['sparsity'])} sparsity (level {max(shared)}), "
        + "; ".join(_scored(labels[a], last[a]) for a in shown)
        + "."
    )
    reach = "; ".join(_reached(labels[a], [r for r in rows if r["arm"] == a]) for a in shown)
    few = min(last[a]["accuracy"]["n"] for a in shown) < claims_from
    limit = f"; below {claims_from} initialisations no difference is claimed" if few else ""
    return f"{first} {reach[0].upper()}{reach[1:]}{limit}."


def of_sets(evaluations: Sequence[Record]) -> str:
    """The test accuracy of fresh networks trained on each set alone: `evaluations` of {set, network, accuracy}."""
    told = []
    for e in evaluations:
        a = e["accuracy"]
        spread = "" if a["sd"] is None else f" ± {100 * a['sd']:.1f}"
        told.append(f"set {e['set']} {100 * a['mean']:.1f}{spread} % ({e['network']}, n = {a['n']})")
    return f"Fresh networks trained on a set alone reach, in test accuracy (mean ± sd): {'; '.join(told)}." if told else ""


def _scored(label: str, row: Record) -> str:
    accuracy, barrier = row["accuracy"], row["barrier_test"]
    spread = "" if accuracy["sd"] is None else f" ± {100 * accuracy['sd']:.1f}"
    text = f"{label} reaches {100 * accuracy['mean']:.1f}{spread} % test accuracy (mean ± sd, n = {accuracy['n']})"
    return text if barrier is None else f"{text} with a test barrier of {100 * barrier['mean']:.1f} points"


def _reached(label: str, rows: Sequence[Record]) -> str:
    """How far the arm is matching and stable, pruned levels only."""
    pruned = [r for r in rows if r["level"] > 0]
    return f"{label} is {_last('matching', pruned)} and {_last('stable', pruned)}"


def _last(verdict: str, rows: Sequence[Record]) -> str:
    held = [r["sparsity"] for r in rows if r[verdict] == "yes"]
    if held:
        return f"last {verdict} at {_percent(max(held))} sparsity"
    if any(r[verdict] == "no" for r in rows):
        return f"{verdict} at no pruned level"
    return "not decidably matching below 3 initialisations" if verdict == "matching" else "of unmeasured stability"


def _percent(sparsity: float) -> str:
    return f"{100 * sparsity:.1f} %"
