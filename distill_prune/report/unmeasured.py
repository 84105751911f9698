"""What a study did not measure, in one list, with the setting that asks for it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from distill_prune.analyze import ANALYSES
from distill_prune.analyze.declared import declared
from distill_prune.report.style import metrics
from distill_prune.report.surfaces import KINDS

if TYPE_CHECKING:
    from distill_prune.study.study import Study

WHAT = {
    "accuracy": "accuracy",
    "connectivity": "error barriers between copies",
    "disagreement": "disagreement and distance of copies",
    "layerwise": "barriers layer by layer",
    "between": "barriers between levels and between arms",
    "landscape": "surfaces of loss and error",
    "curvature": "Hessian trace",
    "spectrum": "leading eigenvalues and spectral density",
    "diagonal": "diagonal of the Hessian",
    "overlap": "overlap of masks",
    "evaluation": "fresh networks trained on a set",
    "ranking": "label-robust scores of sets",
}
"""Analyses in words, in the order of the page."""
OF_SETS = ("evaluation", "ranking")
"""Those that a study without small sets cannot ask for."""


@dataclass(frozen=True)
class Unmeasured:
    """What was not measured, and the option that asks for it; empty where none does."""

    what: str
    option: str


def unmeasured(study: Study, drawn: Collection[str]) -> list[Unmeasured]:
    """By analysis what the study has no numbers of; then single metrics without a figure of analyses that have some."""
    arms = (study.summary or {}).get("arms") or []
    idle = OF_SETS if arms and all(a.get("images") in (None, "real") for a in arms) else ()
    whole = [name for name in WHAT if name not in idle and not _has(study, name, drawn)]
    lines = [_whole(name, study.copies) for name in whole]
    if not (study.summary or {}).get("scan"):
        lines.append(Unmeasured("several rewinding steps", "--set prune.scan=[100it,2ep]"))
    shown = metrics(study)
    parts = [
        m
        for name in (*(n for n in WHAT if n not in (*whole, *idle)), "metrics", *study.plugins)
        for m in declared(name)
        if m.name in shown and m.group and not m.some_tasks and m.name not in drawn
    ]
    return [*lines, *(Unmeasured(m.title, "") for m in parts)]


def _whole(name: str, copies: int) -> Unmeasured:
    """An analysis that the study has no numbers of. One of several copies is refused where fewer are retrained."""
    option, least = f"--set compare.{name}={{}}", ANALYSES[name].MIN_COPIES
    if copies >= least:
        return Unmeasured(WHAT[name], option)
    return Unmeasured(f"{WHAT[name]} (needs {least} copies of each ticket)", f"--set retrain.copies={least} {option}")


def _has(study: Study, analysis: str, drawn: Collection[str]) -> bool:
    others = {
        "layerwise": bool(study.layerwise),
        "between": bool(study.between),
        "landscape": any(p["kind"] in KINDS for p in study.planes),
        "overlap": "overlap" in drawn,
        "evaluation": bool(study.evaluations),
        "ranking": bool(study.rankings),
        "spectrum": bool(study.densities),
        "diagonal": bool(study.diagonals),
    }
    return others.get(analysis, False) or any(m.name in drawn for m in declared(analysis))
