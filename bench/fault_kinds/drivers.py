"""Several runs at once on one store: every artifact is made once."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fault_kinds.kind import Broken, Kind, Outcome, Scene, Trial
from fault_kinds.studies import SERIAL, TWO, Study, artifacts, end, problem, start

OVERLAPPING = ((), ("retrain.copies=3",), ("levels=[0,1,2]",), ("seeds=[0,1]",))
"""Changes of the tiny study: each shares artifacts with the study, and has some of its own."""


def _trial(study: Study, folder: Path, draws: random.Random) -> Outcome:
    store, count = folder / "store", draws.randint(2, 4)
    overlapping = draws.random() < 0.5
    sets = [draws.choice(OVERLAPPING) if overlapping else () for _ in range(count)]
    expected: dict[str, str] = {}
    for each in {*sets}:
        expected |= study.changed(*each).contents()
    processes = []
    for each in sets:
        executor = draws.choice((SERIAL, TWO))
        processes.append(start(study.changed(*each).words("run", store, "--json", *executor)))
        time.sleep(draws.uniform(0, 1.0) * draws.randint(0, 1))
    ends = [end(process) for process in processes]
    for done in ends:
        if done.code != 0:
            raise Broken(f"one of {count} drivers failed; {done.said}")
    made, there = sum(done.made for done in ends), len(artifacts(store))
    if made != there:
        raise Broken(f"{count} drivers made {made} artifacts, and the store has {there}")
    if wrong := problem(store, expected):
        raise Broken(f"{count} drivers: {wrong}")
    return Outcome(f"{count} drivers, {'overlapping studies' if overlapping else 'one study'}")


@contextlib.contextmanager
def _begin(scene: Scene) -> Iterator[Trial]:
    scene.study.undisturbed()
    yield partial(_trial, scene.study)


DRIVERS = Kind(
    "Two to four runs at once on one store, of one study or of overlapping ones, all finish with equal bits, and make each "
    "artifact once.",
    long=50,
    short=2,
    begin=_begin,
)
