"""The page: chooses what stands where and hands it to the template. Selects and formats; computes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from distill_prune.analyze.declared import columns, on_page, tested
from distill_prune.analyze.metric import BARRIER, GROUPS, Metric
from distill_prune.analyze.records import PairedRow, estimate_of
from distill_prune.analyze.sentences import sentences
from distill_prune.letters import printable_lines
from distill_prune.report import formats, pictures, spectra, surfaces, tickets, transfer, words
from distill_prune.report.cards import cards
from distill_prune.report.figures import Drawing
from distill_prune.report.model import Column, Group, Leading, Page
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
    from distill_prune.study.records import Eigenvalue, Missing
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
    """The page as HTML that asks nothing of any network, and its pictures (name to PNG)."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    env = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=_shown,
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
    sheet = pictures.sheet(study)
    html = env.get_template("page.html.j2").render(page=model(study, drawings, sheet))
    return html, {"synthetic": sheet.png} if sheet else {}


def _shown(value: object) -> object:
    """A value as the page takes it: names and labels of anybody cannot turn the text beside them."""
    return printable_lines(value) if type(value) is str else value


def model(study: Study, drawings: Mapping[str, Drawing], sheet: pictures.Sheet | None) -> Page:
    """What the template takes."""
    listed, figures = arms(study), groups(study)
    built_in = {m.name for m in on_page()}
    optional = {"transfer": transfer.rows(study), "further": figures["further"]}
    verdict, *evidence = sentences(study.answer) or ("",)
    return Page(
        study=study,
        summary=study.summary or {},
        text=is_text(study),
        noun="sentences" if is_text(study) else "images",
        n=initialisations(study),
        sections=[(name, title) for name, title in SECTIONS if optional.get(name, True)],
        verdict=verdict,
        evidence=" ".join(evidence),
        cards=cards(study, listed),
        missing=missing_by_stage(study),
        drawings=drawings,
        groups=figures,
        lacking=lacking(study, figures, drawings),
        added={g: [n for n in names if n in drawings and n not in built_in] for g, names in figures.items()},
        unseen=unseen(study),
        metrics=metrics(study),
        why=why_absent(study),
        labels={a.name: a.label for a in every_arm(study)},
        first={a.name for a in listed},
        at=sparsities(study),
        sheet=sheet,
        reach=words.reach(study),
        onsets=words.onsets(study),
        spectra=leading(study),
        noisy=words.noisy(study),
        kinds=surfaces.KINDS,
        surfaces=surfaces.SURFACES,
        columns=level_columns(study),
        table=levels_table(study),
        claims=claims(study),
        moved=transfer.beside_own(study),
        targets=transfer.targets(study),
        compared=words.compared(study),
        tickets=tickets.table(study),
        barrier=BARRIER,
    )


def groups(study: Study) -> dict[str, list[str]]:
    """Names of the figures that stand together, in order."""
    by_group = {g: [m.name for m in metrics(study).values() if m.group == g] for g in GROUPS}
    return {**by_group, "paired": [f"paired_{m.name}" for m in tested(study.plugins)]}


def lacking(study: Study, figures: Mapping[str, list[str]], drawings: Mapping[str, Drawing]) -> dict[str, list[str]]:
    """The titles of the metrics of each group that have no figure; of those that only some tasks are scored by, none."""
    shown = metrics(study)
    absent = {g: [shown[n.removeprefix("paired_")] for n in names if n not in drawings] for g, names in figures.items()}
    return {group: [m.title for m in without if not m.some_tasks] for group, without in absent.items()}


def level_columns(study: Study) -> list[Column]:
    """The metrics in the table of all levels; what only some tasks are scored by where it was measured."""
    shown = [m for m in columns(study.plugins) if not m.some_tasks or _in_rows(study, m)]
    return [Column(m.name, m.column or m.heading, _unit(m)) for m in shown]


def _in_rows(study: Study, metric: Metric) -> bool:
    return any(estimate_of(r, metric.name) for r in rows(study))


def _unit(metric: Metric) -> str:
    return "number" if metric.scale == 1 else "points" if metric.unit == "points" else "percent"


def why_absent(study: Study) -> str:
    """Why a section may have nothing to show."""
    if study.missing:
        return "Not measured yet: the artifacts it needs are among those listed as missing above."
    return "Not measured: the pipeline file does not ask for it."


def missing_by_stage(study: Study) -> dict[str, list[Missing]]:
    """Missing artifacts, grouped by their stage."""
    by_stage: dict[str, list[Missing]] = {}
    for artifact in study.missing:
        by_stage.setdefault(artifact["stage"], []).append(artifact)
    return by_stage


def initialisations(study: Study) -> str:
    """How many initialisations stand behind the rows: `3`, or `2 to 3` where arms differ."""
    counts = sorted({r["n"] for r in rows(study) if r["n"]})
    return "" if not counts else str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"


def claims(study: Study) -> list[PairedRow]:
    """Differences that carry a claim, of learned arms at their sparsest level."""
    treated = {a.name for a in arms(study) if a.role == "treatment"}
    paired = [p for p in (study.summary or {}).get("paired") or [] if p["arm"] in treated]
    last = {a: max(p["level"] for p in paired if p["arm"] == a) for a in {p["arm"] for p in paired}}
    return [p for p in paired if p["claim"] and p["level"] == last[p["arm"]]]


def leading(study: Study) -> list[Leading]:
    """The leading eigenvalues of the first copy of every ticket at its arm's sparsest level."""
    looks = {a.name: a for a in arms(study)}
    first = [d for d in spectra.first_copies(study.densities) if d["arm"] in looks and d["eigenvalues"]]
    last = {a: max(d["level"] for d in first if d["arm"] == a) for a in {d["arm"] for d in first}}
    order = list(looks)
    kept = sorted((d for d in first if d["level"] == last[d["arm"]]), key=lambda d: (order.index(d["arm"]), d["seed"]))
    return [Leading(looks[d["arm"]], d, _most(d["eigenvalues"][0])) for d in kept]


def _most(eigenvalue: Eigenvalue) -> tuple[str, float] | None:
    """The layer that holds most of an eigenvector, and its share."""
    shares = eigenvalue.get("layers") or {}
    return max(shares.items(), key=lambda s: s[1]) if shares else None


def unseen(study: Study) -> dict[str, list[str]]:
    """By figure, the labels of the arms that were measured and have no panel in it."""
    measured = {
        "density": {d["arm"] for d in study.densities},
        "histograms": {d["arm"] for d in study.diagonals if d.get("histogram")},
        **{kind: {p["arm"] for p in study.planes if p["kind"] == kind} for kind in surfaces.KINDS},
    }
    return {name: [a.label for a in left_out(study, names)] for name, names in measured.items()}


def levels_table(study: Study) -> list[Group]:
    """The rows by arm, task by task. Dense rows that all arms of a task share stand once, first."""
    listed = arms(study, main=False)
    table: list[Group] = []
    main = study.tasks.get(study.versus)
    tasks = dict.fromkeys([main, *(study.tasks.get(a.name) for a in listed)])
    for task in tasks:
        of_task = [a for a in listed if study.tasks.get(a.name) == task]
        name = f" of {task_label(study, task)}" if len(tasks) > 1 else ""
        suffix = "" if task == main else f", on {task_label(study, task)}"
        dense = [r for r in rows(study) if r["level"] == 0 and r["arm"] in {a.name for a in of_task}]
        same = len(dense) > 1 and all({**r, "arm": ""} == {**dense[0], "arm": ""} for r in dense)
        if same:
            table.append(Group(f"Dense, shared by all arms{name}", None, dense[:1]))
        for arm in of_task:
            levels = [r for r in rows(study) if r["arm"] == arm.name and not (same and r["level"] == 0)]
            if levels:
                table.append(Group(arm.label + suffix, arm.color, levels))
    return table
