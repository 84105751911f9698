"""Full disks, disks without inodes, and read-only disks: one message, a whole store, and a run that goes on."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from fault_kinds.accounts import Account
from fault_kinds.kind import Broken, Kind, Outcome, Scene, Trial
from fault_kinds.studies import SERIAL, TWO, Contents, Done, Study, artifacts, end, problem, start, verified, wait_for

ROOM = "size=64m,nr_inodes=10000"


def _mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(done.stderr.strip() or f"mount ended with {done.returncode}")


def remount(place: Path, options: str) -> None:
    """Change the options of a mounted disk."""
    _mount("-o", f"remount,{options}", str(place))


@contextlib.contextmanager
def disk(place: Path, options: str) -> Iterator[Path]:
    """A small disk in memory. Where a promise is broken, what it holds is kept in the folder in its place."""
    place.mkdir()
    _mount("-t", "tmpfs", "-o", options, "tmpfs", str(place))
    kept: Path | None = None
    try:
        yield place
    except Broken:
        kept = Path(shutil.copytree(place, place.with_name("kept"), symlinks=True))
        raise
    finally:
        subprocess.run(["umount", "--lazy", str(place)], check=False)
        place.rmdir()
        if kept is not None:
            kept.rename(place)


def no_mounts() -> str:
    """Why no disk can be mounted here; empty where one can."""
    if os.geteuid() != 0:
        return "mounting a disk in memory needs root"
    with tempfile.TemporaryDirectory() as folder:
        try:
            with disk(Path(folder, "disk"), "size=1m"):
                return ""
        except OSError as problem:
            return f"no disk in memory can be mounted ({problem})"


def _ended(what: str, done: Done, codes: tuple[int, ...]) -> None:
    """A run that could not write has ended as it should."""
    if done.code not in codes or (done.code and not done.one_message):
        raise Broken(f"{what}: expected one message and exit code {codes[-1]}; {done.said}")


def _whole(what: str, store: Path) -> None:
    checked, damaged = verified(store)
    if checked.code != 0 or damaged:
        raise Broken(f"{what}: verify: {checked.said}")


def _goes_on(what: str, study: Study, store: Path, expected: Contents) -> None:
    done = study.run(store)
    if done.code != 0:
        raise Broken(f"{what}: the run with room failed; {done.said}")
    if wrong := problem(store, expected):
        raise Broken(f"{what}: {wrong}")


def _executor(draws: random.Random) -> tuple[str, ...]:
    return draws.choice((SERIAL, TWO))


def _short_of(needed: int, option: str, study: Study, folder: Path, draws: random.Random) -> Outcome:
    """A run on a disk that has a drawn share of what it needs."""
    share = draws.uniform(0.05, 0.98)
    what = f"{option}={max(12, int(needed * share))}"
    rest = "nr_inodes=10000" if option == "size" else "size=64m"
    with disk(folder / "disk", f"{what},{rest}") as place:
        store = place / "store"
        done = study.run(store, *_executor(draws))
        _ended(what, done, (0, 1))
        there = len(artifacts(store))
        _whole(what, store)
        remount(place, ROOM)
        _goes_on(what, study, store, study.contents())
    return Outcome("fitted" if done.code == 0 else f"full after {'some' if there else 'no'} artifacts")


def _read_only(study: Study, folder: Path, draws: random.Random) -> Outcome:
    """A disk that is read-only from the start, before or after the study was made; or a store whose permissions change in the
    middle of a run of another user."""
    ways: tuple[Callable[[Study, Path, random.Random], str], ...] = (_before, _after, _amid)
    with disk(folder / "disk", ROOM) as place:
        return Outcome(draws.choice(ways)(study, place, draws))


def _before(study: Study, place: Path, draws: random.Random) -> str:
    store, until = place / "store", draws.choice(("data", "experts", "distill", "prune"))
    begun = end(start(study.words(until, store, "--executor", "serial")))
    if begun.code != 0:
        raise Broken(f"{until} failed; {begun.said}")
    remount(place, "ro")
    _ended("read-only", study.run(store, *_executor(draws)), (2,))
    _whole("read-only", store)
    remount(place, "rw")
    _goes_on("read-only before", study, store, study.contents())
    return "a part was made before"


def _after(study: Study, place: Path, _: random.Random) -> str:
    store = place / "store"
    _goes_on("first run", study, store, study.contents())
    remount(place, "ro")
    for done in (study.run(store), end(start(study.words("plan", store)))):
        if done.code != 0:
            raise Broken(f"everything was made, and a read-only disk stops a command; {done.said}")
    _whole("read-only", store)
    return "all was made before"


def _amid(study: Study, place: Path, draws: random.Random) -> str:
    account, store = Account.number(1, place.parent), place / "store"
    place.chmod(0o777)
    words = account.words(study.words("run", store, "--json", *_executor(draws)))
    process = start(words, environment=account.environment)
    wait_for(process, store, draws.randrange(len(artifacts(study.undisturbed()))))
    time.sleep(draws.uniform(0, 0.3))
    subprocess.run(["chown", "-R", "root:root", str(store)], check=False)
    ended = end(process)
    _ended("not its store any longer", ended, (0, 2))
    _whole("not its store any longer", store)
    _goes_on("not its store any longer", study, store, study.contents())
    return f"another's from the middle on: {'finished' if ended.code == 0 else 'one message'}"


def _bytes(store: Path) -> int:
    return sum(-(-path.stat().st_size // 4096) * 4096 for path in store.rglob("*") if path.is_file())


@contextlib.contextmanager
def _begin_full(scene: Scene) -> Iterator[Trial]:
    yield partial(_short_of, _bytes(scene.study.undisturbed()), "size", scene.study)


@contextlib.contextmanager
def _begin_inodes(scene: Scene) -> Iterator[Trial]:
    yield partial(_short_of, sum(1 for _ in scene.study.undisturbed().rglob("*")), "nr_inodes", scene.study)


@contextlib.contextmanager
def _begin_readonly(scene: Scene) -> Iterator[Trial]:
    scene.study.undisturbed()
    yield partial(_read_only, scene.study)


FULL = Kind(
    "On a full disk a run ends with one message and exit code 1, the store is whole, and a run with room ends with equal bits.",
    long=20,
    short=1,
    begin=_begin_full,
    cannot=no_mounts,
)
INODES = Kind("The same on a disk without inodes.", long=20, short=1, begin=_begin_inodes, cannot=no_mounts)
READONLY = Kind(
    "On a read-only store a run that has to write ends with one message and exit code 2, one that finds everything with 0. The "
    "store is whole.",
    long=20,
    short=1,
    begin=_begin_readonly,
    cannot=no_mounts,
)
