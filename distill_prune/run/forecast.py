"""How long a run will still take: what artifacts were guessed to cost, corrected by what was measured, without jumps.

Each kind of artifact has a factor between what it takes and what was guessed. The factor begins at that of the other kinds
and follows the kind's own measurements as they come, parts of artifacts included. Of artifacts in the making counts what is
left of them, by the share of their steps that is done. The run ends no sooner than its work is divided among the workers, and
no sooner than its longest path.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from distill_prune.plan.nodes import Node
from distill_prune.run.schedule import Schedule

_TRUST = 3.0
"""The guess of a kind counts as much as so many of its artifacts that were measured."""
_RUN_TRUST = 0.5
"""That the guesses of kinds that were not measured are right counts as much as so many kinds that were."""
_SHARE_TRUST = 0.05
"""The guess of one artifact counts as much as this share of its steps, measured."""
_OVERDUE = 0.2
"""What takes longer than expected and does not say how far it is takes this share of its time once more, at least."""


@dataclass
class _Sums:
    """Guessed and measured seconds of what was made of one kind, and how many artifacts that is: parts count."""

    made: float = 0.0
    guessed: float = 0.0
    seconds: float = 0.0

    def plus(self, made: float, guessed: float, seconds: float) -> _Sums:
        return _Sums(self.made + made, self.guessed + guessed, self.seconds + seconds)

    def factor(self, prior: float) -> float:
        """Measured over guessed seconds, where `_TRUST` artifacts more are taken to have taken `prior` of what was guessed."""
        trusted = _TRUST * self.guessed / self.made
        return (trusted * prior + self.seconds) / (trusted + self.guessed) if self.guessed > 0 else prior


@dataclass
class _Group:
    """Artifacts that one worker makes together since the time `began`; `shares` are those of their steps that are done."""

    kind: str
    size: int
    guessed: float
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
        self._kinds: dict[str, _Sums] = {}
        self._flying: dict[str, tuple[Node, _Group]] = {}
        self._asked = clock()
        self._end = self._asked + self._raw(self._asked)

    def started(self, nodes: Sequence[Node]) -> None:
        guesses = {node.key: self._cost(node) for node in nodes}
        after = max(self._urgency.get(key, 0.0) - guess for key, guess in guesses.items())
        group = _Group(nodes[0].kind, len(nodes), sum(guesses.values()), max(after, 0.0), self._clock())
        for node in nodes:
            self._flying[node.key] = node, group

    def ticked(self, key: str, done: int, total: int) -> None:
        if key in self._flying and total > 0:
            self._flying[key][1].shares[key] = min(max(done / total, 0.0), 1.0)

    def ended(self, node: Node, seconds: float | None = None) -> None:
        """An artifact is in the making no longer; `seconds` is what it took where it was made."""
        self._flying.pop(node.key, None)
        if seconds is not None:
            self._kinds[node.kind] = self._kinds.get(node.kind, _Sums()).plus(1, self._cost(node), seconds)

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
        kinds = dict(self._kinds)
        for group in groups:  # parts that are done are measurements, too
            if group.share > 0:
                part = group.share * group.size, group.share * group.guessed, now - group.began
                kinds[group.kind] = kinds.get(group.kind, _Sums()).plus(*part)
        overall = _overall(kinds.values())
        factors = {kind: sums.factor(overall) for kind, sums in kinds.items()}
        open_ = self._schedule.guessed()
        for node, _ in self._flying.values():
            open_[node.kind] = open_.get(node.kind, 0.0) - self._cost(node)
        work = sum(max(guessed, 0.0) * factors.get(kind, overall) for kind, guessed in open_.items())
        path = self._schedule.most_urgent() * overall
        for group in groups:
            left = _left(group, group.guessed * factors.get(group.kind, overall), now - group.began)
            work += left
            path = max(path, left + group.after * overall)
        return max(work / self._workers, path)


def _overall(kinds: Iterable[_Sums]) -> float:
    """The factor of kinds that were not measured: the geometric mean of the others', of which none counts more for its size."""
    weight, total = _RUN_TRUST, 0.0
    for sums in kinds:
        if sums.guessed > 0 and sums.seconds > 0:
            share = sums.made / (sums.made + _TRUST)
            weight, total = weight + share, total + share * math.log(sums.seconds / sums.guessed)
    return math.exp(total / weight)


def _left(group: _Group, expected: float, spent: float) -> float:
    """Seconds left of a group that was `expected` to take so many, and has taken `spent`."""
    share = group.share
    if not share:
        return max(expected - spent, _OVERDUE * spent)
    return (_SHARE_TRUST * expected + spent) / (_SHARE_TRUST + share) * (1.0 - share)
