"""The time left: exact where guesses are, soon right where they are not, and without jumps."""

from __future__ import annotations

import heapq
import json
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path

import pytest
import tiny
from test_schedule import node

from distill_prune.plan.config import load
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph, Node
from distill_prune.run.firsts import firsts_early
from distill_prune.run.forecast import Forecast
from distill_prune.run.run import urgency
from distill_prune.run.schedule import Schedule
from distill_prune.store.store import Store
from distill_prune.study.costs import guess

ROOT = Path(__file__).resolve().parent.parent

WORKERS = 2


def replayed(
    nodes: Mapping[str, Node],
    order: Mapping[str, float],
    ranks: Mapping[str, float],
    seconds: Callable[[Node], float],
    cost: Callable[[Node], float],
    ticks: bool,
) -> list[tuple[float, float]]:
    """The time left as two workers make artifacts that take so many seconds, as (share of the run, shown over true)."""
    now, free, count = 0.0, WORKERS, 0
    schedule = Schedule(nodes, nodes, order, cost)
    forecast = Forecast(schedule, ranks, cost, WORKERS, clock=lambda: now)
    flying: list[tuple[float, int, list[str], float]] = []
    seen, due = [(0.0, forecast.left())], 0.5
    while schedule:
        while free and (keys := schedule.take(now)):
            free, count = free - 1, count + 1
            forecast.started([nodes[key] for key in keys])
            heapq.heappush(flying, (now + sum(seconds(nodes[key]) for key in keys), count, keys, now))
        if due < flying[0][0]:
            now, due = due, due + 0.5
            for end, _, keys, began in flying:
                for key in keys if ticks else ():
                    forecast.ticked(key, int(1000 * (now - began) / (end - began)), 1000)
        else:
            now, _, keys, began = heapq.heappop(flying)
            free += 1
            for key in keys:
                schedule.end(key)
                forecast.ended(nodes[key], (now - began) / len(keys))
        seen.append((now, forecast.left()))
    assert seen[-1][1] == 0.0
    return [(at / now, left / (now - at)) for at, left in seen if at < 0.97 * now]


def shown(seconds: Callable[[Node], float], cost: Callable[[Node], float], ticks: bool = True) -> list[tuple[float, float]]:
    """The time left of chains of four and one long artifact."""
    nodes = {"long": node("long", [], "long")}
    for chain in range(20):
        for level in range(4):
            inputs = [f"{chain:02d}-{level - 1}"] if level else []
            nodes[f"{chain:02d}-{level}"] = node(f"{chain:02d}-{level}", inputs, f"level {level}")
    ranks = {key: cost(each) * (4 - int(key[-1]) if key != "long" else 1) for key, each in nodes.items()}
    return replayed(nodes, ranks, ranks, seconds, cost, ticks)


def real(each: Node) -> float:
    return 60.0 if each.kind == "long" else 2.0


@pytest.mark.parametrize("ticks", [True, False])
def test_right_guesses_give_the_time_left(ticks: bool) -> None:
    assert all(0.9 < ratio < 1.1 for _, ratio in shown(real, real, ticks))


@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_wrong_guesses_are_corrected_by_what_is_measured(factor: float) -> None:
    """All by one factor, or those of the long artifact alone."""
    ratios = shown(real, lambda each: factor * real(each))
    assert ratios[0][1] == pytest.approx(factor, rel=0.05)
    assert all(0.65 < ratio < 1.7 for share, ratio in ratios if share > 0.4)
    assert all(0.8 < ratio < 1.25 for share, ratio in ratios if share > 0.8)
    long = shown(real, lambda each: factor * real(each) if each.kind == "long" else real(each))
    assert all(0.75 < ratio < 1.33 for share, ratio in long if share > 0.4)


def test_the_time_left_does_not_jump() -> None:
    """Each step of half a second moves the shown end by a small part of what is left."""
    ratios = shown(real, lambda each: 3 * real(each) if each.kind == "level 1" else real(each) / 3)
    changes = [abs(b - a) / max(a, b) for (_, a), (share, b) in pairwise(ratios) if share < 0.9]
    assert max(changes) < 0.2


@pytest.mark.parametrize("ticks", [True, False])
def test_what_a_run_has_seen_wins_over_untried_guesses(empty: Store, ticks: bool) -> None:
    """A study of 1,043 artifacts of which none was tried, with the recorded seconds of each kind: guesses of kinds are wrong by
    factors from 0.001 to 4, and analyses come last but for the first of each kind."""
    kinds = json.loads((ROOT / "docs" / "performance" / "plan" / "digits.json").read_text())["kinds"]
    recorded = {row["kind"].removeprefix("prune "): row for row in kinds}
    graph = build(load(str(ROOT / "pipelines" / "digits.yaml"), [])[1], empty)

    def seconds(each: Node) -> float:
        row = recorded[each.kind.removeprefix("prune ")]
        return max(row["spent"] / row["artifacts"], 1e-3)

    ranks = urgency(graph, graph.nodes, guess)
    order = firsts_early(graph, graph.nodes.keys(), ranks)
    late = [(share, ratio) for share, ratio in replayed(graph.nodes, order, ranks, seconds, guess, ticks) if share > 0.4]
    assert all(0.8 < ratio < 1.25 for _, ratio in late)


def test_the_first_of_each_kind_is_made_right_after_its_inputs() -> None:
    """Its inputs as well: two copies, of which an analysis is made. Nothing else is moved, nor anything before its inputs."""
    graph = Graph(tiny.pipeline())
    graph.nodes |= {"dense": node("dense", [], "dense")}
    for chain in "ab":
        for level in range(1, 4):
            before = f"{chain}{level - 1}" if level > 1 else "dense"
            graph.nodes[f"{chain}{level}"] = node(f"{chain}{level}", [before], "prune")
    for ticket in ("dense", "a1", "b1"):
        for copy in "12":
            graph.nodes[f"{ticket}-{copy}"] = node(f"{ticket}-{copy}", [ticket], "retrain")
        graph.nodes[f"{ticket}-bend"] = node(f"{ticket}-bend", [f"{ticket}-1", f"{ticket}-2"], "curvature")
    graph.nodes["end"] = node("end", ["dense-bend", "a1-bend", "b1-bend", "a3", "b3"], "summary")
    ranks = urgency(graph, graph.nodes, lambda _: 1.0)
    order = firsts_early(graph, graph.nodes.keys(), ranks)
    moved = {key for key in ranks if order[key] != ranks[key]}
    assert moved == {"a1", "dense-1", "dense-2", "dense-bend"} and {order[key] for key in moved} == {ranks["dense"]}
    there = set(graph.nodes) - {"dense", "dense-1", "dense-2"}
    assert firsts_early(graph, there, {key: ranks[key] for key in there})["dense-bend"] == ranks["dense-bend"]
