"""What the summary says of an arm, in words: what it is, how far it carries, and where in a scan its tickets become stable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from distill_prune.analyze.verdict import MATCHING, PROPERTIES, STABLE, Property, Verdict
from distill_prune.prune import CRITERIA
from distill_prune.report import formats
from distill_prune.report.style import Arm, arms, every_arm, is_text, rows

if TYPE_CHECKING:
    from distill_prune.study.study import Study

Record = Mapping[str, Any]
# Share of the variance of a diagonal's entries that is their error: from here on a reader must know.
NOISY = 0.1
CONTROLS = {
    "shuffled": "the mask of {of}, each layer's entries in another order",
    "random": "weights chosen at random, as many in each layer as {of} keeps",
    "reinitialised": "the mask of {of} on another draw of the initialisation",
    "transferred": "the mask of {of}, found on another task",
    "swapped": "the one-shot mask, with as many weights of each layer exchanged as tell {of} from it, at random",
}


def described(arm: Record, labels: Mapping[str, str], noun: str = "images") -> str:
    """Where the arm's masks come from; `noun` is what a set's examples are called."""
    if control := arm.get("control"):
        of = labels.get(control["of"], control["of"])
        return CONTROLS.get(str(control["kind"]), "{of}, " + str(control["kind"])).format(of=of)
    criterion = str(arm.get("criterion") or "magnitude")
    said = CRITERIA[criterion].WORDS if criterion in CRITERIA else ""
    said = said or f"weights chosen by the criterion {criterion}"
    if criterion == "magnitude":
        images = str(arm.get("images") or "real")
        whose = f"learned {noun}" if arm.get("learned") else noun
        on = "all training data" if images == "real" else f"the {whose} of the set {images}"
        said += f" on {on}"
        if images == "real" and arm.get("recipe") == "prune":
            said += ", with the recipe of small sets"
    said += ", without rewinding" if arm.get("rewind") == "none" else ""
    said += ", pruned at once" if arm.get("one_shot") else ", level by level"
    if begins := arm.get("begins"):
        said += f"; up to level {begins['level']} the tickets of {labels.get(begins['arm'], begins['arm'])}"
    return said


def noisy(study: Study) -> list[str]:
    """Of the diagonals shown, those that are largely the error of their estimate, worst first: arm, sparsity and share."""
    labels = {a.name: a.label for a in arms(study)}
    first = {(d["arm"], d["seed"], d["level"]): d for d in reversed(study.diagonals) if d["arm"] in labels}
    worst: dict[tuple[str, int], Record] = {}
    for d in first.values():
        at = d["arm"], d["level"]
        if formats.finite(d.get("noise")) and d["noise"] > NOISY and d["noise"] > worst.get(at, d | {"noise": 0})["noise"]:
            worst[at] = d
    ordered = sorted(worst.values(), key=lambda d: -float(d["noise"]))
    return [
        f"{labels[d['arm']]} at {formats.sparsity(d['sparsity'])} % sparsity ({formats.fixed(d['noise'], 0, 100)} %)"
        for d in ordered
    ]


def reach(study: Study) -> list[dict[str, Any]]:
    """How far each arm carries: the largest matching and stable sparsity, over all and by initialisation."""
    found = {r["arm"]: r for r in (study.summary or {}).get("reach") or []}
    return [
        {"arm": a, **{p.name: _carried(p, found[a.name][p.name], _measured(study, a, p.metric)) for p in PROPERTIES}}
        for a in arms(study)
        if a.name in found
    ]


def _measured(study: Study, arm: Arm, metric: str) -> bool:
    return any(r["arm"] == arm.name and r["level"] > 0 and r.get(metric) for r in rows(study))


def _carried(prop: Property, r: Record, measured: bool) -> dict[str, str]:
    """`value` and `remark` of the mean's verdict; `mean`, `range` and `note` over initialisations."""
    units = r.get("units")
    undecided = prop.open if measured else Verdict.NOT_MEASURED.value
    if r.get("last") is not None:
        value, remark = f"{formats.sparsity(r['last'])} %", ""
    elif r.get("known"):
        value, remark = "none", "at no pruned level"
    else:
        value, remark = formats.NONE, undecided
    if units is None:
        return {"value": value, "remark": remark, "mean": formats.NONE, "range": "", "note": undecided}
    text = formats.estimate(units, "percent")
    held, n = int(r.get("at_least") or 0), text["n"]
    note = f"n = {n}"
    if held:
        note += (
            f"; {held} of {n} still hold{'s' if held == 1 else ''} at the sparsest level measured, so the mean is a lower bound"
        )
    return {"value": value, "remark": remark, "mean": f"{text['mean']} %", "range": text["range"], "note": note}


def onsets(study: Study) -> list[dict[str, Any]]:
    """Where in the scan each arm becomes stable and matching: one row an arm and level, in the order of arms."""
    summary = study.summary or {}
    scan = summary.get("scan") or []
    found = summary.get("onset") or []
    shared = sum(o["level"] == 0 for o in found) == 1
    return [
        {
            "arm": a,
            "label": "Dense networks" if shared and o["level"] == 0 else "",
            "sparsity": o["sparsity"],
            "level": o["level"],
            **{p.name: _onset(o, p, scan) for p in (STABLE, MATCHING)},
            "ks": o["ks"],
        }
        for a in arms(study)
        for o in found
        if o["arm"] == a.name
    ]


def _onset(onset: Record, prop: Property, scan: Sequence[Record]) -> str:
    if (k := onset.get(f"{prop.name}_at")) is not None:
        return f"k = {k}"
    rows = [e for e in scan if e["arm"] == onset["arm"] and e["level"] == onset["level"]]
    verdicts = [Verdict(e[prop.name]) for e in rows if e.get(prop.name)]
    if not any(v.decided for v in verdicts):
        return next(iter(verdicts), Verdict.NOT_MEASURED).value
    return f"not at the last k ({onset['ks'][-1]})" if Verdict.YES in verdicts else "at no k of the scan"


def compared(study: Study) -> list[tuple[str, list[dict[str, Any]]]]:
    """Sources, then controls: what each arm is, its row at its sparsest level, and its difference in accuracy there."""
    listed = arms(study)
    records = {a["name"]: a for a in (study.summary or {}).get("arms") or []}
    labels = {a.name: a.label for a in every_arm(study)}
    noun = "samples" if is_text(study) else "images"
    paired = {(p["arm"], p["level"]): p for p in (study.summary or {}).get("paired") or [] if p["metric"] == "accuracy"}

    def told(arm: Arm) -> dict[str, Any]:
        own = [r for r in rows(study) if r["arm"] == arm.name]
        last = max(own, key=lambda r: float(r["sparsity"]), default=None)
        return {
            "arm": arm,
            "what": described(records[arm.name], labels, noun),
            "row": last or {},
            "difference": (paired.get((arm.name, last["level"])) or {}).get("difference") if last else None,
        }

    groups = (
        ("Sources", [told(a) for a in listed if a.role != "control" and a.name in records]),
        ("Controls", [told(a) for a in listed if a.role == "control" and a.name in records]),
    )
    return [(title, found) for title, found in groups if found]
