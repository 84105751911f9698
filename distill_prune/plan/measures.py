"""What is measured of a grid: of a ticket's copies, of two tickets, of a synthetic set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from distill_prune.analyze import ANALYSES
from distill_prune.duration import NONE
from distill_prune.plan.arms import Placed, scanned
from distill_prune.plan.config import Only
from distill_prune.plan.jobs import CompareJob, RetrainJob
from distill_prune.plan.nodes import Between, Graph, SetMeasure, Unit, is_control
from distill_prune.plan.roles import numbered

EVERYTHING = Only()


def measured(g: Graph, placed: Placed, seed: int, level: int, ticket: str) -> Unit:
    """The ticket's copies and the analyses of them."""
    p, arm = g.pipeline, placed.name
    label = f"{arm} seed {seed} level {level}" if level else f"dense seed {seed}"
    if not level and placed.k != p.prune.rewind.k:
        label += f" k {placed.k}"
    if placed.task and not level:
        label += f" of {placed.task}"
    first, data = placed.k if p.prune.rewind.schedule == "continue" else NONE, g.real(placed.task)
    recipe = p.retrain.recipe
    if placed.arm.retrain == "chain":
        recipe = recipe.model_copy(update={"length": recipe.length * (level + 1)})
    copies = tuple(
        g.add(
            "retrain",
            RetrainJob(model=p.model, seed=seed, copy_index=c, recipe=recipe, first=first),
            {"ticket": ticket, "data": data},
            f"{label} copy {c}",
        )
        for c in range(p.retrain.copies)
    )
    inputs = {"data": data, "ticket": ticket, **numbered("copy", copies)}
    analyses = {
        name: g.add(
            "compare",
            CompareJob(analysis=settings, model=p.model, seed=seed),
            inputs | (_images(g, name) if placed.task is None else {}),
            f"{name} of {label}",
            f"compare {name}",
        )
        for name, settings in p.compare.items()
        if ANALYSES[name].TAKES == "copies" and p.only.get(name, EVERYTHING).holds(arm, seed, level)
    }
    return Unit(arm, seed, level, ticket, copies, analyses)


def _images(g: Graph, analysis: str) -> dict[str, str]:
    """The learned images, for an analysis that looks at them, where the study has some."""
    return {"distilled": g.learned} if ANALYSES[analysis].DISTILLED and g.learned else {}


def versus(g: Graph, placed: Placed) -> str:
    """The arm that an arm is compared with: the control, at the arm's own step of a scan."""
    name = g.pipeline.versus
    return scanned(name, placed.k) if placed.base else name


def pairs(g: Graph) -> Iterator[tuple[str, Unit, Unit]]:
    """Kind, unit and other unit: each pruned level with the control's, and each compared level with the one before."""
    by_place = {(u.arm, u.seed, u.level): u for u in g.units}
    arms = g.pipeline.placed()
    before = {b: a for a, b in pairwise(g.pipeline.compared())}
    for u in g.units:
        control = versus(g, arms[u.arm])
        other = by_place.get((control, u.seed, u.level))
        if other is not None and u.level and u.arm != control and arms[u.arm].task == arms[control].task:
            yield "arms", u, other
        if u.level:
            yield "levels", u, by_place[u.arm, u.seed, before[u.level]]


def betweens(g: Graph) -> None:
    """The analyses of two tickets: of their masks alone (with the control's), or of the lines between their copies."""
    p, arms = g.pipeline, g.pipeline.placed()
    for name, settings in p.compare.items():
        takes, only = ANALYSES[name].TAKES, p.only.get(name, EVERYTHING)
        for kind, u, other in pairs(g) if takes in ("pair", "tickets") else ():
            if not only.holds(u.arm, u.seed, u.level) or kind not in (only.pairs if takes == "tickets" else ("arms",)):
                continue
            if u.ticket == other.ticket:
                continue  # a chain that begins with the control's levels
            what = other.arm if kind == "arms" else f"level {other.level}"
            label = f"{name} of {u.arm} and {what} seed {u.seed} level {u.level}"
            if takes == "pair":
                job, inputs = CompareJob(analysis=settings), {"a": u.ticket, "b": other.ticket}
            else:
                job = CompareJob(analysis=settings, seed=u.seed, model=p.model)
                inputs = {"data": g.real(arms[u.arm].task), "a": u.ticket, "b": other.ticket}
                inputs |= numbered("a_copy", u.copies) | numbered("b_copy", other.copies)
            g.betweens.append(Between(kind, name, u, other, g.add("compare", job, inputs, label, f"compare {name}")))


def measure_sets(g: Graph) -> None:
    """The analyses of every set; evaluation with the other architectures, too."""
    p = g.pipeline
    control = {name: is_control(g.methods[name]) for name in g.sets}
    rate_of = next((key for name, key in g.sets.items() if not control[name]), None)
    for name, key in g.sets.items():
        if p.of_other_data(name):
            continue  # a set of another space says nothing when tested in this one
        rate = {"rate_of": rate_of} if control[name] and rate_of else {}
        for analysis, settings in p.compare.items():
            if ANALYSES[analysis].TAKES != "set":
                continue
            for architecture, model in {"": p.teacher, **(p.architectures if analysis == "evaluation" else {})}.items():
                job = CompareJob(analysis=settings, model=model)
                label = f"{analysis} of set {name}" + (f" with {architecture}" if architecture else "")
                measure = g.add("compare", job, {"data": g.data, "set": key, **rate}, label, f"compare {analysis}")
                g.set_measures.append(SetMeasure(name, analysis, architecture, measure))
