"""Transfer: what a ticket that was found on one task is worth on another.

    TRANSFER(S, T) - dense(T)    the ticket of source S trained on target T, against the whole network trained on T
    TRANSFER(S, T) - TRANSFER(T, T)    against the ticket that was found on T itself

Both are paired: one initialisation (of the head, and of the order of training) makes one difference. A source is universal
at a level where it is at least as good as each target's own ticket.

References:
    | The Lottery Ticket Hypothesis for Pre-trained BERT Networks (Chen et al., 2020), section 4 and its figure of transfer,
      https://arxiv.org/abs/2007.12223
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distill_prune.analyze.estimate import Estimate, estimate

Record = Mapping[str, Any]


def transfer(arms: Sequence[Record], units: Sequence[Record]) -> list[dict[str, Any]]:
    """One row a source, target and pruned level; empty where no arm is transferred. `units` are the summary's.

    {source, target, own, level, sparsity, metric, score, to_dense, to_own}: `source` is the arm whose masks they are,
    `target` the task's name (None for the study's own data), `own` says whether it is the task's own ticket, that of the
    first arm whose masks were found on it; `metric` is what the task is scored by: what
    its arms say, else accuracy; `score`, `to_dense` and `to_own` are estimates over initialisations, None where there is
    nothing to hold them to.
    """
    moved = {a["name"]: a["control"]["of"] for a in arms if a.get("control", {}).get("kind") == "transferred"}
    if not moved:
        return []
    held: dict[tuple[str, int], dict[int, Record]] = {}
    for u in units:
        held.setdefault((u["arm"], u["level"]), {}).setdefault(u["seed"], u)
    tasks = {a["name"]: a.get("task") for a in arms}
    own = {a.get("task"): a["name"] for a in reversed(arms) if "control" not in a}
    sources = {*moved.values(), *(own[tasks[name]] for name in moved if tasks[name] in own)}
    shown = [a for a in arms if a["name"] in moved or a["name"] in sources]
    dense = {t: _dense(t, tasks, units) for t in set(tasks.values())}
    asked = {a.get("task"): a.get("score", "accuracy") for a in arms}
    metric = {t: _metric(asked[t], [u for u in units if tasks.get(u["arm"]) == t]) for t in dense}
    rows = []
    for arm in shown:
        name, target = arm["name"], tasks[arm["name"]]
        for level in sorted({level for a, level in held if a == name and level}):
            ours, score = held[name, level], metric[target]
            theirs = held.get((own.get(target, ""), level), {})
            rows.append(
                {
                    "source": moved.get(name, name),
                    "target": target,
                    "own": name == own.get(target),
                    "level": level,
                    "sparsity": next(iter(ours.values()))["sparsity"],
                    "metric": score,
                    "score": _over([u.get(score) for u in ours.values()]),
                    "to_dense": _apart(ours, dense[target], score),
                    "to_own": _apart(ours, theirs, score) if name != own.get(target) else None,
                }
            )
    return rows


def _dense(task: str | None, tasks: Mapping[str, str | None], units: Sequence[Record]) -> dict[int, Record]:
    """The dense networks of a task, by seed."""
    return {u["seed"]: u for u in reversed(units) if u["level"] == 0 and tasks.get(u["arm"]) == task}


def _metric(asked: str, units: Sequence[Record]) -> str:
    return asked if all(u.get(asked) is not None for u in units) else "accuracy"


def _apart(ours: Mapping[int, Record], theirs: Mapping[int, Record], metric: str) -> Estimate | None:
    both = [(ours[s].get(metric), theirs[s].get(metric)) for s in sorted(ours.keys() & theirs.keys())]
    return _over([a - b for a, b in both if a is not None and b is not None])


def _over(values: Sequence[float | None]) -> Estimate | None:
    known = [v for v in values if v is not None]
    return estimate(known) if known else None
