"""The study's answer as data: how masks from synthetic images compare with masks from real data, made of a summary's rows.

It compares arms at the highest sparsity that they share. What it puts into words is decided in sentences.py; the papers' two
claims are answered by the differences within initialisations (paired.py):

    more stable   shown where the test barrier is lower, the opposite where it is higher, by a claim of paired.py
    flatter       shown where every trace measured, per weight and rescaling-invariant, is lower, the opposite where every
                  one is higher; not shown where they disagree, or where one of them alone has a claim

Nothing is claimed below 6 initialisations. The answer names learned arms and the control. In a study without learned arms it
names the control and the first others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.metric import ACCURACY, BARRIER, Metric, Question
from distill_prune.analyze.paired import CLAIMS_FROM, PAIRED
from distill_prune.analyze.records import (
    ArmRecord,
    OnsetRow,
    PairedRow,
    Row,
    ScanRow,
    estimate_of,
    labels_of,
    onset_of,
    verdict_on,
)
from distill_prune.analyze.verdict import MATCHING, STABLE, Property, Verdict

OTHERS = 3
NO_ARM = "This study has no arm on synthetic images, so its question has no answer here."
NO_LEVEL = "No pruned level has been retrained for every arm compared, so the question has no answer yet."


@dataclass(frozen=True)
class Reached:
    """How far an arm has a property: its sparsest pruned level that has it, None where none has.

    `n` is the number of initialisations on which that was decided; 0 where no level was.
    """

    prop: Property
    sparsity: float | None
    n: int


@dataclass(frozen=True)
class Onset:
    """From which rewinding step `k` on an arm has a property at a level; None where it has not at the last step.

    `n` is as in `Reached`, 0 where the last step is not decided. `before` says that it has the property at an earlier step.
    """

    prop: Property
    k: str | None
    n: int
    before: bool


@dataclass(frozen=True)
class Standing:
    """An arm at the level compared: verdicts and the means that they are of; how far it gets; its onsets in a scan."""

    label: str
    verdicts: Mapping[Property, Verdict]
    accuracy: Estimate
    barrier: Estimate | None
    reached: tuple[Reached, Reached]
    onsets: tuple[Onset, Onset] | None

    @property
    def n(self) -> int:
        return self.accuracy["n"]


@dataclass(frozen=True)
class Difference:
    """A metric's paired difference to the control, of one row of paired.py."""

    metric: Metric
    row: PairedRow

    @property
    def n(self) -> int:
        return self.row["difference"]["n"]

    @property
    def claimed(self) -> int:
        """-1 where a claim says that it is lower, 1 where one says that it is higher, else 0."""
        return (1 if self.row["difference"]["mean"] > 0 else -1) if self.row["claim"] else 0


@dataclass(frozen=True)
class Comparison:
    """An arm beside the control: the differences that some question is put to, in the order of the metrics."""

    label: str
    control: str
    learned: bool
    differences: tuple[Difference, ...]

    def on(self, question: Question) -> tuple[Difference, ...]:
        """The differences that bear on a question."""
        return tuple(d for d in self.differences if d.metric.question == question)


def direction(differences: Iterable[Difference]) -> int:
    """-1 where a claim says of every difference that it is lower, 1 where of every one that it is higher, else 0."""
    signs = {d.claimed for d in differences}
    return signs.pop() if len(signs) == 1 else 0


@dataclass(frozen=True)
class SetScore:
    """The test accuracy of fresh networks trained on a synthetic set alone."""

    set: str
    network: str
    accuracy: Estimate


@dataclass(frozen=True)
class Compared:
    """Arms at one level. `control` is None where it is not among them; `comparisons` are with it.

    `learned` says whether some of the arms are on learned images, and differences are read with the papers' claims in mind.
    `dense` are the onsets of stability of dense networks, by the label of their arm; `ks` the steps of the scan. `all_real`
    says that no arm, nor the control, is on learned images.
    """

    sparsity: float
    level: int
    k: str
    learned: bool
    standings: tuple[Standing, ...]
    control: Standing | None
    comparisons: tuple[Comparison, ...]
    questions: tuple[Question, ...]
    dense: tuple[tuple[str, Onset], ...]
    ks: tuple[str, ...]
    all_real: bool = False

    @property
    def few(self) -> bool:
        """Whether some arm has fewer initialisations than a claim needs."""
        return min(s.n for s in self.standings) < CLAIMS_FROM


@dataclass(frozen=True)
class Answer:
    """What a study says of its tickets (`compared`, or why there is nothing to say) and of its sets."""

    compared: Compared | str = ""
    sets: tuple[SetScore, ...] = ()


def compare(
    arms: Sequence[ArmRecord],
    rows: Sequence[Row],
    paired: Sequence[PairedRow],
    scanned: Sequence[ScanRow],
    onsets: Sequence[OnsetRow],
    control: str,
    metrics: Mapping[str, Metric] = PAIRED,
) -> Compared | str:
    """What the records of a summary say, or why they say nothing. `metrics` are those of `paired`."""
    task = next((a.get("task") for a in arms if a["name"] == control), None)
    first = [a for a in arms if "base" not in a and a.get("task") == task]
    labels = labels_of(first)
    learned = [a["name"] for a in first if a.get("learned", a["images"] == "synthetic")]
    if not learned and control not in labels:
        return NO_ARM
    shown = _shown(list(labels), learned, control)
    all_real = not learned
    if learned == [control]:  # a synthetic control: the others are compared with it, as elsewhere with the real arm
        learned = []
    levels = [{r["level"] for r in rows if r["arm"] == a and r["level"] > 0 and estimate_of(r, ACCURACY)} for a in shown]
    shared = set.intersection(*levels)
    if not shared:
        return NO_LEVEL
    level = max(shared)
    at_level = {r["arm"]: r for r in rows if r["level"] == level and r["arm"] in shown}
    at_onset = {o["arm"]: o for o in onsets if o["level"] == level}
    begun = {a: at_onset[a] for a in shown if a in at_onset}
    standings = {
        a: Standing(
            labels[a],
            {p: verdict_on(at_level[a], p) or Verdict.NOT_MEASURED for p in (MATCHING, STABLE)},
            accuracy,
            estimate_of(at_level[a], BARRIER),
            (_reached(MATCHING, a, rows), _reached(STABLE, a, rows)),
            (_onset(STABLE, begun[a], scanned), _onset(MATCHING, begun[a], scanned)) if a in begun else None,
        )
        for a in shown
        if (accuracy := estimate_of(at_level[a], ACCURACY))
    }
    asked = {m.name: m for m in metrics.values() if m.question}
    of_arm = {(p["arm"], p["metric"]): p for p in paired if (p["versus"], p["level"]) == (control, level)}
    return Compared(
        sparsity=at_level[shown[0]]["sparsity"],
        level=level,
        k=next((a["k"] for a in first if a["name"] == shown[0] and "k" in a), ""),
        learned=bool(learned),
        standings=tuple(standings.values()),
        control=standings.get(control),
        comparisons=tuple(
            Comparison(
                labels[a],
                labels[control],
                a in learned,
                tuple(Difference(m, of_arm[a, n]) for n, m in asked.items() if (a, n) in of_arm),
            )
            for a in (shown if control in shown else ())
            if a != control
        ),
        questions=tuple(dict.fromkeys(m.question for m in asked.values() if m.question)),
        dense=tuple((o["arm"], _onset(STABLE, o, scanned)) for o in onsets if o["level"] == 0) if begun else (),
        ks=tuple(next(iter(begun.values()))["ks"]) if begun else (),
        all_real=all_real,
    )


def _shown(names: Sequence[str], learned: Sequence[str], control: str) -> list[str]:
    """The arms that the answer names, in its order: learned ones before the control, or the control before the others."""
    others = [a for a in names if a != control]
    if learned == [control]:
        return [control, *others]
    if learned:
        return [*(a for a in learned if a != control), *([control] if control in names else [])]
    return [control, *others[:OTHERS]]


def _fewest(prop: Property, rows: Sequence[Row] | Sequence[ScanRow]) -> int:
    """The fewest initialisations of the rows on which the verdict was decided; 0 where it was on none."""
    decided = [estimate_of(r, prop.metric) for r in rows if (verdict := verdict_on(r, prop)) and verdict.decided]
    return min((e["n"] for e in decided if e), default=0)


def _reached(prop: Property, arm: str, rows: Sequence[Row]) -> Reached:
    pruned = [r for r in rows if r["arm"] == arm and r["level"] > 0]
    having = [r for r in pruned if verdict_on(r, prop) is Verdict.YES]
    if not having:
        return Reached(prop, None, _fewest(prop, pruned))
    sparsest = max(having, key=lambda r: r["sparsity"])
    return Reached(prop, sparsest["sparsity"], _fewest(prop, [sparsest]))


def _onset(prop: Property, onset: OnsetRow, scanned: Sequence[ScanRow]) -> Onset:
    rows = [r for r in scanned if (r["arm"], r["level"]) == (onset["arm"], onset["level"])]
    verdicts = [verdict_on(r, prop) for r in rows]
    n = _fewest(prop, rows) if verdicts[-1] and verdicts[-1].decided else 0
    return Onset(prop, onset_of(onset, prop), n, Verdict.YES in verdicts)
