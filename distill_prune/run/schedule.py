"""Which artifacts are made next, and how much work they were guessed to take.

An artifact is open until it is made or given up: it waits, or a worker is making it. It is ready once none of its inputs is
open. The counts of open inputs, a heap of ready artifacts and sums of what is left are kept up to date event by event, so that
a run takes time in proportion to the edges of its graph, and not to its artifacts squared.

Where a pipeline asks for lanes, the most urgent artifact takes along those that are ready and can share its training steps.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from distill_prune.plan.alike import company
from distill_prune.plan.nodes import Node


class Shape(NamedTuple):
    """Artifacts of one kind with equal guesses, of which each is expected to take as long as another."""

    kind: str
    guess: float


class Schedule:
    """The open artifacts of a run: `missing` ones, and those that are opened again.

    The most urgent ready artifact, by `urgency` and then by key, is the next one. `cost` guesses an artifact's seconds.
    """

    def __init__(
        self, nodes: Mapping[str, Node], missing: Iterable[str], urgency: Mapping[str, float], cost: Callable[[Node], float]
    ) -> None:
        self._nodes, self._urgency, self._cost = nodes, dict(urgency), cost
        self._users: dict[str, list[str]] = {}
        for key, node in nodes.items():
            for used in set(node.inputs.values()):
                self._users.setdefault(used, []).append(key)
        self._waiting: set[str] = set()
        self.flying: set[str] = set()
        self.given_up: set[str] = set()
        self._open_inputs: dict[str, int] = {}  # of waiting artifacts
        self._ready: list[tuple[float, str]] = []  # a heap; entries that hold no longer are passed over
        self._companies: dict[str, list[tuple[float, str]]] = {}  # such a heap of each company
        self._company = {key: group for key, node in nodes.items() if (group := company(node, nodes)) is not None}
        self._not_before: dict[str, float] = {}
        self._delayed: list[tuple[float, str]] = []  # a heap by time
        self._shapes: dict[Shape, int] = {}  # how many artifacts of each are open
        for key in missing:
            self._waiting.add(key)
            self._count(key, 1)
        for key in self._waiting:
            self._wait(key)

    def __contains__(self, key: str) -> bool:
        return key in self._waiting or key in self.flying

    def __len__(self) -> int:
        return len(self._waiting) + len(self.flying)

    def take(self, now: float) -> list[str]:
        """The next artifacts to be made, by one worker, which are flying from now on: the most urgent one, and as many more
        as its lanes hold. Empty where none is ready at time `now`."""
        while self._delayed and self._delayed[0][0] <= now:
            self._offer(heapq.heappop(self._delayed)[1])
        keys = self._pop(self._ready, now, 1)
        for group in [self._company[key] for key in keys if key in self._company]:
            keys += self._pop(self._companies[group], now, self._nodes[keys[0]].job.lanes - 1)
        return keys

    def _pop(self, heap: list[tuple[float, str]], now: float, most: int) -> list[str]:
        """The ready artifacts at the top of a heap, at most so many."""
        keys: list[str] = []
        while heap and len(keys) < most:
            _, key = heapq.heappop(heap)
            if self._is_ready(key) and self._not_before.get(key, now) <= now:
                self._waiting.discard(key)
                self.flying.add(key)
                keys.append(key)
        return keys

    def put_back(self, key: str, not_before: float = 0.0) -> None:
        """A flying artifact waits again, until the time `not_before` at least."""
        self.flying.discard(key)
        self._waiting.add(key)
        self._not_before[key] = not_before
        heapq.heappush(self._delayed, (not_before, key))
        self._wait(key)

    def reopen(self, key: str, for_: str) -> None:
        """An artifact that is not open waits to be made again, more urgent than the one that it is needed `for_`. One that was
        given up stays so."""
        if key in self.given_up:
            return
        self._urgency.setdefault(key, self._urgency[for_] + 1)
        self._waiting.add(key)
        self._count(key, 1)
        self._wait(key)
        for user in self._users.get(key, ()):
            if user in self._waiting:
                self._open_inputs[user] += 1

    def end(self, key: str) -> None:
        """A flying artifact is open no longer."""
        self.flying.discard(key)
        self._count(key, -1)
        for user in self._users.get(key, ()):
            if user in self._waiting:
                self._open_inputs[user] -= 1
                self._offer(user)

    def give_up(self, key: str) -> None:
        """An open artifact is not made, and neither are those that wait for it. One of these that is flying may still be made:
        it began with an earlier input."""
        stack = [key]
        while stack:
            each = stack.pop()
            if each in self._waiting or (each == key and key in self.flying):
                self._waiting.discard(each)
                self.flying.discard(each)
                self._count(each, -1)
                self.given_up.add(each)
                stack += self._users.get(each, ())

    def computed_from(self, key: str) -> set[str]:
        """All artifacts of the graph that are computed from this one, however far."""
        after, stack = set[str](), [key]
        while stack:
            new = set(self._users.get(stack.pop(), ())) - after
            after |= new
            stack += new
        return after

    def open_shapes(self) -> dict[Shape, int]:
        """How many artifacts of each shape are open."""
        return {shape: count for shape, count in self._shapes.items() if count}

    def shape(self, node: Node) -> Shape:
        return Shape(node.kind, self._cost(node))

    def most_urgent(self) -> float:
        """The urgency of an artifact that is ready, the largest; 0 where none is."""
        while self._ready and not self._is_ready(self._ready[0][1]):
            heapq.heappop(self._ready)
        return -self._ready[0][0] if self._ready else 0.0

    def _is_ready(self, key: str) -> bool:
        return key in self._waiting and not self._open_inputs[key]

    def _wait(self, key: str) -> None:
        if any(used in self.given_up for used in self._nodes[key].inputs.values()):
            self.give_up(key)
            return
        self._open_inputs[key] = sum(used in self for used in set(self._nodes[key].inputs.values()))
        self._offer(key)

    def _offer(self, key: str) -> None:
        if key in self._waiting and not self._open_inputs[key]:
            heapq.heappush(self._ready, (-self._urgency[key], key))
            if (group := self._company.get(key)) is not None:
                heapq.heappush(self._companies.setdefault(group, []), (-self._urgency[key], key))

    def _count(self, key: str, number: int) -> None:
        shape = self.shape(self._nodes[key])
        self._shapes[shape] = self._shapes.get(shape, 0) + number
