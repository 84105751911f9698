"""What the summary says of an arm, in words: what it is, how many initialisations hold, and where in a scan it is stable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.metric import ACCURACY
from distill_prune.analyze.records import (
    ArmRecord,
    OnsetRow,
    Row,
    ScanRow,
    onset_of,
    verdict_on,
)
from distill_prune.analyze.shares import Share
from distill_prune.analyze.verdict import MATCHING, PROPERTIES, STABLE, Property, Verdict
from distill_prune.prune import CRITERIA
from distill_prune.report import formats
from distill_prune.report.style import Arm, arms, every_arm, is_text, rows

if TYPE_CHECKING:
    from distill_prune.study.study import Study

# Share of the variance of a diagonal's entries that is their error: from here on a reader must know.
NOISY = 0.1
CONTROLS = {
    "shuffled": "the mask of {of}, each layer's entries in another order",
    "random": "weights chosen at random, as many in each layer as {of} keeps",
    "reinitialised": "the mask of {of} on another draw of the initialisation",
    "transferred": "the mask of {of}, found on another task",
    "signs": "the mask of {of} and the signs of its trained weights, on the magnitudes of another draw of the initialisation",
    "permuted": "the mask of {of} on another draw of the initialisation, in the order that aligns the two dense networks",
    "intersection": "the weights that the masks of {of} have in common over all draws of its sets",
    "swapped": "the one-shot mask, with as many weights of each layer exchanged as tell {of} from it, at random",
}


def described(arm: ArmRecord, labels: Mapping[str, str], noun: str = "images") -> str:
    """Where the arm's masks come from; `noun` is what a set's examples are called."""
    if control := arm.get("control"):
        of = labels.get(control["of"], control["of"])
        words = CONTROLS.get(control["kind"], "{of}, " + control["kind"]).format(of=of)
        words += "" if control.get("mask", True) else "; nothing is pruned, and weights outside the mask are that draw's"
        return words + ("; norms are the trained ones" if control.get("norms") == "kept" else "")
    criterion = arm.get("criterion") or "magnitude"
    text = CRITERIA[criterion].WORDS if criterion in CRITERIA else ""
    text = text or f"weights chosen by the criterion {criterion}"
    if criterion == "magnitude":
        images = arm.get("images") or "real"
        whose = f"learned {noun}" if arm.get("learned") else noun
        on = "all training data" if images == "real" else f"the {whose} of the set {images}"
        text += f" on {on}"
        if images == "real" and arm.get("recipe") == "prune":
            text += ", with the recipe of small sets"
    text += ", without rewinding" if arm.get("rewind") == "none" else ""
    if criterion != "initial_magnitude":  # which no level changes
        text += ", pruned at once" if arm.get("one_shot") else ", level by level"
    if begins := arm.get("begins"):
        text += f"; up to level {begins['level']} the tickets of {labels.get(begins['arm'], begins['arm'])}"
    return text


def noisy(study: Study) -> list[str]:
    """Of the diagonals shown, those that are largely the error of their estimate, worst first: arm, sparsity and share."""
    labels = {a.name: a.label for a in arms(study)}
    first = {(d["arm"], d["seed"], d["level"]): d for d in reversed(study.diagonals) if d["arm"] in labels}
    worst: dict[tuple[str, int], tuple[float, float]] = {}
    for d in first.values():
        at, noise = (d["arm"], d["level"]), d.get("noise")
        if formats.finite(noise) and noise > max(NOISY, worst.get(at, (0.0, 0.0))[0]):
            worst[at] = noise, d["sparsity"]
    ordered = sorted(worst.items(), key=lambda item: -item[1][0])
    return [
        f"{labels[arm]} at {formats.sparsity(sparsity)}% sparsity ({formats.fixed(noise, 0, 100)}%)"
        for (arm, _), (noise, sparsity) in ordered
    ]


@dataclass(frozen=True)
class Held:
    """Of how many initialisations an arm has a property at each level, and the exact interval of their share."""

    arm: Arm
    cells: list[tuple[str, str, str]]
    """A level each: "5 of 6", "36 to 100%", and the share to sort by; empty where it was not measured."""


@dataclass(frozen=True)
class Shares:
    """A table of shares: a row an arm, a column a sparsity."""

    prop: Property
    sparsities: list[float]
    arms: list[Held]


def shares(study: Study) -> list[Shares]:
    """The shares of matching and of stable initialisations of each arm, where any was measured."""
    tables = []
    for prop in PROPERTIES:
        of_prop = [s for s in study.shares if s["property"] == prop.name]
        listed = [a for a in arms(study) if any(s["arm"] == a.name for s in of_prop)]
        levels = sorted({s["level"] for s in of_prop})
        by_place = {(s["arm"], s["level"]): s for s in of_prop}
        at = {s["level"]: s["sparsity"] for s in of_prop}
        if listed:
            rows_of = [Held(a, [_held(by_place.get((a.name, level))) for level in levels]) for a in listed]
            tables.append(Shares(prop, [at[level] for level in levels], rows_of))
    return tables


def _held(share: Share | None) -> tuple[str, str, str]:
    if share is None:
        return formats.NONE, "", ""
    interval = f"{formats.fixed(share['low'], 0, 100)} to {formats.fixed(share['high'], 0, 100)}%"
    return f"{share['yes']} of {share['n']}", interval, f"{share['yes'] / share['n']:.4f}"


@dataclass(frozen=True)
class Onset:
    """From which rewinding step on an arm is stable and matching at a level, in words; `label` stands for the arm."""

    arm: Arm
    label: str
    sparsity: float
    level: int
    stable: str
    matching: str
    ks: list[str]


def onsets(study: Study) -> list[Onset]:
    """Where in the scan each arm becomes stable and matching: one row an arm and level, in the order of arms."""
    summary = study.summary or {}
    scan = summary.get("scan") or []
    onset_rows = summary.get("onset") or []
    shared = sum(o["level"] == 0 for o in onset_rows) == 1
    return [
        Onset(
            a,
            "Dense networks" if shared and o["level"] == 0 else "",
            o["sparsity"],
            o["level"],
            _onset(o, STABLE, scan),
            _onset(o, MATCHING, scan),
            o["ks"],
        )
        for a in arms(study)
        for o in onset_rows
        if o["arm"] == a.name
    ]


def _onset(onset: OnsetRow, prop: Property, scan: Sequence[ScanRow]) -> str:
    if (k := onset_of(onset, prop)) is not None:
        return f"k = {k}"
    rows = [e for e in scan if e["arm"] == onset["arm"] and e["level"] == onset["level"]]
    verdicts = [v for e in rows if (v := verdict_on(e, prop))]
    if not any(v.decided for v in verdicts):
        return next(iter(verdicts), Verdict.NOT_MEASURED).value
    return f"not at the last k ({onset['ks'][-1]})" if Verdict.YES in verdicts else "at no k of the scan"


@dataclass(frozen=True)
class Kept:
    """An arm: what it keeps, its row at its sparsest level, and its difference in accuracy there."""

    arm: Arm
    what: str
    row: Row | None
    difference: Estimate | None


def compared(study: Study) -> list[tuple[str, list[Kept]]]:
    """Sources, then controls."""
    records = {a["name"]: a for a in (study.summary or {}).get("arms") or []}
    labels = {a.name: a.label for a in every_arm(study)}
    noun = "samples" if is_text(study) else "images"
    paired = [p for p in (study.summary or {}).get("paired") or [] if p["metric"] == ACCURACY]
    differences = {(p["arm"], p["level"]): p["difference"] for p in paired}

    def kept(arm: Arm) -> Kept:
        of_arm = [r for r in rows(study) if r["arm"] == arm.name]
        last = max(of_arm, key=lambda r: r["sparsity"], default=None)
        difference = differences.get((arm.name, last["level"])) if last else None
        return Kept(arm, described(records[arm.name], labels, noun), last, difference)

    listed = [a for a in arms(study) if a.name in records]
    groups = (
        ("Sources", [kept(a) for a in listed if a.role != "control"]),
        ("Controls", [kept(a) for a in listed if a.role == "control"]),
    )
    return [(title, of_role) for title, of_role in groups if of_role]
