"""What this machine has."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch

from distill_prune.compiled import compiler
from distill_prune.errors import DistillPruneError
from distill_prune.run.devices import cores, memory
from distill_prune.run.ray_cluster import describe
from distill_prune.run.worker import versions
from distill_prune.store.disk import free_bytes, present
from distill_prune.store.store import Store
from distill_prune.vision import torchvision


def bfloat16() -> str:
    """Whether this processor has instructions for products in bfloat16, in words."""
    fast = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "fast (AMX or AVX-512 BF16)" if fast else "emulated on this processor: slower than float32"


def examine(store: Path) -> dict[str, str]:
    """Versions, devices, cores, memory, Ray and the store, in words."""
    facts = dict(versions())
    try:
        facts["torchvision"] = str(torchvision().__version__)
    except (ImportError, RuntimeError) as problem:
        facts["torchvision"] = f"cannot be imported: {problem}"
    gpus = [f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count())]
    facts["devices"] = ", ".join(["cpu", *gpus])
    facts["cores"] = str(cores())
    if (there := memory()) is not None:
        facts["memory"] = f"{there / 2**30:.1f} GiB"
    facts["bfloat16"] = bfloat16()
    facts["C++ compiler"] = compiler() or "none: `compile: true` cannot be used on a CPU"
    facts["ray"] = describe()
    facts["system"] = f"{platform.system()} {platform.machine()}"
    try:
        inside = sum(1 for _ in Store(store).all())
        state = "writable" if os.access(present(store), os.W_OK) else "NOT writable"
        facts["store"] = f"{store}: {inside} artifacts, {state}, {free_bytes(store) / 2**30:.1f} GiB free"
    except DistillPruneError as problem:
        facts["store"] = str(problem)
    return facts
