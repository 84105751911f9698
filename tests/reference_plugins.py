"""A good entry for every table that plugins extend, written where a test imports it, and forgotten afterwards."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from distill_prune.plugins import TABLES, table_of
from distill_prune.table import installed

NET = """
from typing import Literal
from torch import nn
from distill_prune.settings import Entry
DISTILL_PRUNE = {"models": {"net": "net"}}
class Settings(Entry):
    name: Literal["net"] = "net"
    width: int = 5
def build(settings, shape, classes):
    flat = shape[0] * shape[1] * shape[2]
    return nn.Sequential(nn.Flatten(), nn.Linear(flat, settings.width), nn.ReLU(), nn.Linear(settings.width, classes))
"""
SCORE = """
from typing import Literal
from distill_prune.prune.select import Criterion
DISTILL_PRUNE = {"criteria": {"score": "score"}}
NEEDS_TRAINING = True
class Settings(Criterion):
    name: Literal["score"] = "score"
def scores(settings, level):
    return {n: level.state[n].square() for n in level.mask.kept}
"""
LOUD = """
import sys
from typing import Literal
import torch
from distill_prune.prune.select import Criterion
DISTILL_PRUNE = {"criteria": {"loud": "loud"}}
NEEDS_TRAINING = False
class Settings(Criterion):
    name: Literal["loud"] = "loud"
def scores(settings, level):
    print("louder than words", file=sys.stderr)
    print("and to the", end=" ")
    print("other stream", end="")
    return {n: torch.arange(t.numel()).float().reshape(t.shape) for n, t in level.mask.kept.items()}
"""
METHOD = """
from typing import Literal
import torch
from distill_prune.artifacts import Cost, SyntheticSet
from distill_prune.distill import Distilled
from distill_prune.distill.subset import real_images
from distill_prune.settings import Entry
DISTILL_PRUNE = {"methods": {"method": "method"}}
NEEDS_EXPERTS = False
class Settings(Entry):
    name: Literal["method"] = "method"
    ipc: int = 10
def distill(settings, source, streams, device, progress):
    x, y = real_images(source.train, source.classes, settings.ipc, streams)
    return Distilled(SyntheticSet(x, y, source.classes, source.transform, "method"), Cost())
"""
ANALYSIS = """
from typing import Literal
from distill_prune.artifacts import Measurements
from distill_prune.settings import Entry
DISTILL_PRUNE = {"analyses": {"analysis": "analysis"}}
TAKES = "copies"
class Settings(Entry):
    name: Literal["analysis"] = "analysis"
def measure(settings, copies):
    return Measurements("analysis", {"copies": len(copies.states)})
"""
DATA = """
from typing import Literal
import torch
from distill_prune.data.source import Loaded, Source
DISTILL_PRUNE = {"data": {"data": "data"}}
class Settings(Source):
    name: Literal["data"] = "data"
def fingerprint(settings, remembered=None):
    return "made"
def load(settings):
    pixels, labels = torch.linspace(0, 1, 1600).view(100, 1, 4, 4), torch.arange(100) % 2
    return Loaded(pixels, labels, torch.arange(100) >= 80, ("a", "b"), 1.0, "made")
"""
FORMAT = """
from distill_prune.settings import Settings as Base
DISTILL_PRUNE = {"formats": {"format": "format"}}
KIND = "set"
class Settings(Base):
    pass
def read(settings, paths, origin):
    raise NotImplementedError
"""
GOOD = {"models": NET, "criteria": SCORE, "methods": METHOD, "analyses": ANALYSIS, "data": DATA, "formats": FORMAT}
NAME = {"models": "net", "criteria": "score", "methods": "method", "analyses": "analysis", "data": "data", "formats": "format"}
Write = Callable[[str, str], Path]


@contextmanager
def pristine(folder: Path) -> Iterator[None]:
    """What a test registers and imports from `folder` is gone afterwards."""
    tables = [table_of(name) for name in TABLES]
    before = [dict(t._registered) for t in tables], list(sys.path), sys.dont_write_bytecode
    sys.dont_write_bytecode = True  # two versions of a file within one second look the same to the cache of bytecode
    installed.cache_clear()
    try:
        yield
    finally:
        for table, registered in zip(tables, before[0], strict=True):
            table._registered = registered
        sys.path[:], sys.dont_write_bytecode = before[1:]
        forget(folder)
        installed.cache_clear()


def forget(folder: Path) -> None:
    """As in a new process: modules of `folder` are not imported."""
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None) or "").startswith(str(folder)):
            del sys.modules[name]
    importlib.invalidate_caches()


def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Made a fixture by its tests: writes a module into the current folder, which is a fresh one."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)

    def module(name: str, code: str) -> Path:
        path = folder / f"{name}.py"
        path.write_text(code, encoding="utf-8")
        forget(folder)
        return path

    with pristine(folder):
        yield module


def announce(folder: Path, name: str, *points: str) -> None:
    """An installed package with these lines of entry_points.txt."""
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("\n".join(points) + "\n")
    importlib.invalidate_caches()
    installed.cache_clear()
