"""The key figures at the head of the page: for each question a line an arm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distill_prune.report import formats
from distill_prune.report.style import CROWD, Arm, rows

if TYPE_CHECKING:
    from distill_prune.study.study import Study

UNMEASURED = "not measured"


def cards(study: Study, listed: list[Arm]) -> list[dict[str, Any]]:
    """The key figures: a title, a note and a line for each arm. Only those that were measured.

    Of many arms only the sources have a line; the controls have a section of their own.
    """
    listed = [a for a in listed if len(listed) <= CROWD or a.role != "control"]
    by_arm = {a: sorted((r for r in rows(study) if r["arm"] == a.name), key=lambda r: r["sparsity"]) for a in listed}
    made = []
    last = {a: own[-1] for a, own in by_arm.items() if own}
    if any(r.get("accuracy") for r in last.values()):
        lines = [_line(a, **_shown(r.get("accuracy"))) for a, r in last.items()]
        dense = ((study.summary or {}).get("dense") or {}).get("accuracy")
        if dense:
            lines.insert(0, {"label": "Dense", "color": None, **_shown(dense)})
        ends = sorted({formats.sparsity(r["sparsity"]) for r in last.values()})
        note = (
            f"% test accuracy at {ends[0]} % sparsity" if len(ends) == 1 else "% test accuracy, each arm at its sparsest level"
        )
        made.append({"title": "Accuracy at the end", "note": note + ", with 95 % interval", "lines": lines})
    for verdict, title, note in (
        (
            "matching",
            "Sparsest match",
            "% sparsity: the sparsest level whose mean accuracy is within one standard deviation of dense",
        ),
        ("stable", "Sparsest stable", "% sparsity: the sparsest level whose mean test barrier is below 2 points"),
    ):
        lines = [_line(a, *_sparsest(own, verdict)) for a, own in by_arm.items() if own]
        if any(r.get(verdict) not in (None, UNMEASURED) for own in by_arm.values() for r in own):
            made.append({"title": title, "note": note, "lines": lines})
    totals = {c["arm"]: c.get("search") or {} for c in (study.summary or {}).get("costs") or []}
    if totals:
        lines = [_line(a, formats.count(totals[a.name].get("images"))) for a in listed if a.name in totals]
        made.append(
            {"title": "Mask search", "note": "training examples seen, without distillation and experts", "lines": lines}
        )
    return made


def _shown(est: Any) -> dict[str, str]:
    text = formats.estimate(est, "percent")
    return {"value": text["mean"], "range": text["range"]}


def _line(arm: Arm, value: str, range: str = "") -> dict[str, str | None]:
    return {"label": arm.label, "color": arm.color, "value": value, "range": range}


def _sparsest(own: list[dict[str, Any]], verdict: str) -> tuple[str, str]:
    """The highest sparsity with the verdict "yes", and a remark where that is not the whole story."""
    said = [(r["sparsity"], r.get(verdict)) for r in own if r.get(verdict) not in (None, UNMEASURED)]
    good = [s for s, v in said if v == "yes"]
    if not said:
        return formats.NONE, UNMEASURED
    if not good:
        return formats.NONE, "not decidable" if all(v == "not decidable" for _, v in said) else "at no level"
    if good[-1] == 0:
        return "0", "the dense network only"
    gaps = any(v == "no" and s < good[-1] for s, v in said)
    return formats.sparsity(good[-1]), "not at every level before" if gaps else ""
