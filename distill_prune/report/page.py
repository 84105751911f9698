"""The page: chooses what stands where and hands it to the template. Selects and formats; computes nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_prune.report import formats, pictures
from distill_prune.report.figures import Drawing
from distill_prune.report.style import METRICS, Arm, arms, rows, sparsities

if TYPE_CHECKING:
    from distill_prune.pipeline.study import Study

# Figures that stand in one section, in order.
GROUPS = {
    "accuracy": ("accuracy", "train_accuracy"),
    "barrier": ("barrier_test", "barrier_train", "barrier_loss", "excess_test"),
    "trace": ("trace", "trace_per_weight", "trace_invariant", "weight_norm"),
    "paired": ("paired_accuracy", "paired_barrier_test", "paired_trace_per_weight"),
}


def page(study: Study, drawings: Mapping[str, Drawing]) -> tuple[str, dict[str, bytes]]:
    """The page as HTML that asks nothing of any network, and the pictures (name to PNG) made on the way."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    sheet = pictures.sheet(study)
    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    env.filters |= {
        "count": formats.count,
        "sparsity": formats.sparsity,
        "duration": formats.duration,
        "number": formats.number,
        "fixed": formats.fixed,
        "p_value": formats.p_value,
        "tidy": formats.tidy,
        "estimate": formats.estimate,
    }
    listed = arms(study)
    html = env.get_template("page.html.j2").render(
        study=study,
        summary=study.summary or {},
        arms=listed,
        labels={a.name: a.label for a in listed},
        cards=cards(study, listed),
        groups=GROUPS,
        drawings=drawings,
        why=why_absent(study),
        missing=missing_by_stage(study),
        table=levels_table(study, listed),
        sheet=sheet,
        sheet_png=base64.b64encode(sheet.png).decode() if sheet else "",
        at=sparsities(study),
        metrics=METRICS,
        n=initialisations(study),
    )
    return html, {"synthetic": sheet.png} if sheet else {}


def why_absent(study: Study) -> str:
    """Why a section may have nothing to show."""
    if study.missing:
        return "Not measured yet: the artifacts it needs are among those listed as missing above."
    return "Not measured: the pipeline file does not ask for it."


def missing_by_stage(study: Study) -> dict[str, list[dict[str, Any]]]:
    """Missing artifacts, grouped by their stage."""
    found: dict[str, list[dict[str, Any]]] = {}
    for artifact in study.missing:
        found.setdefault(artifact["stage"], []).append(artifact)
    return found


def initialisations(study: Study) -> str:
    """How many initialisations stand behind the rows: `3`, or `2 to 3` where arms differ."""
    counts = sorted({int(r["n"]) for r in rows(study) if r.get("n")})
    return "" if not counts else str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def levels_table(study: Study, listed: list[Arm]) -> list[tuple[str, str | None, list[dict[str, Any]]]]:
    """Rows in groups of (title, colour, rows). Dense rows that all arms share stand once, first."""
    dense = [r for r in rows(study) if r["level"] == 0]
    same = len(dense) > 1 and all({**r, "arm": ""} == {**dense[0], "arm": ""} for r in dense)
    groups: list[tuple[str, str | None, list[dict[str, Any]]]] = (
        [("Dense, shared by all arms", None, dense[:1])] if same else []
    )
    for arm in listed:
        own = [r for r in rows(study) if r["arm"] == arm.name and not (same and r["level"] == 0)]
        if own:
            groups.append((arm.label, arm.color, own))
    return groups


def cards(study: Study, listed: list[Arm]) -> list[dict[str, Any]]:
    """The key figures: a title, a note and a line for each arm. Only those that were measured."""
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
        if any(r.get(verdict) for own in by_arm.values() for r in own):
            made.append({"title": title, "note": note, "lines": lines})
    totals = {c["arm"]: c.get("search") or {} for c in (study.summary or {}).get("costs") or []}
    if totals:
        lines = [_line(a, formats.count(totals[a.name].get("images"))) for a in listed if a.name in totals]
        made.append({"title": "Mask search", "note": "training images seen, without distillation and experts", "lines": lines})
    return made


def _shown(est: Any) -> dict[str, str]:
    text = formats.estimate(est, "percent")
    return {"value": text["mean"], "range": text["range"]}


def _line(arm: Arm, value: str, range: str = "") -> dict[str, str | None]:
    return {"label": arm.label, "color": arm.color, "value": value, "range": range}


def _sparsest(own: list[dict[str, Any]], verdict: str) -> tuple[str, str]:
    """The highest sparsity with the verdict "yes", and a remark where that is not the whole story."""
    said = [(r["sparsity"], r.get(verdict)) for r in own if r.get(verdict)]
    good = [s for s, v in said if v == "yes"]
    if not said:
        return formats.NONE, "not measured"
    if not good:
        return formats.NONE, "not decidable" if all(v == "not decidable" for _, v in said) else "at no level"
    if good[-1] == 0:
        return "0", "the dense network only"
    gaps = any(v == "no" and s < good[-1] for s, v in said)
    return formats.sparsity(good[-1]), "not at every level before" if gaps else ""
