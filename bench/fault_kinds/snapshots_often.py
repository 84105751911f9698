"""A plugin under which a computation keeps a snapshot after every step, where it keeps one in 30 seconds otherwise.

A trial of seconds then has snapshots to go on from. It brings an analysis that no pipeline asks for, since a plugin brings
something.
"""

from distill_prune.run.worker import WorkProgress

DISTILL_PRUNE = {"analyses": {"unused": "fault_kinds.snapshots_often"}}


def _always(self: WorkProgress) -> bool:  # noqa: ARG001 - a method
    return True


WorkProgress.due = _always  # type: ignore[method-assign]
