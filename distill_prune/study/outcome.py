"""The answer as a table: a verdict of one line, the arms at the level compared, their differences to the control, what next.

The same data are printed by `run`, stand in `run --json`, and head the page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict, cast

from distill_prune.analyze.answer import NO_ARM, Answer, Compared, Comparison, Difference, direction
from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.metric import ACCURACY, BARRIER, Metric
from distill_prune.analyze.paired import CLAIMS_FROM
from distill_prune.analyze.power import could_show
from distill_prune.analyze.records import CostRow, Row, Summary, estimate_of
from distill_prune.analyze.sentences import of_sets, sentences
from distill_prune.analyze.verdict import MATCHING, Verdict

Outcome = Literal["shown", "opposite shown", "higher", "lower", "not shown", "too few seeds"]
"""What a difference shows: of the papers' claims, whether they are shown; of other metrics, the direction of a claim."""

SHOWN = (ACCURACY, BARRIER, "trace_per_weight")
"""The metrics of the table, as far as the study measures them."""


class ArmLine(TypedDict):
    """An arm at the level compared: means with their deviations over `n` initialisations; the images that were seen to find
    its masks, and with distillation and experts (null: not known)."""

    arm: str
    label: str
    n: int
    sparsity: float
    values: dict[str, Estimate | None]
    images_search: float | None
    images_in_all: float | None


class DifferenceLine(TypedDict):
    """An arm minus the control, within initialisations. Where nothing is shown, `could_show` is the smallest difference that so
    many initialisations would have shown in four studies of five."""

    arm: str
    versus: str
    metric: str
    difference: Estimate
    p: float
    outcome: Outcome
    could_show: float | None


class SetLine(TypedDict):
    """Test accuracy of fresh networks that are trained on a set alone."""

    set: str
    network: str
    accuracy: Estimate


class Next(TypedDict):
    """What would allow a claim: more seeds, the artifacts that they take, and seconds on so many workers."""

    option: str
    artifacts: int
    seconds: float
    workers: int


class Document(TypedDict):
    """The answer of a study. `sentences` say the same in words, with all that the table has no place for."""

    verdict: str
    sparsity: float | None
    level: int | None
    k: str
    arms: list[ArmLine]
    differences: list[DifferenceLine]
    sets: list[SetLine]
    next: Next | None
    sentences: list[str]


def outcome(
    answer: Answer,
    summary: Summary | None,
    metrics: Mapping[str, Metric],
    further: Next | None = None,
    claim_p: float = 0.05,
) -> Document:
    """The answer as plain data; `claim_p` is the largest p of a claim."""
    c = answer.compared if isinstance(answer.compared, Compared) else None
    return {
        "verdict": verdict(answer),
        "sparsity": c.sparsity if c else None,
        "level": c.level if c else None,
        "k": c.k if c else "",
        "arms": _arms(c, summary, metrics) if c and summary is not None else [],
        "differences": [line for comparison in c.comparisons for line in _lines(c, comparison, claim_p)] if c else [],
        "sets": [{"set": s.set, "network": s.network, "accuracy": s.accuracy} for s in answer.sets],
        "next": further,
        "sentences": list(sentences(answer)),
    }


def verdict(answer: Answer) -> str:
    """One line: what is shown of each learned arm, or why nothing can be; without arms on learned images, whether the control
    is matching, and what is shown of the others."""
    c = answer.compared
    if isinstance(c, str):
        return c or (of_sets(answer.sets) if answer.sets else NO_ARM)
    counts = [s.n for s in c.standings]
    if c.few:
        n, plural = min(counts), "s" * (min(counts) != 1)
        of_sets_too = f" or set{plural}" if n < max(counts) else ""  # an arm on one set has n = 1, whatever the others have
        return f"Inconclusive: {n} initialisation{plural}{of_sets_too}, and a difference can be claimed from {CLAIMS_FROM} on."
    if not c.comparisons:
        return next(iter(sentences(Answer(c))), "")
    parts = [_against(c, comparison) for comparison in c.comparisons]
    if c.all_real and c.control and (matching := c.control.verdicts[MATCHING]).decided:  # such studies ask that first
        parts.insert(0, f"{c.control.label} is {'' if matching is Verdict.YES else 'not '}matching")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]} (n = {min(counts)})."


def _against(c: Compared, comparison: Comparison) -> str:
    words: list[str] = []
    for question in c.questions:
        differences = comparison.on(question)
        if not differences:
            words += [f"{question.name} not measured"] if not c.all_real else []
        elif (sign := direction(differences)) == 0:
            words.append(f"{question.claimed if comparison.learned and question.claimed else question.either}: not shown")
        else:
            words.append(question.lower if sign < 0 else question.higher)
    return f"{comparison.label} against {comparison.control}: {', '.join(words) or 'nothing measured'}"


def of_difference(difference: Difference, learned: bool) -> Outcome:
    """What a difference shows."""
    if difference.n < CLAIMS_FROM:
        return "too few seeds"
    sign, question = difference.claimed, difference.metric.question
    if sign == 0:
        return "not shown"
    if learned and question is not None and question.claimed:
        return "shown" if (question.lower if sign < 0 else question.higher) == question.claimed else "opposite shown"
    return "higher" if sign > 0 else "lower"


def _lines(c: Compared, comparison: Comparison, claim_p: float) -> list[DifferenceLine]:
    outcomes = [of_difference(d, c.learned and comparison.learned) for d in comparison.differences]
    return [
        {
            "arm": comparison.label,
            "versus": comparison.control,
            "metric": d.metric.name,
            "difference": d.row["difference"],
            "p": d.row["p"],
            "outcome": outcome,
            "could_show": could_show(d.row["difference"], claim_p) if outcome == "not shown" else None,
        }
        for d, outcome in zip(comparison.differences, outcomes, strict=True)
    ]


def _arms(c: Compared, summary: Summary, metrics: Mapping[str, Metric]) -> list[ArmLine]:
    """The arms of the control's task at the level: those that the answer names first."""
    costs = {row["arm"]: row for row in cast(Sequence[CostRow], summary["costs"])}
    labels = {str(a["name"]): str(a.get("label") or a["name"]) for a in summary["arms"] if "base" not in a}
    first = [s.label for s in c.standings]
    task = {labels[a["name"]]: a.get("task") for a in summary["arms"] if a["name"] in labels}
    rows = [r for r in summary["rows"] if r["level"] == c.level and task.get(labels.get(r["arm"], "")) == task.get(first[0])]
    rows = [r for r in rows if r["arm"] in labels]
    rows.sort(key=lambda r: first.index(labels[r["arm"]]) if labels[r["arm"]] in first else len(first))
    return [_arm(row, labels[row["arm"]], costs.get(row["arm"]), metrics) for row in rows if estimate_of(row, ACCURACY)]


def _arm(row: Row, label: str, cost: CostRow | None, metrics: Mapping[str, Metric]) -> ArmLine:
    search, whole = (cost["search"], cost["with_experts"]) if cost else (None, None)
    return {
        "arm": row["arm"],
        "label": label,
        "n": row["n"],
        "sparsity": row["sparsity"],
        "values": {name: estimate_of(row, name) for name in SHOWN if name in metrics or name in (ACCURACY, BARRIER)},
        "images_search": search["images"] if search else None,
        "images_in_all": whole["images"] if whole else None,
    }
