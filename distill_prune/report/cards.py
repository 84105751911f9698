"""The key figures at the head of the page: for each question a line an arm."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.metric import ACCURACY
from distill_prune.analyze.records import Row, estimate_of, verdict_on
from distill_prune.analyze.verdict import MATCHING, STABLE, Property, Verdict
from distill_prune.report import formats
from distill_prune.report.style import CROWD, Arm, rows

if TYPE_CHECKING:
    from distill_prune.study.study import Study

UNMEASURED = Verdict.NOT_MEASURED.value
SPARSEST = (
    (
        MATCHING,
        "Sparsest match",
        "% sparsity: the sparsest level whose mean accuracy is within one standard deviation of dense",
    ),
    (STABLE, "Sparsest stable", "% sparsity: the sparsest level whose mean test barrier is below 2 points"),
)


@dataclass(frozen=True)
class Line:
    """A label with its colour, a value, and its interval or a remark."""

    label: str
    color: str | None
    value: str
    range: str = ""


@dataclass(frozen=True)
class Card:
    title: str
    note: str
    lines: list[Line]


def cards(study: Study, listed: list[Arm]) -> list[Card]:
    """The key figures that were measured, a line an arm. Of many arms only the sources have a line; the controls have a
    section of their own.
    """
    listed = [a for a in listed if len(listed) <= CROWD or a.role != "control"]
    by_arm = {a: sorted((r for r in rows(study) if r["arm"] == a.name), key=lambda r: r["sparsity"]) for a in listed}
    by_arm = {a: levels for a, levels in by_arm.items() if levels}
    deck = []
    last = {a: levels[-1] for a, levels in by_arm.items()}
    if any(estimate_of(r, ACCURACY) for r in last.values()):
        lines = [_accuracy(a.label, a.color, estimate_of(r, ACCURACY)) for a, r in last.items()]
        if dense := ((study.summary or {}).get("dense") or {}).get(ACCURACY):
            lines.insert(0, _accuracy("Dense", None, dense))
        ends = sorted({formats.sparsity(r["sparsity"]) for r in last.values()})
        where = f"at {ends[0]} % sparsity" if len(ends) == 1 else ", each arm at its sparsest level"
        note = f"% test accuracy{'' if where.startswith(',') else ' '}{where}, with 95 % interval"
        deck.append(Card("Accuracy at the end", note, lines))
    for prop, title, note in SPARSEST:
        if any(_measured(r, prop) for levels in by_arm.values() for r in levels):
            lines = [Line(a.label, a.color, *_sparsest(levels, prop)) for a, levels in by_arm.items()]
            deck.append(Card(title, note, lines))
    totals = {c["arm"]: c["search"] or {} for c in (study.summary or {}).get("costs") or []}
    if totals:
        lines = [Line(a.label, a.color, formats.count(totals[a.name].get("images"))) for a in listed if a.name in totals]
        deck.append(Card("Mask search", "training examples seen, without distillation and experts", lines))
    return deck


def _accuracy(label: str, color: str | None, accuracy: Estimate | None) -> Line:
    text = formats.estimate(accuracy, "percent")
    return Line(label, color, text["mean"], text["range"])


def _measured(row: Row, prop: Property) -> bool:
    return verdict_on(row, prop) not in (None, Verdict.NOT_MEASURED)


def _sparsest(levels: list[Row], prop: Property) -> tuple[str, str]:
    """The highest sparsity with the property, and a remark where that is not the whole story."""
    verdicts = [(r["sparsity"], verdict_on(r, prop)) for r in levels if _measured(r, prop)]
    having = [s for s, v in verdicts if v is Verdict.YES]
    if not verdicts:
        return formats.NONE, UNMEASURED
    if not having:
        undecided = all(v is Verdict.NOT_DECIDABLE for _, v in verdicts)
        return formats.NONE, Verdict.NOT_DECIDABLE.value if undecided else "at no level"
    if having[-1] == 0:
        return "0", "the dense network only"
    gaps = any(v is Verdict.NO and s < having[-1] for s, v in verdicts)
    return formats.sparsity(having[-1]), "not at every level before" if gaps else ""
