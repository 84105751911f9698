"""Statistics over initialisations: what a study's measurements say, with intervals, verdicts and paired tests.

The unit is one initialisation (seed), its copies averaged before; where a study draws its sets several times, the estimates of
sets.py cover these, too. Verdicts on an arm at a level:

    matching: mean accuracy >= mean - sd (sample) of the dense networks, minus a margin where asked; at least 3 units
    stable:   mean test barrier < 0.02

reach.py finds the sparsest level that has a verdict, scan.py the first rewinding step. Paired differences (paired.py) are
taken at equal seed and level against the arm `versus`, in a scan at equal rewinding step. In a study of several tasks dense
networks and differences are each task's own; transfer.py has what a task's tickets are worth on another.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis (Frankle et al., 2020): stable below 2 points
    | The Lottery Ticket Hypothesis for Pre-trained BERT Networks (Chen et al., 2020): matching within one deviation,
      https://arxiv.org/abs/2007.12223
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, cast

from pydantic import Field

from distill_prune.analyze.answer import Answer, compare
from distill_prune.analyze.costs import totals
from distill_prune.analyze.declared import in_rows, on_page, tested
from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.inputs import Study
from distill_prune.analyze.metric import ACCURACY, BARRIER, Metric
from distill_prune.analyze.notes import notes
from distill_prune.analyze.paired import control_of, differences
from distill_prune.analyze.reach import least_matching, matching, reach, stable
from distill_prune.analyze.records import ArmRecord, Pair, ReachRow, Row, Unit
from distill_prune.analyze.scan import onsets, scan
from distill_prune.analyze.sentences import sentences
from distill_prune.analyze.sets import Place, by_place, known, over
from distill_prune.analyze.transfer import transfer
from distill_prune.analyze.verdict import MATCHING, STABLE
from distill_prune.artifacts import Measurements
from distill_prune.settings import Entry as Base
from distill_prune.settings import Later

TAKES: Literal["study"] = "study"

Levels = dict[int, dict[Place, Unit]]
"""An arm's units by level and place."""

METRICS = tuple(m.name for m in in_rows())
"""What every row has of built-in analyses, None where it was not measured."""


class Settings(Base):
    name: Literal["summary"] = "summary"
    versus: str = Field("real", description="the arm that the others are compared with")
    margin: float = Field(0.0, ge=0, lt=1, description="accuracy (a fraction) that a matching ticket may lack besides")
    claim_p: float = Later(1.0, gt=0, le=1, description="largest exact p-value of a claim; 1: its interval alone decides")
    plugins: tuple[str, ...] = Later((), description="analyses of plugins whose metrics are summarised, too")


def measure(settings: Settings, study: Study) -> Measurements:
    """The summary of a study, from plain records. Shares are fractions.

    Numbers: `arms` as given; `dense` {metric: estimate or None}, of a scan at the step of `versus`; `rows`, one an arm and
    level; `reach`, one an arm; `paired`; `scan` and `onset` (empty without a scan); `transfer` where arms are; `costs` in three
    totals (None where a part is not known); `answer`; `notes`. Units of level 0 are shared by arms of one rewinding step and
    task without any.
    """
    units, arms = study.units, study.arms
    metrics = in_rows(settings.plugins)
    pairable = {m.name: m for m in tested(settings.plugins)}
    step = {a["name"]: (a.get("k"), a.get("task")) for a in arms}
    rows: list[Row] = []
    reaches: list[ReachRow] = []
    for arm, levels, least in held_to(units, arms, settings.margin):
        rows_of_arm = _rows(arm["name"], levels, least, study.pairs, control_of(arm, arms, settings.versus), metrics)
        rows += rows_of_arm
        of_matching, of_stable = reach(rows_of_arm, levels, least)
        reaches.append({"arm": arm["name"], "matching": of_matching, "stable": of_stable})
    paired = differences(units, arms, settings.versus, settings.claim_p, pairable)
    scanned = scan(arms, rows)
    onset = onsets(scanned)
    summed = [totals(arm, arms, study.costs) for arm in arms]
    transferred = transfer(arms, units)
    compared = compare(arms, rows, paired, scanned, onset, settings.versus, pairable)
    dense_of_control = _dense(units, arms)[step.get(settings.versus, next(iter(step.values()), (None, None)))]
    return Measurements(
        "summary",
        {
            "arms": [dict(a) for a in arms],
            "dense": _metrics(dense_of_control, metrics),
            "rows": rows,
            "reach": reaches,
            "paired": paired,
            "scan": scanned,
            "onset": onset,
            **({"transfer": transferred} if transferred else {}),
            "costs": summed,
            "answer": " ".join(sentences(Answer(compared))),
            "notes": notes(units, arms, paired, summed, settings.claim_p, on_page(settings.plugins)),
        },
    )


def held_to(
    units: Sequence[Unit], arms: Sequence[ArmRecord], margin: float
) -> Iterator[tuple[ArmRecord, Levels, float | None]]:
    """Every arm with its units, the dense level first, and the lowest accuracy that is matching (None: not decidable)."""
    dense = _dense(units, arms)
    for arm in arms:
        levels = _levels(arm["name"], units, dense[arm.get("k"), arm.get("task")])
        yield arm, levels, least_matching(_over(levels[0], ACCURACY), margin)


def _dense(units: Sequence[Unit], arms: Sequence[ArmRecord]) -> dict[tuple[str | None, str | None], dict[Place, Unit]]:
    """The dense units by place, of each rewinding step and task."""
    step = {a["name"]: (a.get("k"), a.get("task")) for a in arms}
    zero = [u for u in units if u["level"] == 0]
    return {at: by_place(u for u in zero if step.get(u["arm"]) == at) for at in {*step.values(), (None, None)}}


def _metrics(units: Mapping[Place, Unit], metrics: Sequence[Metric]) -> dict[str, Estimate | None]:
    return {m.name: _over(units, m.name) for m in metrics}


def _over(units: Mapping[Place, Mapping[str, object]], metric: str) -> Estimate | None:
    """The estimate over the values that are known; None where none is."""
    values = known(units, metric)
    return over(values) if values else None


def _levels(arm: str, units: Sequence[Unit], dense: Mapping[Place, Unit]) -> Levels:
    """The arm's units, the dense level first: `dense` where it has none of its own."""
    of_arm = [u for u in units if u["arm"] == arm]
    levels = {n: by_place(u for u in of_arm if u["level"] == n) for n in sorted({u["level"] for u in of_arm} | {0})}
    return levels | {0: levels[0] or dict(dense)}


def _rows(
    arm: str,
    levels: Levels,
    least: float | None,
    pairs: Sequence[Pair],
    control: str | None,
    metrics: Sequence[Metric],
) -> list[Row]:
    """One row a level of the arm, the dense level first; `least` is the lowest accuracy that is matching."""
    rows: list[Row] = []
    for level, of_level in levels.items():
        if not of_level:
            continue
        estimates = _metrics(of_level, metrics)
        overlaps = by_place(p for p in pairs if p["arm"] == arm and p["level"] == level and p["versus"] == control)
        row = {
            "arm": arm,
            "level": level,
            "sparsity": over(known(of_level, "sparsity"))["mean"],
            "n": len({place.seed for place in of_level}),
            **estimates,
            MATCHING.name: matching(estimates[ACCURACY], least),
            STABLE.name: stable(estimates[BARRIER]),
            "iou": _over(overlaps, "iou"),
            "chance": _over(overlaps, "chance"),
            "z": _over(overlaps, "z"),
        }
        rows.append(cast(Row, row))
    return rows
