"""How long a run will still take: what artifacts were guessed to cost, corrected by what was measured, without jumps.

Each kind of artifact has a factor between what it takes and what was guessed. The factor begins at that of the whole run and
follows the kind's own measurements as they come. Of artifacts in the making counts what is left of them, by the share of their
steps that is done. The run ends no sooner than its work is divided among the workers, and no sooner than its longest path.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from distill_prune.plan.nodes import Node
from distill_prune.run.schedule import Schedule

_TRUST = 3.0
"""The guess of a kind counts as much as so many of its artifacts that were measured."""
_RUN_TRUST = 0.03
"""The guesses of a whole run count as much as this share of it, measured."""
_SHARE_TRUST = 0.15
"""The guess of one artifact counts as much as this share of its steps, measured."""
_OVERDUE = 0.2
"""What takes longer than expected and does not say how far it is takes this share of its time once more, at least."""


@dataclass
class _Kind:
    """Guessed and measured seconds of the artifacts of one kind that were made, and their number."""

    made: int = 0
    guessed: float = 0.0
    seconds: float = 0.0


@dataclass
class _Group:
    """Artifacts that one worker makes together since the time `began`; `shares` are those of their steps that are done."""

    kind: str
    guessed: float
    after: float  # of the longest path behind them, as guessed
    began: float
    shares: dict[str, float] = field(default_factory=dict)


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
        self._kinds: dict[str, _Kind] = {}
        self._flying: dict[str, tuple[Node, _Group]] = {}
        self._whole = _Kind()
        self._trusted = _RUN_TRUST * sum(schedule.guessed().values())
        self._asked = clock()
        self._end = self._asked + self._raw(self._asked)

    def started(self, nodes: Sequence[Node]) -> None:
        guesses = {node.key: self._cost(node) for node in nodes}
        after = max(self._urgency.get(key, 0.0) - guess for key, guess in guesses.items())
        group = _Group(nodes[0].kind, sum(guesses.values()), max(after, 0.0), self._clock())
        for node in nodes:
            self._flying[node.key] = node, group

    def ticked(self, key: str, done: int, total: int) -> None:
        if key in self._flying and total > 0:
            self._flying[key][1].shares[key] = min(max(done / total, 0.0), 1.0)

    def ended(self, node: Node, seconds: float | None = None) -> None:
        """An artifact is in the making no longer; `seconds` is what it took where it was made."""
        self._flying.pop(node.key, None)
        if seconds is not None:
            guess = self._cost(node)
            for sums in (self._whole, self._kinds.setdefault(node.kind, _Kind())):
                sums.made, sums.guessed, sums.seconds = sums.made + 1, sums.guessed + guess, sums.seconds + seconds

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
        overall = self._ratio(self._whole, self._trusted, 1.0)
        open_ = self._schedule.guessed()
        for node, _ in self._flying.values():
            open_[node.kind] = open_.get(node.kind, 0.0) - self._cost(node)
        work, path = 0.0, self._schedule.most_urgent() * overall
        for kind, guessed in open_.items():
            work += max(guessed, 0.0) * self._factor(kind, overall)
        for group in {id(group): group for _, group in self._flying.values()}.values():
            left = self._of(group, overall, now)
            work += left
            path = max(path, left + group.after * overall)
        return max(work / self._workers, path)

    def _of(self, group: _Group, overall: float, now: float) -> float:
        expected, spent = group.guessed * self._factor(group.kind, overall), now - group.began
        if not group.shares:
            return max(expected - spent, _OVERDUE * spent)
        share = sum(group.shares.values()) / len(group.shares)
        return (_SHARE_TRUST * expected + spent) / (_SHARE_TRUST + share) * (1.0 - share)

    def _factor(self, kind: str, overall: float) -> float:
        sums = self._kinds.get(kind)
        return overall if sums is None else self._ratio(sums, _TRUST * sums.guessed / sums.made, overall)

    @staticmethod
    def _ratio(sums: _Kind, trusted: float, prior: float) -> float:
        """Measured over guessed seconds, where `trusted` guessed seconds more are taken to have taken `prior` of themselves."""
        guessed = trusted + sums.guessed
        return (trusted * prior + sums.seconds) / guessed if guessed > 0 else prior
