"""The grid of a study: chains of tickets, their copies, what is measured of them, and the summary of everything."""

from __future__ import annotations

from typing import Any

from distill_prune.analyze import ANALYSES
from distill_prune.analyze.metric import foreign
from distill_prune.duration import NONE, Duration
from distill_prune.plan.arms import Arm, Placed
from distill_prune.plan.jobs import CompareJob, ControlJob, DenseJob, LevelJob
from distill_prune.plan.measures import betweens, measure_sets, measured
from distill_prune.plan.nodes import Graph, is_control
from distill_prune.prune import CRITERIA, needs_images, needs_model
from distill_prune.prune.controls import Control
from distill_prune.prune.imp import Step
from distill_prune.training import Recipe


def recipe_name(arm: Arm) -> str:
    return arm.recipe or ("retrain" if arm.images == "real" else "prune")


def chain(g: Graph, placed: Placed, seed: int) -> None:
    """The tickets of one chain, their copies and the copies' analyses. The arm that it is made from comes before."""
    make = _control if placed.arm.control else _search
    tickets = g.chains[placed.name, seed] = make(g, placed, seed)
    for level in g.pipeline.compared():
        g.units.append(measured(g, placed, seed, level, tickets[level]))


def _dense(g: Graph, placed: Placed, seed: int, recipe: Recipe | None = None, images: str | None = None, draw: int = 0) -> str:
    """Level 0: by `recipe` on `images`, which are the retraining recipe and the real data of the arm's task where not given;
    with k = 0 it depends on neither, and all arms of a seed and task share it."""
    k, data = placed.k, g.real(placed.task)
    recipe, images = recipe or g.pipeline.retrain.recipe, images or data
    zero = k.count == 0
    label = f"dense seed {seed}" + ("" if k == g.pipeline.prune.rewind.k else f" k {k}") + (f" draw {draw}" if draw else "")
    label += f" of {placed.task}" if placed.task else ""
    return g.add(
        "prune",
        DenseJob(
            model=g.pipeline.model, k=k, recipe=None if zero else recipe, threads=g.pipeline.threads, seed=seed, draw=draw
        ),
        {"data": data} | ({} if zero or images == data else {"images": images}),
        label,
        "dense",
    )


def _control(g: Graph, placed: Placed, seed: int) -> dict[int, str]:
    """The parent's compared levels with one thing taken away; the dense level is the parent's, or the own task's."""
    p, control = g.pipeline, placed.arm.control
    assert control is not None
    parent = g.chains[control.of, seed]
    tickets = {0: _dense(g, placed, seed) if control.kind == "transferred" else parent[0]}
    dense = tickets[0]
    if control.kind == "reinitialised":
        dense = _dense(g, placed, seed, draw=1)
    for level in p.compared()[1:]:
        job = ControlJob(seed=seed, level=level, control=Control(kind=control.kind), threads=p.threads)
        label = f"{placed.name} seed {seed} level {level}"
        tickets[level] = g.add("prune", job, {"of": parent[level], "dense": dense}, label, "prune control")
    return tickets


def _search(g: Graph, placed: Placed, seed: int) -> dict[int, str]:
    """Levels by pruning: of the level before, or (one-shot) of the dense network; the first ones another arm's, where said."""
    p, arm, k = g.pipeline, placed.arm, placed.k
    criterion = arm.criterion or p.prune.criterion
    entry = CRITERIA[criterion.name]
    trains = entry.NEEDS_TRAINING
    whole = recipe_name(arm) == "retrain"
    on_source = p.prune.rewind.on == "source" and trains
    recipe = (p.prune.real or p.retrain.recipe) if whole else p.prune.recipe
    # Where the schedule of training from W_k begins.
    first = k if (whole or on_source) and p.prune.rewind.schedule == "continue" else NONE
    _check_lengths(placed.name, arm, recipe, on_source, k)
    images = g.real(placed.task) if arm.images == "real" else g.sets[arm.images]
    if arm.begins is not None:
        tickets = {level: key for level, key in g.chains[arm.begins.arm, seed].items() if level <= arm.begins.level}
    else:
        tickets = {0: _dense(g, placed, seed, *((recipe, images) if on_source else ()))}
    looks = {"images": images} if needs_images(entry) else {}
    for level in p.compared()[1:] if arm.one_shot else range(len(tickets), p.prune.levels + 1):
        rounds = level if arm.one_shot else 1
        job = LevelJob(
            level=level,
            step=Step(
                rate=p.prune.rate,
                criterion=criterion,
                rewind=arm.rewind or p.prune.rewind.tensors,
                rounds=rounds,
                share=p.prune.share,
                head=p.prune.rewind.head,
            ),
            model=p.model if needs_model(entry) or p.prune.rewind.head else None,
            recipe=recipe if trains else None,
            first=first if trains else NONE,
            threads=p.threads,
            seed=seed,
        )
        inputs = {"previous": tickets[0 if arm.one_shot else level - 1], "dense": tickets[0], **looks}
        tickets[level] = g.add("prune", job, inputs, f"{placed.name} seed {seed} level {level}", f"prune {placed.name}")
    return tickets


def _check_lengths(name: str, arm: Arm, recipe: Recipe, on_source: bool, k: Duration) -> None:
    if arm.images == "real" and recipe_name(arm) != "retrain":
        for what, duration in (("length", recipe.length), ("warmup", recipe.warmup)):
            duration.fixed_steps(
                f"arms.{name} prunes on real data for as long as the synthetic arm, so "
                f"prune.recipe.{what} must not depend on the size of the set",
            )
    if on_source:
        k.fixed_steps("prune.rewind.k counts steps on sets of several sizes with `on: source`")


def comparisons(g: Graph) -> None:
    """What is measured of two tickets and of the sets, and the summary of everything."""
    p = g.pipeline
    betweens(g)
    measure_sets(g)
    inputs, roles = _roles(g)
    summary = CompareJob(
        analysis=ANALYSES["summary"].Settings(versus=p.versus, margin=p.margin, claim_p=p.claim_p, plugins=foreign(p.compare)),
        threads=p.threads,
        roles={"arms": [_record(g, placed) for placed in p.placed().values()], "inputs": roles},
    )
    g.summary = g.add("compare", summary, inputs, "summary", "compare summary")


def _roles(g: Graph) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """What the summary is made of: keys by role, and what each role is."""
    roles: dict[str, dict[str, Any]] = {}
    inputs: dict[str, str] = {}

    def role(name: str, key: str, **what: Any) -> None:
        inputs[name], roles[name] = key, what

    arms = g.pipeline.placed()
    masks = {(b.unit.arm, b.unit.seed, b.unit.level, b.analysis): b for b in g.betweens if ANALYSES[b.analysis].TAKES == "pair"}
    for u in g.units:
        place = {"arm": u.arm, "seed": u.seed, "level": u.level}
        where = f"{u.arm}/{u.seed}/{u.level}"
        for name, key in u.measured.items():
            role(f"{name}/{where}", key, kind=name, **place)
        for name in g.pipeline.compare:
            if (pair := masks.get((u.arm, u.seed, u.level, name))) is not None:
                role(f"{name}/{where}", pair.key, kind=name, versus=pair.other.arm, **place)
    for (arm, seed), tickets in g.chains.items():  # costs and sparsities of every level, compared or not
        deepest = max(tickets)
        for level, key in tickets.items():
            # Levels of a one-shot arm are not made from one another; a control is not found by a search.
            counted = not arms[arm].arm.control and (not arms[arm].arm.one_shot or level == deepest)
            role(
                f"ticket/{arm}/{seed}/{level}",
                key,
                kind="ticket",
                arm=arm,
                seed=seed,
                level=level,
                **({} if counted else {"counted": False}),
            )
    for name, key in g.sets.items():
        made = g.nodes.get(key)
        by_experts = None if made is None else "expert0" in made.inputs
        role(f"set/{name}", key, kind="set", set=name, experts=by_experts)
    for key, node in g.nodes.items():
        if node.stage == "experts":
            role(f"expert/{len([r for r in roles.values() if r['kind'] == 'expert'])}", key, kind="expert")
    return inputs, roles


def _record(g: Graph, placed: Placed) -> dict[str, Any]:
    """An arm as the summary knows it."""
    p, arm = g.pipeline, placed.arm
    more: dict[str, Any] = {}
    if placed.step is not None:
        more["k"] = str(placed.step)
    if placed.base is not None:
        more["base"] = placed.base
    if arm.control is not None:
        more["control"] = {"of": arm.control.of, "kind": arm.control.kind}
    if arm.begins is not None:
        more["begins"] = {"arm": arm.begins.arm, "level": arm.begins.level}
    if arm.one_shot:
        more["one_shot"] = True
    if placed.task is not None:
        more["task"] = placed.task
    if (score := getattr(p.data if placed.task is None else p.tasks[placed.task], "score", "accuracy")) != "accuracy":
        more["score"] = score
    if arm.rewind is not None:
        more["rewind"] = arm.rewind
    if arm.retrain != "once":
        more["retrain"] = arm.retrain
    return {
        "name": placed.name,
        "label": arm.label,
        "images": arm.images,
        "learned": arm.images in g.sets and not is_control(g.methods[arm.images]),
        "other_data": getattr(p.distill.get(arm.images), "other_data", False),
        "recipe": recipe_name(arm),
        "criterion": (arm.criterion or p.prune.criterion).name,
        **more,
    }
