"""The page: chooses what stands where and hands it to the template. Selects and formats; computes nothing."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill_prune.analyze.metric import BARRIER, GROUPS, Metric, columns, tested
from distill_prune.analyze.sentences import sentences
from distill_prune.report import formats, pictures, spectra, surfaces, tickets, transfer, words
from distill_prune.report.cards import cards
from distill_prune.report.figures import Drawing
from distill_prune.report.style import (
    arms,
    every_arm,
    is_text,
    left_out,
    metrics,
    rows,
    sparsities,
    task_label,
)

if TYPE_CHECKING:
    from distill_prune.study.study import Study

SECTIONS = (
    ("reach", "How far"),
    ("images", "Sets"),
    ("accuracy", "Accuracy"),
    ("stability", "Stability"),
    ("rewinding", "Rewinding"),
    ("curvature", "Curvature"),
    ("further", "Further"),
    ("landscape", "Landscape"),
    ("layers", "Layers"),
    ("levels", "All levels"),
    ("differences", "Differences"),
    ("overlap", "Overlap"),
    ("transfer", "Transfer"),
    ("controls", "Controls"),
    ("costs", "Costs"),
    ("tickets", "Every ticket"),
    ("notes", "Notes"),
    ("record", "Record"),
)


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
    listed, shown = arms(study), metrics(study)
    figures = groups(study)
    first, *rest = sentences(study.answer) or ("",)
    html = env.get_template("page.html.j2").render(
        study=study,
        summary=study.summary or {},
        arms=listed,
        labels={a.name: a.label for a in every_arm(study)},
        first={a.name for a in listed},
        sections=[s for s in SECTIONS if {"transfer": transfer.rows(study), "further": figures["further"]}.get(s[0], True)],
        answer=(first, " ".join(rest)),
        text=is_text(study),
        noun="sentences" if is_text(study) else "images",
        moved=transfer.beside_own(study),
        targets=transfer.targets(study),
        unseen=unseen(study),
        noisy=words.noisy(study),
        scores=[m for m in shown.values() if m.some_tasks and any(r.get(m.name) for r in rows(study))],
        columns=level_columns(study),
        reach=words.reach(study),
        onsets=words.onsets(study),
        compared=words.compared(study),
        claims=claims(study),
        spectra=leading(study),
        tickets=tickets.table(study),
        kinds=surfaces.KINDS,
        surfaces=surfaces.SURFACES,
        cards=cards(study, listed),
        groups=figures,
        drawings=drawings,
        why=why_absent(study),
        missing=missing_by_stage(study),
        table=levels_table(study),
        sheet=sheet,
        sheet_png=base64.b64encode(sheet.png).decode() if sheet else "",
        at=sparsities(study),
        metrics=shown,
        barrier=BARRIER,
        n=initialisations(study),
    )
    return html, {"synthetic": sheet.png} if sheet else {}


def groups(study: Study) -> dict[str, list[str]]:
    """Names of the figures that stand together, in order."""
    by_group = {g: [m.name for m in metrics(study).values() if m.group == g] for g in GROUPS}
    return {**by_group, "paired": [f"paired_{m.name}" for m in tested(study.plugins)]}


def level_columns(study: Study) -> list[tuple[str, str, str]]:
    """The metrics in the table of all levels: name, heading, and how an estimate is written."""
    shown = [m for m in columns(study.plugins) if not m.some_tasks or any(r.get(m.name) for r in rows(study))]
    return [(m.name, m.column or m.heading, _unit(m)) for m in shown]


def _unit(metric: Metric) -> str:
    return "number" if metric.scale == 1 else "points" if metric.unit == "points" else "percent"


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


def claims(study: Study) -> list[dict[str, Any]]:
    """Differences that carry a claim, of learned arms at their sparsest level."""
    treated = {a.name for a in arms(study) if a.role == "treatment"}
    paired = [p for p in (study.summary or {}).get("paired") or [] if p["arm"] in treated]
    last = {a: max(p["level"] for p in paired if p["arm"] == a) for a in {p["arm"] for p in paired}}
    return [p for p in paired if p["claim"] and p["level"] == last[p["arm"]]]


def leading(study: Study) -> list[dict[str, Any]]:
    """The leading eigenvalues of the first copy of every ticket at its arm's sparsest level."""
    looks = {a.name: a for a in arms(study)}
    first = [d for d in spectra.first_copies(study.densities) if d["arm"] in looks and d["eigenvalues"]]
    last = {a: max(d["level"] for d in first if d["arm"] == a) for a in {d["arm"] for d in first}}
    order = list(looks)
    kept = sorted((d for d in first if d["level"] == last[d["arm"]]), key=lambda d: (order.index(d["arm"]), d["seed"]))
    return [{**d, "look": looks[d["arm"]], "most": _most(d["eigenvalues"][0])} for d in kept]


def _most(eigenvalue: Mapping[str, Any]) -> tuple[str, float] | None:
    """The layer that holds most of an eigenvector, and its share."""
    shares = eigenvalue.get("layers") or {}
    return max(shares.items(), key=lambda s: s[1]) if shares else None


def unseen(study: Study) -> dict[str, list[str]]:
    """By figure, the labels of the arms that were measured and have no panel in it."""
    measured = {
        "density": study.densities,
        "histograms": [d for d in study.diagonals if d.get("histogram")],
        **{kind: [p for p in study.planes if p["kind"] == kind] for kind in surfaces.KINDS},
    }
    return {name: [a.label for a in left_out(study, {r["arm"] for r in held})] for name, held in measured.items()}


def levels_table(study: Study) -> list[tuple[str, str | None, list[dict[str, Any]]]]:
    """Rows in groups of (title, colour, rows), task by task. Dense rows that all arms of a task share stand once, first."""
    listed = arms(study, main=False)
    groups: list[tuple[str, str | None, list[dict[str, Any]]]] = []
    tasks = dict.fromkeys([study.tasks.get(study.versus), *(study.tasks.get(a.name) for a in listed)])
    for task in tasks:
        own = [a for a in listed if study.tasks.get(a.name) == task]
        name = f" of {task_label(study, task)}" if len(tasks) > 1 else ""
        said = "" if task == study.tasks.get(study.versus) else f", on {task_label(study, task)}"
        dense = [r for r in rows(study) if r["level"] == 0 and r["arm"] in {a.name for a in own}]
        same = len(dense) > 1 and all({**r, "arm": ""} == {**dense[0], "arm": ""} for r in dense)
        if same:
            groups.append((f"Dense, shared by all arms{name}", None, dense[:1]))
        for arm in own:
            found = [r for r in rows(study) if r["arm"] == arm.name and not (same and r["level"] == 0)]
            if found:
                groups.append((arm.label + said, arm.color, found))
    return groups
