"""How long artifacts take on this machine: each kind of work is begun on made-up inputs and stopped after a second.

What a computation reports of its progress says how much of it is left. Work that reports nothing within its time is taken to
end with it.
"""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from distill_prune.data import fingerprint, prepare, survey
from distill_prune.data.preparation import Survey
from distill_prune.data.source import Source
from distill_prune.errors import DataError
from distill_prune.plan.jobs import DataJob, DistillJob
from distill_prune.plan.nodes import Node
from distill_prune.progress import Progress
from distill_prune.run.imagined import Imagined, NothingKnown
from distill_prune.run.stages import compute
from distill_prune.run.trainings import task_of
from distill_prune.run.worker import conditions, give_pages_back, keep_pages, peak_mb, reset_peak
from distill_prune.training import train_group

Clock = Callable[[], float]

ENOUGH = 1.0
"""Seconds after which work that reports its progress is stopped."""
TOO_LONG = 15.0
"""Seconds after which any work is stopped."""
SAMPLES = (300, 1200)
"""Rows of a large data set that are prepared."""
INNER_STEPS = 2
"""Inner steps of an iteration of distillation that stand for all of them."""


class _Stopped(Exception):
    """The work has shown how long it takes: `seconds` in all."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


class _Watch(Progress):
    """Stops the work after ENOUGH seconds, and says how long all of it takes."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self._began = clock, clock()
        self._first = self._last = (0.0, 0, 0)

    def tick(self, done: int, total: int, note: str = "") -> None:  # noqa: ARG002 - who listens may ignore it
        self._last = self.clock() - self._began, done, total
        if self._first[1] == 0:
            self._first = self._last
        elif self._last[0] >= ENOUGH and done > self._first[1]:
            self.stop()

    def stop(self) -> None:
        """Stop the work: the steps between its first report and its last, or the first with all before it, stand for each. Work
        that has reported nothing takes at least as long as it had."""
        (before, steps, _), (now, done, total) = self._first, self._last
        if steps == 0:
            raise _Stopped(self.clock() - self._began)
        raise _Stopped(before + (now - before) / (done - steps) * (total - steps) if done > steps else now * total / done)


@dataclass(frozen=True)
class Trial:
    """What work takes: seconds of one worker, and peak memory in MiB."""

    seconds: float
    mb: float


def measured(node: Node, imagined: Imagined) -> Trial | None:
    """What the work on an artifact takes on this machine, alone; None where no inputs can be made up.

    Short work is done twice: the first time prepares what later artifacts share. Of a training whose steps others share it is
    a lane's part.
    """
    keep_pages()
    longer, shorter = _shortened(node)
    try:
        imagined.prepare(node)
    except NothingKnown:
        return None
    if longer > 1:
        give_pages_back()
    reset_peak()
    before = peak_mb()
    seconds = _seconds(shorter, imagined)
    if seconds is not None and seconds < ENOUGH / 2:
        seconds = _seconds(shorter, imagined)
    if seconds is None:
        return None
    shared = node.job.lanes if node.job.trains() else 1
    return Trial(longer * seconds / shared, before + _kept(node, longer, peak_mb() - before))


def _kept(node: Node, longer: float, mb: float) -> float:
    """MiB of a node, of which fewer inner steps took `mb`: all keep what the adjoint needs, as far as the method allows."""
    method = dict(getattr(node.job, "method", {}))
    steps, most = method.get("segment", "auto"), math.inf
    if steps != "auto":
        longer = min(longer, max(1.0, steps / INNER_STEPS))
    elif method.get("inner") != "adam":
        most = 1e9 / 2**20 * method.get("memory_gb", math.inf)
    return max(mb, min(longer * mb, most))


def _seconds(node: Node, imagined: Imagined) -> float | None:
    """Seconds of the work on a node, and on those that share its steps."""
    alone = node.job.threads == 1 and imagined.reader.device == "cpu"
    clock = time.process_time if alone else time.perf_counter  # processor time, where others keep the machine busy
    timer = (signal.ITIMER_PROF, signal.SIGPROF) if alone else (signal.ITIMER_REAL, signal.SIGALRM)
    began, watch = clock(), _Watch(clock)
    try:
        with conditions(node.job.threads), _limit(TOO_LONG, watch, *timer):
            _work(node, imagined, watch)
    except _Stopped as stopped:
        return stopped.seconds
    except NothingKnown:
        return None
    return clock() - began


def _work(node: Node, imagined: Imagined, watch: _Watch) -> None:
    reader = imagined.reader
    if isinstance(node.job, DataJob):
        raise _Stopped(prepared(node.job.source, watch.clock))
    task = task_of(node, reader)
    if task is None:
        compute(node, reader, watch)
        return
    (trained,) = train_group([task.training], node.job.lanes, reader.device, [watch])
    if not isinstance(trained, Exception):
        task.parts(trained)


def prepared(source: Source, clock: Clock) -> float:
    """Seconds to prepare a data set: two small parts of a large one show what each example takes.

    Raises:
        NothingKnown: it cannot be looked at without a download.
    """
    began = clock()
    fingerprint(source)
    data = survey(source)
    if data is None and not source.is_text:
        raise NothingKnown
    looked, (fewer, more) = clock() - began, SAMPLES
    if data is None or "rows" not in type(source).model_fields or sum(data.splits) <= 2 * more:
        return looked + _of_part(source, clock)[0]
    parts = [source.model_copy(update=_rows(data, count)) for count in (fewer, more)]
    try:
        (first, some), (second, most) = (_of_part(part, clock) for part in parts)
    except DataError:  # a class has too few examples to be in so small a part
        return looked + _of_part(source, clock)[0]
    return looked + second + max(0.0, second - first) / (most - some) * (sum(data.splits) - most)


def _rows(data: Survey, count: int) -> dict[str, int]:
    """Settings that take so many rows of each part, where there are more."""
    train, test = sum(data.splits[:2]), data.splits[2]
    return {"rows": min(count, train), "test_rows": min(count, test)}


def _of_part(source: Source, clock: Clock) -> tuple[float, int]:
    """Seconds to prepare a data set as it is, and how many examples it has."""
    began = clock()
    images = prepare(source)
    return clock() - began, len(images.split)


def _shortened(node: Node) -> tuple[float, Node]:
    """How many times as long a node takes as the second one, which has fewer inner steps in an iteration of distillation."""
    job = node.job
    if not isinstance(job, DistillJob) or (steps := dict(job.method).get("inner_steps", 1)) <= INNER_STEPS:
        return 1.0, node
    method = job.method.model_copy(update={"inner_steps": INNER_STEPS})
    job = job.model_copy(update={"method": method})
    return steps / INNER_STEPS, Node(node.stage, node.key, job, node.inputs, node.label, node.kind)


@contextlib.contextmanager
def _limit(seconds: float, watch: _Watch, timer: int, alarm: signal.Signals) -> Iterator[None]:
    """Stop the work of the block after so many seconds of the `timer`, which sends `alarm`, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        watch.stop()

    before = signal.signal(alarm, stop)
    signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        signal.setitimer(timer, 0)
        signal.signal(alarm, before)
