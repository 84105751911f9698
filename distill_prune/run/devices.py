"""Devices that artifacts are made on, and how much of them there is."""

from __future__ import annotations

import contextlib
import os
import platform
from pathlib import Path

from distill_prune.errors import DeviceError

EXECUTORS = ("serial", "processes", "ray")
"""Where artifacts can be made: in the process that asks, in worker processes, or on a Ray cluster."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def usual_workers(threads: int) -> int:
    """How many workers of `threads` threads the processor has cores for, at least one."""
    return max(1, cores() // threads)


def memory() -> int | None:
    """Bytes of this machine's memory; None where the system does not tell."""
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def processor() -> str:
    """The name of this machine's processor."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return platform.processor() or platform.machine()


def check_device(device: str) -> None:
    """Check that this machine has the device.

    Raises:
        DeviceError: no such device on this machine.
    """
    import torch

    have = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0))]
    if device not in have and not (device == "cuda" and len(have) > 1):
        raise DeviceError(f"there is no device '{device}' on this machine", expected=", ".join(have), fix="--device cpu")
