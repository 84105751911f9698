"""The time left: exact where guesses are, soon right where they are not, and without jumps."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import pairwise

import pytest
from test_schedule import node

from distill_prune.plan.nodes import Node
from distill_prune.run.forecast import Forecast
from distill_prune.run.schedule import Schedule

WORKERS = 2


def shown(seconds: Callable[[Node], float], cost: Callable[[Node], float], ticks: bool = True) -> list[tuple[float, float]]:
    """The time left as two workers go through chains of four and one long artifact, as (share of the run, shown over true)."""
    nodes = {"long": node("long", [], "long")}
    for chain in range(20):
        for level in range(4):
            inputs = [f"{chain:02d}-{level - 1}"] if level else []
            nodes[f"{chain:02d}-{level}"] = node(f"{chain:02d}-{level}", inputs, f"level {level}")
    ranks = {key: cost(each) * (4 - int(key[-1]) if key != "long" else 1) for key, each in nodes.items()}
    now, free, count = 0.0, WORKERS, 0
    schedule = Schedule(nodes, nodes, ranks, cost)
    forecast = Forecast(schedule, ranks, cost, WORKERS, clock=lambda: now)
    flying: list[tuple[float, int, str, float]] = []
    seen, due = [(0.0, forecast.left())], 0.5
    while schedule:
        while free and (keys := schedule.take(now)):
            free, count = free - 1, count + 1
            forecast.started([nodes[keys[0]]])
            heapq.heappush(flying, (now + seconds(nodes[keys[0]]), count, keys[0], now))
        if due < flying[0][0]:
            now, due = due, due + 0.5
            for end, _, key, began in flying:
                if ticks:
                    forecast.ticked(key, int(1000 * (now - began) / (end - began)), 1000)
        else:
            now, _, key, began = heapq.heappop(flying)
            free += 1
            schedule.end(key)
            forecast.ended(nodes[key], now - began)
        seen.append((now, forecast.left()))
    assert seen[-1][1] == 0.0
    return [(at / now, left / (now - at)) for at, left in seen if at < 0.97 * now]


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
