"""Time and memory of several ways to do the same work, in turn in one process; and the machine that they run on.

A round takes every side once, and every other round takes them in the opposite order, so that a slow drift of the machine
falls on all sides alike. The ratio of a round is that of one side to the plain side of that round.
"""

from __future__ import annotations

import gc
import os
import platform
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

import torch
from records import FAILED, RowRecord

from distill_prune.run.devices import cores, processor
from distill_prune.run.worker import conditions, give_pages_back, keep_pages, reset_peak
from distill_prune.run.worker import peak_mb as resident_mb

ROOT = Path(__file__).resolve().parent.parent
PRODUCT = {"cpu": 1024, "cuda": 8192}
"""The side of the square matrices whose product is the measured peak, by kind of device."""

Clock = Callable[[], float]
T = TypeVar("T")


@dataclass(frozen=True)
class Scene:
    """Where and how large rows are measured: a folder for what they write, the device, `quick` for sizes that only show that a
    row works, and a folder with CIFAR-10 as npz where there is one (else images are made up)."""

    scratch: Path
    device: str = "cpu"
    quick: bool = False
    data: Path | None = None

    def size(self, full: T, quick: T) -> T:
        return quick if self.quick else full


@dataclass(frozen=True)
class Side:
    """One way to do a row's work. `goal` and `memory_goal` are shares of the plain side; in a row without one `goal` is
    seconds. `warm` asks for a run before those that count."""

    name: str
    run: Callable[[], object]
    goal: float | None = None
    memory_goal: float | None = None
    warm: bool = True


@dataclass(frozen=True)
class Row:
    """One line of the table: the work in words, the plain side, ours, and what this version of the package cannot do.

    `flops` are the floating-point operations of the work, counted once for all sides; None where nobody counts them.
    """

    work: str
    plain: Side | None
    ours: Sequence[Side]
    threads: int = 1
    flops: float | None = None
    memory: bool = False
    absent: Mapping[str, str] = field(default_factory=dict)

    @property
    def sides(self) -> list[Side]:
        return [*([] if self.plain is None else [self.plain]), *self.ours]


def cpu_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def timed(run: Callable[[], object], clock: Clock, device: str) -> float:
    finish(device)
    began = clock()
    run()
    finish(device)
    return clock() - began


def finish(device: str) -> None:
    """Wait for all work on the device."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


def peak_mb(run: Callable[[], object], device: str) -> float:
    """MiB that `run` needs at most, above what is there before it: resident memory, or of the device's allocator."""
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
        there = torch.cuda.memory_allocated(device)
        run()
        return (torch.cuda.max_memory_allocated(device) - there) / 2**20
    give_pages_back()  # those that were freed and kept would count as there
    reset_peak()
    before = resident_mb()
    run()
    return resident_mb() - before


def product_flops(device: str, threads: int, side: int | None = None, rounds: int = 20) -> float:
    """Floating-point operations a second of the fastest of some products of square float32 matrices."""
    side = side or PRODUCT[device.split(":")[0]]
    a, b = (torch.randn(side, side, device=device) for _ in range(2))
    with conditions(threads):
        seconds = min(timed(lambda: a @ b, time.perf_counter, device) for _ in range(rounds))
    return 2 * side**3 / seconds


def measure(row: Row, repeats: int, *, device: str = "cpu", clock: str = "wall", quick: bool = False) -> RowRecord:
    """Run every side once, then `repeats` rounds of those of which the first run did not fail. Memory is measured by
    `peak_mb`, in a process for each side."""
    keep_pages()
    torch.set_num_threads(row.threads)
    tick = time.perf_counter if clock == "wall" else cpu_seconds
    peak = product_flops(device, row.threads, side=128 if quick else None)
    first, absent, sides = dict[str, float | None](), dict(row.absent), list[Side]()
    for side in row.sides:
        try:
            first[side.name] = timed(side.run, tick, device) if side.warm else None
            sides.append(side)
        except Exception as problem:
            if side is row.plain:
                raise
            traceback.print_exc()
            absent[side.name] = f"{FAILED}{type(problem).__name__}: " + str(problem).partition("\n")[0]
    seconds: dict[str, list[float]] = {s.name: [] for s in sides}
    for index in range(repeats):
        for side in sides if index % 2 == 0 else sides[::-1]:
            seconds[side.name].append(timed(side.run, tick, device))
    return {
        "work": row.work,
        "threads": row.threads,
        "peak_gflops": peak / 1e9,
        "flops": row.flops,
        "sides": [
            {
                "name": side.name,
                "plain": side is row.plain,
                "goal": side.goal,
                "memory_goal": side.memory_goal,
                "first_seconds": first[side.name],
                "seconds": seconds[side.name],
                "mb": [],
            }
            for side in sides
        ],
        "absent": absent,
    }


def machine(device: str) -> dict[str, str | float]:
    """What figures depend on besides the code."""
    facts: dict[str, str | float] = {
        "processor": processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": cores(),
        "memory_gib": round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "torch": torch.__version__,
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.now(UTC).isoformat(timespec="minutes"),
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name(device)
    return facts
