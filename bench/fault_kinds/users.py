"""Two users of one group on one store, in turn and at once; and links that one of them plants for the other."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from fault_kinds.accounts import GROUP, Account, no_accounts
from fault_kinds.kind import Broken, Kind, Outcome, Scene, Trial
from fault_kinds.studies import SERIAL, TWO, Done, Study, artifacts, end, problem, start, wait_for


def _shared(folder: Path) -> Path:
    """A store's folder that belongs to the group, as does what is made in it."""
    store = folder / "store"
    store.mkdir()
    os.chown(store, 0, GROUP)
    store.chmod(0o2775)
    return store


def _start(account: Account, study: Study, store: Path, draws: random.Random) -> subprocess.Popen[str]:
    words = account.words(study.words("run", store, "--json", *draws.choice((SERIAL, TWO))))
    return start(words, environment=account.environment)


def _finished(who: str, done: Done) -> None:
    if done.code != 0:
        raise Broken(f"{who} did not finish; {done.said}")


def _users(study: Study, folder: Path, draws: random.Random) -> Outcome:
    store, total = _shared(folder), len(artifacts(study.undisturbed()))
    first, second = Account.number(1, folder), Account.number(2, folder)
    at_once = draws.random() < 0.5
    process = _start(first, study, store, draws)
    if at_once:
        time.sleep(draws.uniform(0, 1))
        other = _start(second, study, store, draws)
        ends = [end(process), end(other)]
        for done in ends:
            _finished("one of two users at once", done)
        made = sum(done.made for done in ends)
    else:
        wait_for(process, store, draws.randrange(total))
        time.sleep(draws.uniform(0, 0.3))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, draws.choice((signal.SIGKILL, signal.SIGINT)))
        end(process)
        made = len(artifacts(store))
        done = end(_start(second, study, store, draws))
        _finished("the second user", done)
        made += done.made
    if made != total:
        raise Broken(f"two users made {made} artifacts of {total}")
    again = end(_start(first, study, store, draws))
    _finished("the first user, afterwards,", again)
    if again.made:
        raise Broken(f"the first user made {again.made} artifacts again")
    if wrong := problem(store, study.contents()):
        raise Broken(wrong)
    return Outcome("at once" if at_once else "in turn")


def _planted(store: Path, keys: list[str], outside: Path, draws: random.Random) -> list[Path]:
    """Links into the first user's folder, under names that the store or its report uses."""
    reports = store / "reports" / "faults"
    places = [
        *((store / ".work" / key, outside) for key in keys),
        *((store / name, outside / "precious") for name in ("tags.json", "fingerprints.json")),
        *((store / ".locks" / key, outside / "new") for key in keys),
        *((reports / name, outside / "precious") for name in ("report.html", ".made-of.json", "trace.json")),
        *((reports / name, outside) for name in ("figures", "tables")),
        *((store / name, outside) for name in (".runs", ".damaged", ".compiled", "reports")),
    ]
    links = []
    for link, target in draws.sample(places, draws.randint(1, 8)):
        if not link.exists() and not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(target)
            links.append(link)
    return links


def _links(study: Study, folder: Path, draws: random.Random) -> Outcome:
    store, account = _shared(folder), Account.number(1, folder)
    outside = account.home / "outside"
    outside.mkdir()
    (outside / "precious").write_text("{}")
    for path in (outside, outside / "precious"):
        os.chown(path, account.uid, GROUP)
    before = (outside / "precious").stat()
    keys = sorted(path.parent.name for path in artifacts(study.undisturbed()))
    links = _planted(store, keys, outside, draws)
    for path in store.rglob("*"):  # the links' folders are the group's, too
        if path.is_dir() and not path.is_symlink():
            os.chown(path, 0, GROUP)
            path.chmod(0o2775)
    done = end(_start(account, study, store, draws))
    names = ", ".join(str(link.relative_to(store)) for link in links)
    if done.code and not done.one_message:
        raise Broken(f"links at {names}: {done.said}")
    after = (outside / "precious").stat()
    written = sorted(path.name for path in outside.iterdir() if path.name != "precious")
    if written or (outside / "precious").read_text() != "{}" or after.st_mtime_ns != before.st_mtime_ns:
        raise Broken(f"links at {names}: {', '.join(written[:3]) or 'precious'} was written outside of the store")
    for link in links:
        if link.is_symlink():
            link.unlink()
    _finished("the run without the links", end(_start(account, study, store, draws)))
    if wrong := problem(store, study.contents()):
        raise Broken(f"links at {names}: {wrong}")
    return Outcome("one message" if done.code else "finished")


@contextlib.contextmanager
def _begin_users(scene: Scene) -> Iterator[Trial]:
    scene.study.undisturbed()
    yield partial(_users, scene.study)


@contextlib.contextmanager
def _begin_links(scene: Scene) -> Iterator[Trial]:
    scene.study.undisturbed()
    yield partial(_links, scene.study)


USERS = Kind(
    "Two users of one group on one store, in turn and at once, both finish with equal bits, and make each artifact once.",
    long=20,
    short=1,
    begin=_begin_users,
    cannot=no_accounts,
)
LINKS = Kind(
    "Links that another user has put into a store lead no file of a run out of it.",
    long=20,
    short=1,
    begin=_begin_links,
    cannot=no_accounts,
)
