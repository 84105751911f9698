"""What failed in a run, why, and what was not made because of it: one message, in which equal reasons are told once."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from distill_prune.errors import DistillPruneError, RunError, UserError
from distill_prune.plan.nodes import Node

SHOWN = 8
"""Reasons that a message tells."""

_NUMBER = re.compile(r"\d+")


@dataclass
class Failures:
    """Artifacts that could not be made, by reason. Messages that differ in numbers alone give one reason."""

    reasons: dict[tuple[object, ...], list[DistillPruneError]] = field(default_factory=dict)
    count: int = 0

    def add(self, node: Node | None, error: DistillPruneError) -> bool:
        """Note a failure, of an artifact or of the run itself; whether its reason is a new one."""
        if node is not None:
            error.label = node.label
            self.count += 1
        alike = self.reasons.setdefault((type(error), _NUMBER.sub("", error.what), error.fix), [])
        alike.append(error)
        return len(alike) == 1

    def error(self, depend: int, unbegun: int, total: int, kept: str) -> DistillPruneError:
        """The failures as one error, the first one itself where all have its reason. Besides those that failed, of `total`
        artifacts so many `depend` on them, and so many were not begun; `kept` says what becomes of the others."""
        first = next(iter(self.reasons.values()))
        parts = [f"{self.count:,} failed"] if self.count else []
        verb, whom = "depends" if depend == 1 else "depend", "it" if self.count == 1 else "them"
        parts += [f"{depend:,} {verb} on {whom}"] if depend else []
        parts += [f"{unbegun:,} not begun"] if unbegun else []
        not_made = f"  not made: {self.count + depend + unbegun:,} of {total:,} artifacts: {', '.join(parts)}; {kept}"
        if len(self.reasons) == 1:
            error = first[0]
            error.label = _named(first)
            for line in (*_logs(first), not_made):
                error.add_note(line)
            return error
        mistakes = all(alike[0].exit_code == UserError.exit_code for alike in self.reasons.values())
        error = (UserError if mistakes else RunError)(f"{self.count:,} artifacts failed, for {len(self.reasons)} reasons")
        for alike in [*self.reasons.values()][:SHOWN]:
            for line in f"{_named(alike)}: {alike[0]}".splitlines():
                error.add_note(f"  {line}")
            for line in _logs(alike):
                error.add_note(f"  {line}")
        if (more := len(self.reasons) - SHOWN) > 0:
            error.add_note(f"  and {more} more reasons")
        error.add_note(not_made)
        error.trace = "\n".join(alike[0].trace for alike in self.reasons.values() if alike[0].trace)
        return error


def _named(alike: list[DistillPruneError]) -> str:
    more = f" and {len(alike) - 1:,} more" if len(alike) > 1 else ""
    return f"{alike[0].label}{more}"


def _logs(alike: list[DistillPruneError]) -> list[str]:
    return [f"  log:      {alike[0].log}"] if alike[0].log else []
