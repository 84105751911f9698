"""`gc` of another study, again and again beside a run: it takes nothing that the run needs."""

from __future__ import annotations

import contextlib
import random
import shutil
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from same_bits import files

from fault_kinds.kind import Broken, Kind, Outcome, Scene, Trial
from fault_kinds.studies import SERIAL, TWO, Contents, Done, Study, artifacts, command, end, problem, start

OTHER = "seeds=[1]"


def _collect(kept: Study, store: Path, over: threading.Event, said: list[Done]) -> None:
    """Remove what the kept study does not need, until the run is over. A `gc` that is on its way then is stopped: the run does
    not hold its artifacts any longer."""
    while not over.is_set():
        process = start(command("gc", "--keep", str(kept.file), *kept.settings, "--store", str(store), "--yes"))
        while process.poll() is None:
            if over.wait(0.01):
                process.kill()
        said.append(end(process))


def _trial(study: Study, expected: Contents, folder: Path, draws: random.Random) -> Outcome:
    store, kept = folder / "store", study.changed(OTHER)
    shutil.copytree(kept.undisturbed(), store)
    before = artifacts(store)
    executor = draws.choice((SERIAL, TWO))
    over, said = threading.Event(), list[Done]()
    thread = threading.Thread(target=_collect, args=(kept, store, over, said))
    thread.start()
    try:
        done = study.run(store, *executor)
    finally:
        over.set()
        thread.join()
    if done.code != 0:
        raise Broken(f"the run failed beside gc; {done.said}")
    if failed := next((g for g in said if g.code not in (0, -9)), None):
        raise Broken(f"gc failed beside the run; {failed.said}")
    missing = {path.parent.name for path in artifacts(study.undisturbed())} - {path.parent.name for path in before}
    if done.made != len(missing):
        raise Broken(f"{len(missing)} artifacts were to be made, and the run made {done.made}")
    if set(expected) - set(files(store)):  # gc may take what the run has made as soon as that has ended
        again = study.run(store)
        if again.code != 0:
            raise Broken(f"the next run failed; {again.said}")
    if wrong := problem(store, expected):
        raise Broken(wrong)
    return Outcome("finished", {"collections beside one run": len(said)})


@contextlib.contextmanager
def _begin(scene: Scene) -> Iterator[Trial]:
    expected = {**scene.study.contents(), **scene.study.changed(OTHER).contents()}
    yield partial(_trial, scene.study, expected)


GC = Kind(
    "A run beside which `gc` keeps another study, again and again, finishes, and makes nothing twice.",
    long=60,
    short=2,
    begin=_begin,
)
