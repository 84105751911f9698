"""The summary of a study: its settings, its inputs, and what each of them is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeVar

from distill_prune.analyze import ANALYSES
from distill_prune.analyze.declared import foreign
from distill_prune.analyze.records import ArmRecord
from distill_prune.plan.arms import Placed
from distill_prune.plan.jobs import CompareJob
from distill_prune.plan.nodes import Chain, Graph, drawn
from distill_prune.plan.records import Role, SetRole, TicketRole, UnitRole
from distill_prune.plan.roles import keys_of


def summary(g: Graph) -> str:
    """Add the summary to the graph; its key."""
    p = g.pipeline
    inputs: dict[str, str] = {}
    roles: dict[str, Role] = {}
    for part in (_units(g), _tickets(g), _sets(g), _experts(g)):
        for name, key, role in part:
            inputs[name], roles[name] = key, role
    job = CompareJob(
        analysis=ANALYSES["summary"].Settings.model_validate(
            {"versus": p.versus, "margin": p.margin, "claim_p": p.claim_p, "plugins": foreign(p.compare)}
        ),
        roles={"arms": [_arm(g, placed) for placed in p.placed().values()], "inputs": roles},
    )
    return g.add("compare", job, inputs, "summary", "compare summary")


def _units(g: Graph) -> Iterator[tuple[str, str, UnitRole]]:
    """The analyses of every ticket's copies, and of its mask beside another arm's: name, key and role."""
    pairs = {(*b.unit.chain, b.unit.level, b.analysis): b for b in g.betweens if ANALYSES[b.analysis].TAKES == "pair"}
    for u in g.units:
        where = f"{_where(u.chain)}/{u.level}"
        for name, key in u.measured.items():
            role: UnitRole = {"kind": name, "arm": u.arm, "seed": u.seed, "level": u.level}
            yield f"{name}/{where}", key, _at(role, u.draw)
        for name in g.pipeline.compare:
            if (pair := pairs.get((*u.chain, u.level, name))) is not None:
                versus = pair.other.arm
                role = {"kind": name, "versus": versus, "arm": u.arm, "seed": u.seed, "level": u.level}
                yield f"{name}/{where}", pair.key, _at(role, u.draw)


def _tickets(g: Graph) -> Iterator[tuple[str, str, TicketRole]]:
    """Every level, compared or not, for its cost and sparsity."""
    arms = g.pipeline.placed()
    for chain_key, tickets in g.chains.items():
        place, deepest = Chain(*chain_key), max(tickets)
        arm = place.arm
        for level, key in tickets.items():
            role: TicketRole = {"kind": "ticket", "arm": arm, "seed": place.seed, "level": level}
            # Levels of a one-shot arm are not made from one another; a control is not found by a search.
            if arms[arm].arm.control or (arms[arm].arm.one_shot and level != deepest):
                role["counted"] = False
            yield f"ticket/{_where(place)}/{level}", key, _at(role, place.draw)


def _sets(g: Graph) -> Iterator[tuple[str, str, SetRole]]:
    for name, draw in ((name, draw) for name in g.pipeline.distill for draw in g.draws):
        key = g.sets[drawn(name, draw)]
        node = g.nodes.get(key)
        by_experts = None if node is None else bool(keys_of("expert", node.inputs))
        role: SetRole = {"kind": "set", "set": name, "experts": by_experts}
        yield f"set/{drawn(name, draw)}", key, _at(role, draw)


T = TypeVar("T", TicketRole, UnitRole, SetRole)


def _at(role: T, draw: int | None) -> T:
    """The role with the draw of its sets, where there are several."""
    if draw is not None:
        role["draw"] = draw
    return role


def _where(place: Chain) -> str:
    return f"{place.arm}/{place.seed}" + ("" if place.draw is None else f"/draw {place.draw}")


def _experts(g: Graph) -> Iterator[tuple[str, str, Role]]:
    keys = (key for key, node in g.nodes.items() if node.stage == "experts")
    for i, key in enumerate(keys):
        yield f"expert/{i}", key, {"kind": "expert"}


def _arm(g: Graph, placed: Placed) -> ArmRecord:
    """An arm as the summary knows it."""
    p, arm = g.pipeline, placed.arm
    data = p.data if placed.task is None else p.tasks[placed.task]
    record: ArmRecord = {
        "name": placed.name,
        "label": arm.label,
        "images": arm.images,
        "learned": g.is_learned(arm.images),
        "other_data": p.of_other_data(arm.images),
        "recipe": arm.recipe_name,
        "criterion": (arm.criterion or p.prune.criterion).name,
    }
    if placed.step is not None:
        record["k"] = str(placed.step)
    if placed.base is not None:
        record["base"] = placed.base
    if arm.control is not None:
        record["control"] = {"of": arm.control.of, "kind": arm.control.kind}
        if not arm.control.mask:
            record["control"]["mask"] = False
        if arm.control.norms != "reset":
            record["control"]["norms"] = arm.control.norms
    if arm.begins is not None:
        record["begins"] = {"arm": arm.begins.arm, "level": arm.begins.level}
    if arm.one_shot:
        record["one_shot"] = True
    if placed.task is not None:
        record["task"] = placed.task
    if data.score != "accuracy":
        record["score"] = data.score
    if arm.rewind is not None:
        record["rewind"] = arm.rewind
    if arm.retrain != "once":
        record["retrain"] = arm.retrain
    return record
