"""Kills on a Ray cluster of this machine: of a worker, of the raylet that all its workers belong to, and of one of the agents
without which the raylet ends."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import signal
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fault_kinds.kind import Broken, Kind, Outcome, Scene, Trial
from fault_kinds.studies import Study, artifacts, descendants, end, gone, problem, start, wait_for, words_of

AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""What Ray calls them; the names of workers begin with `ray::`, too."""


def _is(way: str, words: str) -> bool:
    """Whether the command line is that of a process of this kind."""
    if way == "raylet":
        return "/raylet " in words
    return any(agent in words for agent in AGENTS) == (way == "agent") and "ray::" in words


def _no_ray() -> str:
    return "" if importlib.util.find_spec("ray") else "Ray is not installed"


def _trial(study: Study, folder: Path, draws: random.Random) -> Outcome:
    way, store = draws.choice(("worker", "worker", "raylet", "agent")), folder / "store"
    total = len(artifacts(study.undisturbed()))
    process = start(study.words("run", store, "--json", "--executor", "ray", "--workers", "2"))
    wait_for(process, store, draws.randint(1, total - 1))
    time.sleep(draws.uniform(0, 0.3))
    below = list(descendants(process.pid))
    chosen = [pid for pid in below if _is(way, words_of(pid))]
    if chosen:
        with contextlib.suppress(ProcessLookupError):
            os.kill(draws.choice(chosen), signal.SIGKILL)
    done = end(process)
    if not gone(below, 60):
        raise Broken(f"{way}: processes of Ray live on after the run ({done.said})")
    if done.code != 0 and (way == "worker" or not done.one_message):
        raise Broken(f"{way}: {done.said}")
    before = artifacts(store)
    again = study.run(store)
    if again.code != 0 or again.made != total - len(before):
        raise Broken(f"{way}: {len(before)} of {total} artifacts were there; {again.said}")
    if wrong := problem(store, study.contents()):
        raise Broken(f"{way}: {wrong}")
    return Outcome(f"{way}, {'finished' if done.code == 0 else 'one message'}" if chosen else f"no {way} was found")


@contextlib.contextmanager
def _begin(scene: Scene) -> Iterator[Trial]:
    scene.study.undisturbed()
    yield partial(_trial, scene.study)


RAY = Kind(
    "A run on Ray survives the death of a worker. After that of the raylet, or of one of its agents, the next run ends with "
    "equal bits, and makes nothing twice.",
    long=10,
    short=0,
    begin=_begin,
    cannot=_no_ray,
)
