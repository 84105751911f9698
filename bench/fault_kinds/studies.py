"""A study of a few seconds, run by the command in processes of its own; what must hold of its store."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from same_bits import HERE, files

TEXT = """
title: faults
seeds: [0]
data: {name: npz, path: PLACE/digits.npz}
model: {name: convnet, depth: 2, width: 4, norm: instance}
experts:
  count: 2
  recipe: {length: 3ep, batch: 64, lr: 0.1, momentum: 0.0}
distill:
  synthetic: {name: trajectory, ipc: 1, iterations: 60, inner_steps: 3, expert_epochs: 1, max_start: 2, inner_lr: 0.1,
              lr_pixels: 1.0, optimizer: adam, augment: color_crop}
prune:
  levels: 2
  rate: 0.3
  recipe: {length: 6it, batch: 10, lr: 0.1}
arms:
  real: {images: real}
  synthetic: {images: synthetic}
retrain:
  copies: 2
  recipe: {length: 8it, batch: 32, lr: 0.1, momentum: 0.9}
levels: [0, 2]
compare:
  accuracy: {}
  connectivity: {points: 3, train_rows: 100}
  overlap: {}
  evaluation: {nets: 2, length: 6it}
"""
SERIAL, TWO = ("--executor", "serial"), ("--executor", "processes", "--workers", "2")
"""Options of a run: in one process, or in two workers."""
LONGEST = 300.0
"""Seconds after which a command of the tiny study counts as hanging."""

Contents = Mapping[str, str]
"""What must be equal of a store: a hash by the name of the file."""


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """The end of what it said."""
        return f"exit code {self.code}: {(self.err or self.out).strip()[-600:]}"

    @property
    def one_message(self) -> bool:
        """Whether it names what is wrong once, and without a traceback."""
        return "Traceback" not in self.err + self.out and len(re.findall(r"(?m)^error:", self.err)) == 1

    @property
    def made(self) -> int:
        """The artifacts that a run with --json has made."""
        return int(json.loads(self.out)["made"])

    @property
    def present(self) -> int:
        """The artifacts that a run with --json has made or found."""
        told = json.loads(self.out)
        return int(told["made"] + told["hits"] + told["elsewhere"])


def start(
    words: Sequence[str], folder: Path | None = None, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    """A command in a process group of its own."""
    return subprocess.Popen(
        list(words),
        cwd=folder or HERE,
        env={**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
        start_new_session=True,
    )


def end(process: subprocess.Popen[str], seconds: float = LONGEST) -> Done:
    """Wait for a command; one that hangs is killed with its group, and its code is that of the signal."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        err += f"\nkilled after {seconds:.0f} s"
    return Done(process.returncode, out, err)


def command(*words: str) -> list[str]:
    """The command of this checkout."""
    return [sys.executable, "-m", "distill_prune", *words]


def verified(store: Path) -> tuple[Done, set[str]]:
    """What `verify` says, and the keys of the damaged artifacts."""
    done = end(start(command("verify", "--json", "--store", str(store))))
    try:
        return done, {d["key"] for d in json.loads(done.out)["damaged"]}
    except (ValueError, KeyError, TypeError):
        return done, set()


def artifacts(store: Path) -> dict[Path, int]:
    """The manifests of a store, and the inode of each."""
    inodes = {}
    for path in store.glob("[!.]*/*/manifest.json"):
        try:
            inodes[path] = path.stat().st_ino
        except OSError:
            continue  # removed or moved since it was listed
    return inodes


def wait_for(process: subprocess.Popen[str], store: Path, count: int) -> None:
    """Wait until the store has so many artifacts, or the command is over."""
    while process.poll() is None and len(artifacts(store)) < count:
        time.sleep(0.02)


def descendants(pid: int) -> Iterator[int]:
    """Every process below `pid`."""
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            below = path.read_text().split()
        except OSError:
            continue
        for child in below:
            yield int(child)
            yield from descendants(int(child))


def words_of(pid: int) -> str:
    """The command line of a process; empty where it is over."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def gone(pids: Sequence[int], within: float = 20.0) -> bool:
    """Whether all of the processes end in time."""
    last = time.monotonic() + within
    while (left := [p for p in pids if words_of(p)]) and time.monotonic() < last:
        time.sleep(0.05)
    return not left


@dataclass(frozen=True)
class Study:
    """The tiny study of a folder with its data, changed by `sets`, and its store that nothing has disturbed."""

    folder: Path
    sets: tuple[str, ...] = ()
    _lock: threading.Lock = field(default_factory=threading.Lock, compare=False)

    @property
    def file(self) -> Path:
        return self.folder / "faults.yaml"

    @classmethod
    def written(cls, folder: Path) -> Study:
        """The study with its data, 400 digits, in a new folder."""
        from sklearn.datasets import load_digits

        folder.mkdir(parents=True, exist_ok=True)
        digits = load_digits()
        np.savez(folder / "digits.npz", x=(digits.images[:400, :, :, None] * 15).astype(np.uint8), y=digits.target[:400])
        study = cls(folder)
        study.file.write_text(TEXT.replace("PLACE", str(folder)), encoding="utf-8")
        return study

    def changed(self, *sets: str) -> Study:
        return replace(self, sets=(*self.sets, *sets))

    @property
    def settings(self) -> list[str]:
        """Its changes as options."""
        return [word for assignment in self.sets for word in ("--set", assignment)]

    def words(self, name: str, store: Path, *options: str) -> list[str]:
        """A command on the study and a store."""
        return command(name, str(self.file), *self.settings, "--store", str(store), *options)

    def run(self, store: Path, *options: str) -> Done:
        """Run the study to its end, in one process where no option says otherwise."""
        return end(start(self.words("run", store, "--json", *(options or SERIAL))))

    def undisturbed(self) -> Path:
        """The store that a serial run makes, made at the first call. Not to be changed."""
        store = self.folder / "_".join(("undisturbed", *(re.sub(r"\W+", "-", s) for s in self.sets)))
        with self._lock:
            if not (whole := store.with_suffix(".whole")).exists():
                done = self.run(store)
                if done.code != 0:
                    raise SystemExit(f"the tiny study does not run; {done.said}")
                whole.touch()
        return store

    def contents(self) -> Contents:
        """What the undisturbed store holds."""
        return files(self.undisturbed())


def differing(store: Path, expected: Contents) -> set[str]:
    """The files of a store that are not as expected, those that nothing expects among them. What is missing does not count."""
    return {name for name, sha256 in files(store).items() if expected.get(name) != sha256}


def problem(store: Path, expected: Contents) -> str:
    """What is wrong with a store that a run has finished; empty where nothing is."""
    if wrong := sorted(differing(store, expected)):
        return f"{len(wrong)} files differ from the undisturbed store's: {', '.join(wrong[:3])}"
    if missing := sorted(set(expected) - set(files(store))):
        return f"{len(missing)} files are missing: {', '.join(missing[:3])}"
    if aside := list((store / ".damaged").glob("*")):
        return f"{len(aside)} artifacts were set aside as damaged: {aside[0].name}"
    done, damaged = verified(store)
    if done.code != 0 or damaged:
        return f"verify: {done.said}"
    return ""
