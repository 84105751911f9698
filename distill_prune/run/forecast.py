"""How long a run will still take: what artifacts were guessed to cost, corrected by what was measured, without jumps.

Each kind of artifact has a factor between what it takes and what was guessed, and so has each shape: artifacts of one kind with
equal guesses. A kind's factor begins at that of the other kinds, and a shape's at that of its kind. Both follow their own
measurements as they come, parts of artifacts included: a guess that nobody tried can be wrong by a factor of a hundred, and
counts for little against the first measurement. Of artifacts in the making counts what is left of them, by the share of their
steps that is done. The run ends no sooner than its work is divided among the workers, and no sooner than its longest path.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from distill_prune.plan.nodes import Node
from distill_prune.run.schedule import Schedule, Shape

_TRUST = 0.3
"""What is expected of a kind or a shape before it is measured counts as much as so many of its artifacts that were."""
_RUN_TRUST = 0.5
"""That the guesses of kinds that were not measured are right counts as much as so many kinds that were."""
_SHARE_TRUST = 0.05
"""The guess of one artifact counts as much as this share of its steps, measured."""
_OVERDUE = 0.2
"""What takes longer than expected and does not say how far it is takes this share of its time once more, at least."""


@dataclass(frozen=True)
class _Sums:
    """Guessed and measured seconds of what was made of one kind or shape, and how many artifacts that is: parts count."""

    made: float = 0.0
    guessed: float = 0.0
    seconds: float = 0.0

    def plus(self, made: float, guessed: float, seconds: float) -> _Sums:
        return _Sums(self.made + made, self.guessed + guessed, self.seconds + seconds)

    def factor(self, prior: float) -> float:
        """Measured over guessed seconds, where `_TRUST` artifacts more are taken to have taken `prior` of what was guessed."""
        if self.guessed <= 0:
            return prior
        trusted = _TRUST * self.guessed / self.made
        return (trusted * prior + self.seconds) / (trusted + self.guessed)


class _Measured:
    """What was measured, by kind and by shape, and the factors that follow."""

    def __init__(self, kinds: Mapping[str, _Sums], shapes: Mapping[Shape, _Sums]) -> None:
        self._kinds, self._shapes = dict(kinds), dict(shapes)

    def add(self, shape: Shape, made: float, seconds: float) -> None:
        part = made, made * shape.guess, seconds
        self._kinds[shape.kind] = self._kinds.get(shape.kind, _Sums()).plus(*part)
        self._shapes[shape] = self._shapes.get(shape, _Sums()).plus(*part)

    def copy(self) -> _Measured:
        return _Measured(self._kinds, self._shapes)

    def overall(self) -> float:
        """The factor of kinds that were not measured: the median of the others', for a guess that is wrong by a factor of a
        thousand says nothing of another. None counts more for its size."""
        factors, weight = [(0.0, _RUN_TRUST)], _RUN_TRUST
        for sums in self._kinds.values():
            if sums.guessed > 0 and sums.seconds > 0:
                share = sums.made / (sums.made + _TRUST)
                factors.append((math.log(sums.seconds / sums.guessed), share))
                weight += share
        below = 0.0
        for logarithm, share in sorted(factors):
            below += share
            if below >= weight / 2:
                return math.exp(logarithm)
        return 1.0

    def factor(self, shape: Shape, overall: float) -> float:
        """Of a shape: its own, which begins at its kind's, which begins at the `overall` one."""
        return self._shapes.get(shape, _Sums()).factor(self._kinds.get(shape.kind, _Sums()).factor(overall))


@dataclass
class _Group:
    """Artifacts that one worker makes together since the time `began`; `shares` are those of their steps that are done."""

    shapes: Sequence[Shape]
    after: float  # of the longest path behind them, as guessed
    began: float
    shares: dict[str, float] = field(default_factory=dict)

    @property
    def share(self) -> float:
        """The share of its steps that is done; 0 where it does not say so."""
        return sum(self.shares.values()) / len(self.shares) if self.shares else 0.0


class Forecast:
    """The time left of a run, event by event. `urgency` are guessed seconds of the longest path from an artifact to the end."""

    def __init__(
        self,
        schedule: Schedule,
        urgency: Mapping[str, float],
        cost: Callable[[Node], float],
        workers: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._schedule, self._urgency, self._cost, self._workers, self._clock = schedule, urgency, cost, workers, clock
        self._measured = _Measured({}, {})
        self._flying: dict[str, tuple[Node, _Group]] = {}
        self._asked = clock()
        self._end = self._asked + self._raw(self._asked)

    def started(self, nodes: Sequence[Node]) -> None:
        after = max(self._urgency.get(node.key, 0.0) - self._cost(node) for node in nodes)
        group = _Group([self._schedule.shape(node) for node in nodes], max(after, 0.0), self._clock())
        for node in nodes:
            self._flying[node.key] = node, group

    def ticked(self, key: str, done: int, total: int) -> None:
        if key in self._flying and total > 0:
            self._flying[key][1].shares[key] = min(max(done / total, 0.0), 1.0)

    def ended(self, node: Node, seconds: float | None = None) -> None:
        """An artifact is in the making no longer; `seconds` is what it took where it was made."""
        self._flying.pop(node.key, None)
        if seconds is not None:
            self._measured.add(self._schedule.shape(node), 1, seconds)

    def left(self) -> float:
        """Seconds left, which run down with the clock and follow new knowledge within a tenth of themselves."""
        now = self._clock()
        raw = self._raw(now)
        if not self._schedule:
            return 0.0
        pace = min(max(0.1 * raw, 1.0), 20.0)
        self._end += (now + raw - self._end) * -math.expm1((self._asked - now) / pace)
        self._asked = now
        return max(self._end - now, 0.0)

    def _raw(self, now: float) -> float:
        groups = {id(group): group for _, group in self._flying.values()}.values()
        measured = self._measured.copy()
        for group in groups:  # parts that are done are measurements, too
            if group.share > 0:
                for shape in group.shapes:
                    measured.add(shape, group.share, (now - group.began) / len(group.shapes))
        overall = measured.overall()
        waiting = self._schedule.open_shapes()
        for group in groups:
            for shape in group.shapes:
                waiting[shape] = waiting.get(shape, 0) - 1
        work = sum(max(count, 0) * s.guess * measured.factor(s, overall) for s, count in waiting.items())
        path = self._schedule.most_urgent() * overall
        for group in groups:
            expected = sum(shape.guess * measured.factor(shape, overall) for shape in group.shapes)
            left = _left(group, expected, now - group.began)
            work += left
            path = max(path, left + group.after * overall)
        return max(work / self._workers, path)


def _left(group: _Group, expected: float, spent: float) -> float:
    """Seconds left of a group that was `expected` to take so many, and has taken `spent`."""
    share = group.share
    if not share:
        return max(expected - spent, _OVERDUE * spent)
    return (_SHARE_TRUST * expected + spent) / (_SHARE_TRUST + share) * (1.0 - share)
