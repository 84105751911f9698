"""Bits of a study in lanes do not depend on who makes it, nor on what happens on the way: every file of six stores is equal.

    python bench/lane_bits.py FOLDER [--lanes 8] [--without-ray]

A shrunk digits.yaml with three seeds is made serially, by two processes, by Ray, by two processes of which one is killed, with
drivers that are stopped in the middle again and again, and with two seeds first and the third afterwards. About ten minutes
on two cores. Exits with 1 where a file differs.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from same_bits import DIGITS, HERE, compare

# Long enough that snapshots are due in the middle of a group.
STUDY = (*DIGITS, "seeds=[0,1,2]", "retrain.recipe.length=200it", "prune.recipe.length=200it")
OPTIONS = [part for setting in STUDY for part in ("--set", setting)]


def start(store: Path, lanes: int, *options: str) -> subprocess.Popen[str]:
    """A run of the study in a process group of its own; what it says goes to a log beside the store."""
    arguments = ["run", "pipelines/digits.yaml", *OPTIONS, "--set", f"lanes={lanes}", "--store", str(store), *options]
    return subprocess.Popen(
        [sys.executable, "-m", "distill_prune", *arguments],
        cwd=HERE,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdout=store.with_suffix(".log").open("a"),
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(store: Path, lanes: int, *options: str) -> None:
    if start(store, lanes, *options).wait() != 0:
        sys.exit(f"a run failed: {store.with_suffix('.log')}")


def artifacts(store: Path) -> int:
    return sum(1 for _ in store.glob("[!.]*/*/manifest.json"))


def wait_for(process: subprocess.Popen[str], store: Path, count: int) -> None:
    """Wait until the store has so many artifacts, or the run is over."""
    while process.poll() is None and artifacts(store) < count:
        time.sleep(0.05)


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def with_a_kill(store: Path, lanes: int) -> None:
    """Two worker processes, of which one is killed in the middle."""
    process = start(store, lanes, "--executor", "processes", "--workers", "2")
    wait_for(process, store, 40)
    worker = next(p for p in children(process.pid)[::-1] if b"spawn_main" in Path(f"/proc/{p}/cmdline").read_bytes())
    os.kill(worker, signal.SIGKILL)
    if process.wait() != 0 or "its worker died" not in store.with_suffix(".log").read_text():
        sys.exit(f"no worker died, or the run failed: {store.with_suffix('.log')}")


def with_stops(store: Path, lanes: int) -> None:
    """Drivers that are interrupted a moment after every few artifacts, in the middle of what comes next."""
    for count in range(15, 200, 30):
        process = start(store, lanes, "--executor", "processes", "--workers", "2")
        wait_for(process, store, count)
        time.sleep(0.3)
        os.killpg(process.pid, signal.SIGINT if count % 60 == 15 else signal.SIGKILL)
        process.wait()
    finish(store, lanes)


def grown(store: Path, lanes: int) -> None:
    """Two seeds, and then the third; the first summary is the only artifact that is not of the whole study."""
    finish(store, lanes, "--set", "seeds=[0,1]")
    before = {p.parent for p in store.glob("compare/*/manifest.json") if '"summary"' in p.read_text()}
    finish(store, lanes)
    for summary in before:
        for file in summary.iterdir():
            file.unlink()
        summary.rmdir()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--lanes", type=int, default=8)
    parser.add_argument("--without-ray", action="store_true")
    a = parser.parse_args(arguments)
    a.folder.mkdir(parents=True, exist_ok=True)
    stores = {name: a.folder.resolve() / name for name in ("serial", "processes", "killed", "stopped", "grown", "ray")}
    finish(stores["serial"], a.lanes, "--executor", "serial")
    finish(stores["processes"], a.lanes, "--executor", "processes", "--workers", "2")
    with_a_kill(stores["killed"], a.lanes)
    with_stops(stores["stopped"], a.lanes)
    grown(stores["grown"], a.lanes)
    if not a.without_ray:
        finish(stores["ray"], a.lanes, "--executor", "ray", "--workers", "2")
    others = [name for name in stores if name != "serial" and stores[name].exists()]
    equal = [compare(stores["serial"], stores[name]) for name in others]
    sys.exit(not all(equal))


if __name__ == "__main__":
    main()
