"""The page: chooses what stands where and hands it to the template. Selects and formats; computes nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from distill_prune.analyze.declared import columns, in_rows, tested
from distill_prune.analyze.metric import BARRIER, GROUPS, Metric
from distill_prune.analyze.records import PairedRow, estimate_of
from distill_prune.analyze.sentences import sentences
from distill_prune.letters import printable_lines
from distill_prune.report import formats, legend, pictures, spectra, surfaces, tickets, transfer, words
from distill_prune.report.figures import LEADS, Drawing
from distill_prune.report.files import links
from distill_prune.report.model import Column, Group, Leading, Page
from distill_prune.report.paint import variable, variables
from distill_prune.report.style import arms, every_arm, is_text, left_out, metrics, rows, sparsities, task_label
from distill_prune.report.sweep import unit_of
from distill_prune.report.unmeasured import unmeasured
from distill_prune.study.answer_table import COULD_SHOW, arm_rows, difference_rows, set_lines

if TYPE_CHECKING:
    from distill_prune.study.records import Eigenvalue, Missing
    from distill_prune.study.study import Study

SECTIONS = (
    ("against", "Beside the other"),
    ("shares", "Stable and matching"),
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
    ("trainings", "Trainings"),
    ("costs", "Costs"),
    ("tickets", "Every ticket"),
    ("notes", "Notes"),
    ("record", "Record"),
)


def page(study: Study, drawings: Mapping[str, Drawing], tables: Collection[str] = ()) -> tuple[str, dict[str, bytes]]:
    """The page as HTML that asks nothing of any network, and its pictures of sets (name to PNG); `tables` lie beside it."""
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
        "color": variable,
    }
    sheets = pictures.sheets(study)
    html = env.get_template("page.html.j2").render(page=model(study, drawings, sheets, tables))
    return html, {f"set_{i}": sheet.png for i, sheet in enumerate(sheets, start=1)}


def _shown(value: object) -> object:
    """A value as the page takes it: names and labels of anybody cannot turn the text beside them."""
    return printable_lines(value) if type(value) is str else value


def model(study: Study, drawings: Mapping[str, Drawing], sheets: list[pictures.Sheet], tables: Collection[str] = ()) -> Page:
    """What the template takes."""
    listed, figures = arms(study), groups(study)
    in_table = {m.name: m for m in in_rows(study.plugins)}
    document = study.outcome
    made = Page(
        study=study,
        summary=study.summary or {},
        text=is_text(study),
        noun="sentences" if is_text(study) else "images",
        n=initialisations(study),
        sections=[],
        swatches=legend.swatches(listed),
        answer_arms=arm_rows(document, in_table) if document["arms"] else [],
        answer_differences=difference_rows(document["differences"], in_table) if document["differences"] else [],
        could_show=COULD_SHOW if any(line["could_show"] is not None for line in document["differences"]) else "",
        answer_sets=set_lines(document["sets"]),
        evidence=" ".join(sentences(study.answer)),
        leads=[name for name in LEADS if name in drawings],
        unmeasured=unmeasured(study, drawings),
        missing=missing_by_stage(study),
        drawings=drawings,
        groups=figures,
        links={name: links(drawing, tables) for name, drawing in drawings.items()},
        tables=list(tables),
        unseen=unseen(study),
        metrics=metrics(study),
        labels={a.name: a.label for a in every_arm(study)},
        first={a.name for a in listed},
        at=sparsities(study),
        sheets=sheets,
        shares=words.shares(study),
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
        dark=variables(dark=True),
        light=variables(dark=False),
    )
    return replace(made, sections=[(name, title) for name, title in SECTIONS if has_section(made, name)])


def has_section(page: Page, name: str) -> bool:
    """Whether a section has anything to show: one that has nothing is left out, and what it lacks is said in one line."""
    has: dict[str, object] = {
        "against": page.study.against,
        "shares": page.shares,
        "images": page.study.pictures or page.study.evaluations or page.study.rankings,
        "accuracy": page.any_of(*page.groups["accuracy"], *page.groups["scores"]),
        "stability": page.any_of(*page.groups["barrier"], *page.groups["apart"], "interpolation", "layerwise", "between"),
        "rewinding": page.summary.get("scan"),
        "curvature": page.spectra
        or page.any_of(*page.groups["trace"], *page.groups["spectrum"], "layer_traces", "diagonal", "histograms", "density"),
        "further": page.any_of(*page.groups["further"]),
        "landscape": page.study.planes,
        "layers": page.any_of("layers"),
        "levels": page.table,
        "differences": page.summary.get("paired"),
        "overlap": page.any_of("overlap"),
        "transfer": page.moved,
        "controls": page.compared,
        "trainings": page.any_of("training"),
        "costs": page.any_of("costs"),
        "tickets": page.tickets,
    }
    return bool(has.get(name, True))


def groups(study: Study) -> dict[str, list[str]]:
    """Names of the figures that stand together, in order."""
    by_group = {g: [m.name for m in metrics(study).values() if m.group == g] for g in GROUPS}
    return {**by_group, "paired": [f"paired_{m.name}" for m in tested(study.plugins)]}


def level_columns(study: Study) -> list[Column]:
    """The metrics in the table of all levels: those that were measured. What was not is said once, at the end of the page."""
    shown = [m for m in columns(study.plugins) if _in_rows(study, m)]
    return [Column(m.name, m.column or m.heading, unit_of(m)) for m in shown]


def _in_rows(study: Study, metric: Metric) -> bool:
    return any(estimate_of(r, metric.name) for r in rows(study))


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
    """Differences that carry a claim, of learned arms at their sparsest level; of all arms in a study without learned ones."""
    listed = arms(study)
    treated = {a.name for a in listed if a.role == "treatment"} or {a.name for a in listed}
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
