"""The grid of a study: chains of tickets, their copies, what is measured of them, and the summary of everything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from distill_prune.analyze import ANALYSES
from distill_prune.distill import METHODS
from distill_prune.pipeline.config import Arm, Pipeline
from distill_prune.pipeline.jobs import CompareJob, DenseJob, LevelJob, RetrainJob
from distill_prune.pipeline.nodes import Graph, SetMeasure, Unit
from distill_prune.prune import CRITERIA
from distill_prune.prune.imp import Step
from distill_prune.settings import Duration, fixed_steps


def _first(p: Pipeline) -> Duration:
    """Where the schedule of training from W_k begins."""
    return p.prune.rewind.k if p.prune.rewind.schedule == "continue" else "0it"


def _recipe_name(arm: Arm) -> str:
    return arm.recipe or ("retrain" if arm.images == "real" else "prune")


def chain(g: Graph, arm_name: str, seed: int) -> None:
    """The tickets of one chain, their copies and the copies' analyses."""
    p, arm = g.pipeline, g.pipeline.arms[arm_name]
    common: dict[str, Any] = {"threads": p.threads, "seed": seed}
    criterion = arm.criterion or p.prune.criterion
    needs = CRITERIA[criterion.name].NEEDS_TRAINING
    k, on_source = p.prune.rewind.k, p.prune.rewind.on == "source" and needs
    whole = _recipe_name(arm) == "retrain"
    recipe, first = (
        ((p.prune.real or p.retrain.recipe) if whole else p.prune.recipe),
        (_first(p) if whole or on_source else "0it"),
    )
    if arm.images == "real" and not whole:
        for name, duration in (("length", recipe.length), ("warmup", recipe.warmup)):
            fixed_steps(
                duration if int(duration[:-2]) else "0it",
                why=f"arms.{arm_name} prunes on real data for as long as the synthetic arm, so "
                f"prune.recipe.{name} must not depend on the size of the set",
            )
    if on_source:
        fixed_steps(k, why="prune.rewind.k counts steps on sets of several sizes with `on: source`")
    images = g.data if arm.images == "real" else g.sets[arm.images]
    start = (recipe, images) if on_source else (p.retrain.recipe, g.data)
    zero = int(k[:-2]) == 0
    dense = g.add(
        "prune",
        DenseJob(model=p.model, k=k, recipe=None if zero else start[0], **common),
        {"data": g.data} | ({} if zero or start[1] == g.data else {"images": start[1]}),
        f"dense seed {seed}",
        "dense",
    )
    ticket = dense
    tickets = g.chains[arm_name, seed] = []
    for level in range(p.prune.levels + 1):
        if level:
            step = Step(rate=p.prune.rate, criterion=criterion, rewind=p.prune.rewind.tensors)
            job = LevelJob(
                level=level,
                step=step,
                model=p.model if needs else None,
                recipe=recipe if needs else None,
                first=first if needs else "0it",
                **common,
            )
            inputs = {"previous": ticket, "dense": dense, **({"images": images} if needs else {})}
            ticket = g.add("prune", job, inputs, f"{arm_name} seed {seed} level {level}", f"prune {arm_name}")
        tickets.append(ticket)
        if level in p.compared():
            g.units.append(_measured(g, arm_name, seed, level, ticket))


def _measured(g: Graph, arm: str, seed: int, level: int, ticket: str) -> Unit:
    """The ticket's copies and the analyses of them."""
    p = g.pipeline
    common: dict[str, Any] = {"threads": p.threads, "seed": seed, "model": p.model}
    label = f"{arm} seed {seed} level {level}" if level else f"dense seed {seed}"
    copies = tuple(
        g.add(
            "retrain",
            RetrainJob(copy_index=c, recipe=p.retrain.recipe, first=_first(p), **common),
            {"ticket": ticket, "data": g.data},
            f"{label} copy {c}",
        )
        for c in range(p.retrain.copies)
    )
    inputs = {"data": g.data, "ticket": ticket, **{f"copy{c}": key for c, key in enumerate(copies)}}
    measured = {
        name: g.add("compare", CompareJob(analysis=settings, **common), inputs, f"{name} of {label}", f"compare {name}")
        for name, settings in p.compare.items()
        if ANALYSES[name].TAKES == "copies"
    }
    return Unit(arm, seed, level, ticket, copies, measured)


def comparisons(g: Graph) -> None:
    """Overlaps with the control, evaluations of the sets, and the summary of everything."""
    p = g.pipeline
    by_place = {(u.arm, u.seed, u.level): u for u in g.units}
    roles: dict[str, dict[str, Any]] = {}
    inputs: dict[str, str] = {}

    def role(name: str, key: str, **what: Any) -> None:
        inputs[name], roles[name] = key, what

    for u in g.units:
        place = {"arm": u.arm, "seed": u.seed, "level": u.level}
        where = f"{u.arm}/{u.seed}/{u.level}"
        for name, key in u.measured.items():
            role(f"{name}/{where}", key, kind=name, **place)
        other = by_place.get((p.versus, u.seed, u.level))
        for name, settings in p.compare.items():
            if ANALYSES[name].TAKES != "pair" or other is None or not u.level or u.arm == p.versus:
                continue
            job = CompareJob(analysis=settings, threads=p.threads)
            label = f"{name} of {u.arm} and {p.versus} seed {u.seed} level {u.level}"
            key = g.add("compare", job, {"a": u.ticket, "b": other.ticket}, label, f"compare {name}")
            role(f"{name}/{where}", key, kind=name, versus=p.versus, **place)
    for (arm, seed), tickets in g.chains.items():  # costs and sparsities of every level, compared or not
        for level, key in enumerate(tickets):
            role(f"ticket/{arm}/{seed}/{level}", key, kind="ticket", arm=arm, seed=seed, level=level)
    control = {name: is_control(g.methods[name]) for name in g.sets}
    for name, key in g.sets.items():
        made = g.nodes.get(key)
        by_experts = None if made is None else "expert0" in made.inputs
        role(f"set/{name}", key, kind="set", set=name, experts=by_experts)
    _measure_sets(g, control)
    for key, node in g.nodes.items():
        if node.stage == "experts":
            role(f"expert/{len([r for r in roles.values() if r['kind'] == 'expert'])}", key, kind="expert")
    arms = [
        {
            "name": n,
            "label": a.label,
            "images": a.images,
            "learned": a.images in control and not control[a.images],
            "other_data": getattr(p.distill.get(a.images), "other_data", False),
            "recipe": _recipe_name(a),
            "criterion": (a.criterion or p.prune.criterion).name,
        }
        for n, a in p.arms.items()
    ]
    summary = CompareJob(
        analysis=ANALYSES["summary"].Settings(versus=p.versus, margin=p.margin),
        threads=p.threads,
        roles={"arms": arms, "inputs": roles},
    )
    g.summary = g.add("compare", summary, inputs, "summary", "compare summary")


def is_control(method: str) -> bool:
    """Whether a set made by `method` holds plain real images: a control, not the treatment."""
    return method in METHODS and getattr(METHODS[method], "REAL_IMAGES", False)


def _measure_sets(g: Graph, control: Mapping[str, bool]) -> None:
    """The analyses of every set; evaluation with the other architectures, too."""
    p = g.pipeline
    rate_of = next((key for name, key in g.sets.items() if not control[name]), None)
    for name, key in g.sets.items():
        if getattr(p.distill[name], "other_data", False):
            continue  # a set of another space says nothing when tested in this one
        rate = {"rate_of": rate_of} if control[name] and rate_of else {}
        for analysis, settings in p.compare.items():
            if ANALYSES[analysis].TAKES != "set":
                continue
            for architecture, model in {"": p.teacher, **(p.architectures if analysis == "evaluation" else {})}.items():
                job = CompareJob(analysis=settings, model=model, threads=p.threads)
                label = f"{analysis} of set {name}" + (f" with {architecture}" if architecture else "")
                made = g.add("compare", job, {"data": g.data, "set": key, **rate}, label, f"compare {analysis}")
                g.set_measures.append(SetMeasure(name, analysis, architecture, made))
