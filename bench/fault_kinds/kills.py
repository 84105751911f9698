"""Kills and signals at any time: the next run goes on, and makes nothing twice."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from same_bits import HERE

from fault_kinds.kind import Broken, Kind, Outcome, Scene, Trial
from fault_kinds.studies import TWO, Done, Study, artifacts, descendants, end, gone, problem, start, wait_for, words_of

PLUGIN = ("--plugin", "fault_kinds.snapshots_often")
BENCH = {"PYTHONPATH": f"{HERE}{os.pathsep}{HERE / 'bench'}"}
WAYS = ("driver", "worker", "both", "distillation", "distillation", "INT", "TERM", "HUP")


def distilling(study: Study, store: Path) -> subprocess.Popen[str]:
    """A serial run that keeps snapshots, at a time when it has one of its distillation."""
    process = start(study.words("run", store, "--json", "--executor", "serial", *PLUGIN), environment=BENCH)
    while process.poll() is None and not any((store / ".work").glob("*/snapshot.safetensors")):
        time.sleep(0.01)
    return process


def workers(driver: int) -> list[int]:
    return [pid for pid in descendants(driver) if "spawn_main" in words_of(pid)]


def _kill(pids: Sequence[int], number: int = signal.SIGKILL) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _disturbed(study: Study, way: str, store: Path, draws: random.Random) -> Done:
    """A run that meets its fault at a drawn time, and how it has ended."""
    if way == "distillation":
        process = distilling(study, store)
        time.sleep(draws.uniform(0, 0.6))
        _kill([process.pid])
        return end(process)
    process = start(study.words("run", store, "--json", *TWO))
    total = len(artifacts(study.undisturbed()))
    wait_for(process, store, draws.randrange(total))
    while process.poll() is None and not (store / ".work").exists():
        time.sleep(0.01)  # the command answers signals from here on
    time.sleep(draws.uniform(0, 0.5))
    below = workers(process.pid)
    if way in ("worker", "both") and below:
        _kill([draws.choice(below)])
        time.sleep(draws.uniform(0, 0.05) if way == "both" else 0)
    if way == "INT":
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGINT)  # a terminal interrupts the whole group
    elif way in ("TERM", "HUP"):
        _kill([process.pid], signal.Signals[f"SIG{way}"])
    elif way != "worker":
        _kill([process.pid])
    done = end(process)
    if not gone(below):
        raise Broken(f"{way}: workers live on after their driver has ended ({done.said})")
    return done


def _trial(study: Study, folder: Path, draws: random.Random) -> Outcome:
    way, store = draws.choice(WAYS), folder / "store"
    done = _disturbed(study, way, store, draws)
    over, total = done.code == 0, len(artifacts(study.undisturbed()))
    if way in ("INT", "TERM", "HUP") and done.code not in (0, 130):
        raise Broken(f"{way}: {done.said}")
    if "Traceback" in done.err:
        raise Broken(f"{way}: a traceback; {done.said}")
    if way == "worker" and not (over and done.present == total):
        raise Broken(f"the run did not survive its worker; {done.said}")
    before = artifacts(store)
    again = study.run(store, *(TWO if draws.random() < 0.3 else ()))
    if again.code != 0:
        raise Broken(f"{way}: the next run failed; {again.said}")
    if again.made != total - len(before):
        raise Broken(f"{way}: {len(before)} of {total} artifacts were there, and the next run made {again.made}")
    if any(artifacts(store).get(path) != inode for path, inode in before.items()):
        raise Broken(f"{way}: an artifact that was there was made again")
    if wrong := problem(store, study.contents()):
        raise Broken(f"{way}: {wrong}")
    return Outcome(f"{way}, over before" if over and way != "worker" else way)


@contextlib.contextmanager
def _begin(scene: Scene) -> Iterator[Trial]:
    scene.study.undisturbed()
    yield partial(_trial, scene.study)


KILLS = Kind(
    "After SIGKILL of the driver, a worker or both, and after INT, TERM and HUP, the next run ends with equal bits, and makes "
    "no artifact a second time.",
    long=100,
    short=4,
    begin=_begin,
)
