"""What is made next: the order of a slow, obvious twin, whatever happens on the way; and in time that large graphs allow."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest
import tiny

from distill_prune.data.digits import Settings
from distill_prune.plan.jobs import DataJob
from distill_prune.plan.nodes import Graph, Node
from distill_prune.run import run as module
from distill_prune.run.events import Event, Made
from distill_prune.run.schedule import Schedule, Shape
from distill_prune.store.store import Store

JOB = DataJob(source=Settings(), fingerprint="nothing")


def node(key: str, inputs: list[str], kind: str) -> Node:
    return Node("compare", key, JOB, {f"input{i}": used for i, used in enumerate(inputs)}, f"label {key}", kind)


class Twin:
    """Looks at every waiting artifact every time."""

    def __init__(self, nodes: Mapping[str, Node], missing: set[str], rank: dict[str, float], cost: Callable[[Node], float]):
        self.nodes, self.waiting, self.rank, self.cost = nodes, set(missing), dict(rank), cost
        self.flying: set[str] = set()
        self.later: dict[str, float] = {}
        self.given_up: set[str] = set()

    def take(self, now: float) -> str | None:
        open_ = self.waiting | self.flying
        ready = [
            key
            for key in self.waiting
            if self.later.get(key, 0.0) <= now and not any(used in open_ for used in self.nodes[key].inputs.values())
        ]
        if not ready:
            return None
        key = min(ready, key=lambda k: (-self.rank[k], k))
        self.waiting.discard(key)
        self.flying.add(key)
        return key

    def put_back(self, key: str, not_before: float = 0.0) -> None:
        self.flying.discard(key)
        self.waiting.add(key)
        self.later[key] = not_before
        self.forget_hopeless()

    def reopen(self, key: str, for_: str) -> None:
        if key not in self.given_up:
            self.waiting.add(key)
            self.rank.setdefault(key, self.rank[for_] + 1)
        self.forget_hopeless()

    def end(self, key: str) -> None:
        self.flying.discard(key)

    def give_up(self, key: str) -> None:
        self.flying.discard(key)
        self.waiting.discard(key)
        self.given_up.add(key)
        self.forget_hopeless()

    def forget_hopeless(self) -> None:
        while hopeless := [k for k in self.waiting if self.given_up & set(self.nodes[k].inputs.values())]:
            self.waiting -= set(hopeless)
            self.given_up |= set(hopeless)

    def open_shapes(self) -> dict[Shape, int]:
        shapes = [Shape(self.nodes[key].kind, self.cost(self.nodes[key])) for key in self.waiting | self.flying]
        return {shape: shapes.count(shape) for shape in shapes}


@pytest.mark.parametrize("seed", range(20))
def test_the_order_is_that_of_the_slow_twin(seed: int) -> None:
    """Random graphs, some of whose artifacts are there; artifacts are made, put back, put off, lost again and given up."""
    draw = random.Random(seed)
    keys = [f"{i:02d}" for i in range(40)]
    nodes = {
        k: node(k, draw.sample([*keys[:i], "stored"], min(i, draw.randint(0, 3))), draw.choice("ab"))
        for i, k in enumerate(keys)
    }
    missing = {k for k in keys if draw.random() < 0.8}
    rank = {k: float(draw.randint(0, 5)) for k in keys if k in missing or draw.random() < 0.5}
    costs = {k: draw.choice((0.1, 0.3, draw.random())) for k in keys}
    both: list[Any] = [kind(nodes, missing, rank, lambda n: costs[n.key]) for kind in (Schedule, Twin)]
    fast, slow = both
    now, taken, reopened = 1.0, 0, 0
    while fast:
        now += draw.choice((0.0, 0.1, 1.0))
        while len(slow.flying) < 3:
            key = slow.take(now)
            assert fast.take(now) == ([] if key is None else [key])
            if key is None:
                break
            taken += 1
        assert fast.flying == slow.flying and len(fast) == len(slow.waiting | slow.flying)
        if not slow.flying:
            continue
        key, what = draw.choice(sorted(slow.flying)), draw.random()
        if what < 0.1:
            calls: list[tuple[str, tuple[Any, ...]]] = [("put_back", (key,))]
        elif what < 0.3:
            calls = [("put_back", (key, now + draw.random()))]
        elif what < 0.4 and reopened < 20:  # inputs that were there are lost, and what they were made from as well
            calls = [("put_back", (key, now + draw.random()))]
            stack = list(nodes[key].inputs.values())
            lost: list[str] = []
            while stack:
                used = stack.pop()
                if used in nodes and used not in fast and used not in lost:
                    lost.append(used)
                    calls.append(("reopen", (used, key)))
                    stack += nodes[used].inputs.values()
            reopened += len(lost)
        elif what < 0.45 and seed % 2:
            calls = [("give_up", (key,))]
        else:
            calls = [("end", (key,))]
        for name, arguments in calls:
            for schedule in both:
                getattr(schedule, name)(*arguments)
        assert fast.open_shapes() == slow.open_shapes() and fast.given_up == slow.given_up
    assert not slow.waiting and not slow.flying and taken >= len(missing) - len(slow.given_up) and not fast.open_shapes()


def test_ten_thousand_artifacts_take_seconds(empty: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver alone: nothing is made. A walk over all that waits at every event takes minutes."""
    layers, width = 100, 100
    graph = Graph(tiny.pipeline())
    for i in range(layers):
        for j in range(width):
            inputs = [f"{i - 1:03d}-{k % width:03d}" for k in (j, j + 1)] if i else []
            key = f"{i:03d}-{j:03d}"
            graph.nodes[key] = node(key, inputs, f"kind {j % 5}")
    graph.nodes["summary"] = node("summary", list(graph.nodes), "summary")

    class Instant:
        def __init__(self, *_: object) -> None:
            self.flying: list[Node] = []

        def room(self) -> int:
            return 8 - len(self.flying)

        def submit(self, nodes: Sequence[Node]) -> None:
            self.flying += nodes

        def events(self, timeout: float) -> list[Event]:
            return [Made(self.flying.pop(0).key, 1.0, 0.0, 0.0, 0.0, "instant")]

        def close(self) -> None: ...

    monkeypatch.setattr(module, "make_executor", Instant)
    watch = tiny.Watch()
    began = time.process_time()
    report = module.run(graph, empty, "serial", "cpu", 8, "compare", watch, lambda n: 1.0)
    seconds = time.process_time() - began
    assert report.made == len(watch.made) == layers * width + 1 and watch.made[-1].key == "summary"
    assert seconds < 10, f"{seconds:.1f} s of CPU"
