"""What is measured of a grid: of a ticket's copies, of two tickets, of a synthetic set."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from distill_prune.analyze import ANALYSES
from distill_prune.duration import NONE
from distill_prune.plan.arms import Placed, scanned
from distill_prune.plan.jobs import CompareJob, RetrainJob
from distill_prune.plan.nodes import Between, Chain, Graph, SetMeasure, Unit, drawn, is_control
from distill_prune.plan.roles import numbered
from distill_prune.plan.sections import Only

EVERYTHING = Only()


def measured(g: Graph, placed: Placed, place: Chain, level: int, ticket: str) -> Unit:
    """The ticket's copies and the analyses of them."""
    p, arm, seed = g.pipeline, placed.name, place.seed
    label = f"{place} level {level}" if level else str(place._replace(arm="dense"))
    if not level and placed.k != p.prune.rewind.k:
        label += f" k {placed.k}"
    if placed.task and not level:
        label += f" of {placed.task}"
    copies = tuple(retrained(g, placed, seed, level, ticket, c, f"{label} copy {c}") for c in range(p.retrain.copies))
    inputs = {"data": g.real(placed.task), "ticket": ticket, **numbered("copy", copies)}
    analyses = {
        name: g.add(
            "compare",
            CompareJob(analysis=settings, model=p.model, seed=seed),
            inputs | (_images(g, name, place) if placed.task is None else {}),
            f"{name} of {label}",
            f"compare {name}",
        )
        for name, settings in p.compare.items()
        if ANALYSES[name].TAKES == "copies" and p.only.get(name, EVERYTHING).holds(arm, seed, level)
    }
    return Unit(arm, seed, level, ticket, copies, analyses, place.draw)


def retrained(g: Graph, placed: Placed, seed: int, level: int, ticket: str, index: int, label: str) -> str:
    """One copy of a ticket of the arm's level: trained from W_k on the real data of the arm's task."""
    p = g.pipeline
    recipe, first = p.retrain.recipe, placed.k if p.prune.rewind.schedule == "continue" else NONE
    if placed.arm.retrain == "chain":
        recipe = recipe.model_copy(update={"length": recipe.length * (level + 1)})
    job = RetrainJob(model=p.model, seed=seed, copy_index=index, recipe=recipe, first=first)
    return g.add("retrain", job, {"ticket": ticket, "data": g.real(placed.task)}, label)


def _images(g: Graph, analysis: str, place: Chain) -> dict[str, str]:
    """The learned images, for an analysis that looks at them, where the study has some; without a draw of its own, of the first
    draw of the seed."""
    draw = g.pipeline.draws(place.seed)[0] if place.draw is None else place.draw
    learned = g.learned(draw) if ANALYSES[analysis].DISTILLED else None
    return {"distilled": learned} if learned else {}


def versus(g: Graph, placed: Placed) -> str:
    """The arm that an arm is compared with: the control, at the arm's own step of a scan."""
    name = g.pipeline.versus
    return scanned(name, placed.k) if placed.base else name


def pairs(g: Graph) -> Iterator[tuple[str, Unit, Unit]]:
    """Kind, unit and other unit: each pruned level with the control's, and each compared level with the one before."""
    by_place = {(*u.chain, u.level): u for u in g.units}
    arms = g.pipeline.placed()
    before = {b: a for a, b in pairwise(g.pipeline.compared())}
    for u in g.units:
        control = versus(g, arms[u.arm])
        draws = (u.draw, None, g.pipeline.draws(u.seed)[0])
        other = next((by_place[at] for d in draws if (at := (control, u.seed, d, u.level)) in by_place), None)
        if other is not None and u.level and u.arm != control and arms[u.arm].task == arms[control].task:
            yield "arms", u, other
        if u.level:
            below = (*u.chain, before[u.level])
            yield "levels", u, by_place[below] if below in by_place else by_place[u.arm, u.seed, None, 0]


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
            label = f"{name} of {u.arm} and {what} {u.chain.where} level {u.level}"
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
    for name, draw in ((name, draw) for name in p.distill for draw in g.draws):
        this = drawn(name, draw)
        if p.of_other_data(name):
            continue  # a set of another space says nothing when tested in this one
        trained = next((g.sets[drawn(n, draw)] for n in p.distill if g.is_learned(n)), None)
        rate = {"rate_of": trained} if is_control(g.methods[this]) and trained else {}
        for analysis, settings in p.compare.items():
            if ANALYSES[analysis].TAKES != "set":
                continue
            for architecture, model in {"": p.teacher, **(p.architectures if analysis == "evaluation" else {})}.items():
                job = CompareJob(analysis=settings, model=model)
                label = f"{analysis} of set {this}" + (f" with {architecture}" if architecture else "")
                inputs = {"data": g.data, "set": g.sets[this], **rate}
                measure = g.add("compare", job, inputs, label, f"compare {analysis}")
                g.set_measures.append(SetMeasure(this, analysis, architecture, measure))
