"""The grid of a study: chains of tickets, their copies, and what is measured of these."""

from __future__ import annotations

from distill_prune.duration import NONE, Duration
from distill_prune.plan.arms import Arm, ControlOf, Placed
from distill_prune.plan.jobs import ControlJob, DenseJob, LevelJob, MaskLevelJob, ScoredLevelJob, TrainedLevelJob
from distill_prune.plan.measures import measured, retrained
from distill_prune.plan.nodes import Chain, Graph, drawn
from distill_prune.plan.roles import numbered
from distill_prune.prune import CRITERIA, needs_images, needs_model
from distill_prune.prune.controls import Control
from distill_prune.prune.imp import Step
from distill_prune.training import Recipe


def chain(g: Graph, placed: Placed, seed: int, draw: int | None = None) -> None:
    """The tickets of one chain, with sets of one draw, their copies and the copies' analyses. The arm that it is made from
    comes before. A dense network that depends on no set is one unit, that of the first draw, and without a draw of its own."""
    place, control = Chain(placed.name, seed, draw), placed.arm.control
    tickets = _control(g, placed, control, place) if control else _search(g, placed, place)
    g.chains[place.key] = tickets
    first = draw == g.pipeline.draws(seed)[0]
    for level in g.pipeline.compared():
        at = place if level or "images" in g.nodes[tickets[0]].inputs else place._replace(draw=None)
        if at == place or first:
            g.add_unit(measured(g, placed, at, level, tickets[level]))


def _dense(g: Graph, placed: Placed, seed: int, recipe: Recipe | None = None, images: str | None = None, draw: int = 0) -> str:
    """Level 0, trained to step k by `recipe` on `images`: by default, the retraining recipe and the real data of the arm's
    task. With k = 0 it depends on neither, and all arms of a seed and task share it."""
    k, data = placed.k, g.real(placed.task)
    recipe, images = recipe or g.pipeline.retrain.recipe, images or data
    zero = k.count == 0
    label = f"dense seed {seed}" + ("" if k == g.pipeline.prune.rewind.k else f" k {k}") + (f" draw {draw}" if draw else "")
    label += f" of {placed.task}" if placed.task else ""
    return g.add(
        "prune",
        DenseJob(model=g.pipeline.model, k=k, recipe=None if zero else recipe, seed=seed, draw=draw),
        {"data": data} | ({} if zero or images == data else {"images": images}),
        label,
        "dense",
    )


def _control(g: Graph, placed: Placed, control: ControlOf, place: Chain) -> dict[int, str]:
    """The parent's compared levels with one property removed; the dense level is the parent's, or that of the arm's task."""
    p, seed = g.pipeline, place.seed
    if control.kind == "intersection":
        return _intersection(g, control, place)
    parent = g.chain(place._replace(arm=control.of))
    tickets = {0: _dense(g, placed, seed) if control.kind == "transferred" else parent[0]}
    dense = tickets[0]
    if control.kind in ("reinitialised", "signs", "permuted"):
        dense = _dense(g, placed, seed, draw=1)
    removed = Control(kind=control.kind, mask=control.mask, norms=control.norms)
    model = p.model if control.kind == "permuted" else None
    for level in p.compared()[1:]:
        job = ControlJob(seed=seed, level=level, control=removed, model=model)
        inputs = {"of": parent[level], "dense": dense}
        if control.kind == "signs":
            inputs["trained"] = g.unit(control.of, parent[level]).copies[0]
        elif control.kind == "permuted":
            inputs["trained"] = g.unit(control.of, parent[0]).copies[0]
            inputs["target"] = retrained(g, placed, seed, 0, dense, 0, f"{g.nodes[dense].label} copy 0")
        tickets[level] = g.add("prune", job, inputs, f"{place} level {level}", "prune control")
    return tickets


def _intersection(g: Graph, control: ControlOf, place: Chain) -> dict[int, str]:
    """What the parent's tickets of all draws have in common, level by level."""
    parents = [g.chain(Chain(control.of, place.seed, draw)) for draw in g.pipeline.draws(place.seed)]
    tickets = {0: parents[0][0]}
    for level in g.pipeline.compared()[1:]:
        job = ControlJob(seed=place.seed, level=level, control=Control(kind="intersection"))
        inputs = {**numbered("of", (parent[level] for parent in parents)), "dense": tickets[0]}
        tickets[level] = g.add("prune", job, inputs, f"{place} level {level}", "prune control")
    return tickets


def _search(g: Graph, placed: Placed, place: Chain) -> dict[int, str]:
    """Levels by pruning the level before, or the dense network (`one_shot`). With `begins` the first are another arm's."""
    p, arm, k, seed = g.pipeline, placed.arm, placed.k, place.seed
    criterion = arm.criterion or p.prune.criterion
    entry = CRITERIA[criterion.name]
    whole = arm.recipe_name == "retrain"
    on_source = p.prune.rewind.on == "source" and entry.NEEDS_TRAINING
    recipe = (p.prune.real or p.retrain.recipe) if whole else p.prune.recipe
    # Where the schedule of training from W_k begins.
    first = k if (whole or on_source) and p.prune.rewind.schedule == "continue" else NONE
    _check_lengths(placed.name, arm, recipe, on_source, k)
    images = g.real(placed.task) if arm.images == "real" else g.sets[drawn(arm.images, place.draw)]
    if arm.begins is not None:
        parent = g.chain(place._replace(arm=arm.begins.arm))
        tickets = {level: key for level, key in parent.items() if level <= arm.begins.level}
    else:
        tickets = {0: _dense(g, placed, seed, *((recipe, images) if on_source else ()))}
    looks = {"images": images} if needs_images(entry) else {}
    for level in p.compared()[1:] if arm.one_shot else range(len(tickets), p.prune.levels + 1):
        step = Step(
            rate=p.prune.rate,
            criterion=criterion,
            rewind=arm.rewind or p.prune.rewind.tensors,
            rounds=level if arm.one_shot else 1,
            share=p.prune.share,
            head=p.prune.rewind.head,
        )
        job: LevelJob
        if entry.NEEDS_TRAINING:
            job = TrainedLevelJob(seed=seed, level=level, step=step, model=p.model, recipe=recipe, first=first)
        elif needs_model(entry) or step.head:
            job = ScoredLevelJob(seed=seed, level=level, step=step, model=p.model)
        else:
            job = MaskLevelJob(seed=seed, level=level, step=step)
        inputs = {"previous": tickets[0 if arm.one_shot else level - 1], "dense": tickets[0], **looks}
        tickets[level] = g.add("prune", job, inputs, f"{place} level {level}", f"prune {placed.name}")
    return tickets


def _check_lengths(name: str, arm: Arm, recipe: Recipe, on_source: bool, k: Duration) -> None:
    if arm.images == "real" and arm.recipe_name != "retrain":
        for what, duration in (("length", recipe.length), ("warmup", recipe.warmup)):
            duration.require_steps(
                f"arms.{name} prunes on real data for as long as the synthetic arm, so "
                f"prune.recipe.{what} must not depend on the size of the set",
            )
    if on_source:
        k.require_steps("prune.rewind.k counts steps on sets of several sizes with `on: source`")
