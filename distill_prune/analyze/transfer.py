"""Transfer: what a ticket of one task is worth on another.

    TRANSFER(S, T) - dense(T)    the ticket of source S trained on target T, against the whole network trained on T
    TRANSFER(S, T) - TRANSFER(T, T)    against the ticket of T itself

Both are paired: one initialisation (of the head, and of the order of training) makes one difference. A source is universal
at a level where it is at least as good as each target's ticket.

References:
    | The Lottery Ticket Hypothesis for Pre-trained BERT Networks (Chen et al., 2020), section 4 and its figure of transfer,
      https://arxiv.org/abs/2007.12223
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distill_prune.analyze.estimate import Estimate
from distill_prune.analyze.metric import ACCURACY
from distill_prune.analyze.records import ArmRecord, TransferRow, Unit, value
from distill_prune.analyze.sets import Place, by_arm_and_level, by_place, known, minus, over


def transfer(arms: Sequence[ArmRecord], units: Sequence[Unit]) -> list[TransferRow]:
    """One row a source, target and pruned level; empty where no arm is transferred. `units` are the summary's.

    `source` is the arm whose masks they are. `target` is the task's name, None for the study's own data. `own` says whether
    the row is of the first arm whose masks come from the task itself. `metric` is what the task's arms say that it is scored
    by, else accuracy. `score`, `to_dense` and `to_own` are estimates over initialisations, None where there is nothing to
    compare with.
    """
    source_of = {a["name"]: a["control"]["of"] for a in arms if "control" in a and a["control"]["kind"] == "transferred"}
    if not source_of:
        return []
    units_by_place = by_arm_and_level(units)
    tasks = {a["name"]: a.get("task") for a in arms}
    ticket_of = {a.get("task"): a["name"] for a in reversed(arms) if "control" not in a}
    sources = {*source_of.values(), *(ticket_of[tasks[name]] for name in source_of if tasks[name] in ticket_of)}
    shown = [a for a in arms if a["name"] in source_of or a["name"] in sources]
    dense = {t: _dense(t, tasks, units) for t in set(tasks.values())}
    asked = {a.get("task"): a.get("score", ACCURACY) for a in arms}
    metric = {t: _metric(asked[t], [u for u in units if tasks.get(u["arm"]) == t]) for t in dense}
    rows: list[TransferRow] = []
    for arm in shown:
        name, target = arm["name"], tasks[arm["name"]]
        for level in sorted({level for a, level in units_by_place if a == name and level}):
            transferred, score = units_by_place[name, level], metric[target]
            of_target = units_by_place.get((ticket_of.get(target, ""), level), {})
            rows.append(
                {
                    "source": source_of.get(name, name),
                    "target": target,
                    "own": name == ticket_of.get(target),
                    "level": level,
                    "sparsity": next(iter(transferred.values()))["sparsity"],
                    "metric": score,
                    "score": _over(known(transferred, score)),
                    "to_dense": _minus(transferred, dense[target], score),
                    "to_own": _minus(transferred, of_target, score) if name != ticket_of.get(target) else None,
                }
            )
    return rows


def _dense(task: str | None, tasks: Mapping[str, str | None], units: Sequence[Unit]) -> dict[Place, Unit]:
    """The dense networks of a task, by place."""
    return by_place(u for u in units if u["level"] == 0 and tasks.get(u["arm"]) == task)


def _metric(asked: str, units: Sequence[Unit]) -> str:
    return asked if all(value(u, asked) is not None for u in units) else ACCURACY


def _minus(units: Mapping[Place, Unit], others: Mapping[Place, Unit], metric: str) -> Estimate | None:
    """The mean difference within initialisations."""
    return _over(minus(known(units, metric), known(others, metric))[0])


def _over(values: Mapping[Place, float]) -> Estimate | None:
    return over(values) if values else None
