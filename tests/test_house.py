"""The house: which way imports run, how long files are, and that every entry of every table is what its table asks for."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import tiny
import torch
from pydantic import ValidationError

import distill_prune
from distill_prune.analyze import ANALYSES
from distill_prune.artifacts import Mask
from distill_prune.data import DATASETS
from distill_prune.data.source import Source as DataSource
from distill_prune.distill import METHODS, Source
from distill_prune.models import MODELS, build_model
from distill_prune.pipeline.graph import Graph
from distill_prune.pipeline.stages import Reader
from distill_prune.pipeline.store import Store
from distill_prune.progress import SILENT
from distill_prune.prune import CRITERIA
from distill_prune.prune.select import select
from distill_prune.rng import Streams
from distill_prune.settings import Settings
from distill_prune.table import Table

PACKAGE = Path(distill_prune.__file__).parent
FLOORS = (
    {"__init__", "__main__"},
    {"cli"},
    {"terminal"},
    {"report"},
    {"pipeline"},
    {"distill", "prune", "analyze", "interop"},
    {"training"},
    {"data", "models"},
    {"artifacts"},
    {"tree", "rng", "settings", "progress", "table"},
    {"errors"},
)
"""From the top down. A room imports from itself and from the floors below it; rooms of one floor do not know each other."""


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next((i for i, rooms in enumerate(FLOORS) if name in rooms), -1)


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that the file's statements import, by full name, with its line; names inside strings count too where a
    table resolves them."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("distill_prune."):
            yield node.value, node.lineno


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_downward(path: Path) -> None:
    own = room(path)
    assert floor(own) >= 0, f"{own} stands on no floor"
    for name, line in imported(path):
        if name.split(".")[0] != "distill_prune":
            continue
        other = name.split(".")[1] if name != "distill_prune" else "__init__"
        other = other if floor(other) >= 0 else "__init__"
        assert other == own or floor(other) > floor(own), f"{path}:{line}: {own} imports {name}"


def test_the_walls_are_seen() -> None:
    """The test above can fail: a made-up arrow upward is found."""
    assert floor("prune") == floor("distill") < floor("training") < floor("data") == floor("models") < floor("errors")
    tree = ast.parse("from distill_prune.pipeline.store import Store")
    assert isinstance(tree.body[0], ast.ImportFrom)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 350, f"{path.name} has {len(lines)} lines: split it"
    assert path.name not in ("utils.py", "helpers.py", "common.py", "misc.py")


def test_torchvision_has_one_door() -> None:
    users = [p for p in files() if any(name.split(".")[0] == "torchvision" for name, _ in imported(p))]
    mentions = [p for p in files() if 'import_module("torchvision' in p.read_text(encoding="utf-8")]
    assert users == [] and mentions == [PACKAGE / "data" / "vision.py"]


def test_rooms_do_not_touch_the_disk() -> None:
    for path in files():
        if room(path) in ("analyze", "prune", "distill", "training", "models"):
            names = {name.split(".")[0] for name, _ in imported(path)}
            assert not names & {"pathlib", "os", "shutil", "json", "safetensors", "tempfile", "io"}, path


def test_public_names() -> None:
    assert dir(distill_prune) == distill_prune.__all__ and "train" in distill_prune.__all__
    for name in distill_prune.__all__:
        assert getattr(distill_prune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = distill_prune.nothing


# conformance

TABLES: tuple[Table, ...] = (DATASETS, MODELS, METHODS, CRITERIA, ANALYSES)
ASKED = {
    "data set": ("fingerprint", "load"),
    "model": ("build",),
    "distillation method": ("NEEDS_EXPERTS", "distill"),
    "pruning criterion": ("NEEDS_TRAINING", "scores"),
    "analysis": ("TAKES", "measure"),
}
ENTRIES = [pytest.param(table, name, id=f"{table.kind}: {name}") for table in TABLES for name in table]


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_entries(table: Table, name: str) -> None:
    entry: Any = table[name]
    fields = entry.Settings.model_fields
    assert issubclass(entry.Settings, Settings) and fields["name"].default == name
    given = {n: "x" for n, f in fields.items() if f.is_required()}
    settings = entry.Settings(**given)
    with pytest.raises(ValidationError, match="frozen"):
        settings.name = "other"
    with pytest.raises(ValidationError, match="Extra inputs"):
        entry.Settings(**given, not_a_field=1)
    with pytest.raises(ValidationError):
        entry.Settings(**given, name="another")
    assert all(hasattr(entry, asked) for asked in ASKED[table.kind]) and entry.__doc__
    folder = Path(importlib.import_module(table[name].__name__.rpartition(".")[0]).__file__ or "")
    assert Path(entry.__file__).parent == folder.parent, "an entry is one file in its table's folder"


@pytest.mark.parametrize("name", DATASETS)
def test_datasets(name: str) -> None:
    assert issubclass(DATASETS[name].Settings, DataSource)
    assert set(DATASETS[name].Settings.model_fields) >= DATASETS[name].Settings.OUTSIDE_KEYS


@pytest.mark.parametrize("name", MODELS)
def test_models(name: str) -> None:
    model = build_model(MODELS[name].Settings(), (1, 8, 8), 10)
    state, again, other = model.fresh(0, "a"), model.fresh(0, "a"), model.fresh(0, "b")
    assert all(torch.equal(t, again[n]) for n, t in state.items())
    assert any(not torch.equal(t, other[n]) for n, t in state.items())
    assert model(state, torch.randn(3, 1, 8, 8)).shape == (3, 10)
    assert model.prunable and set(model.prunable) <= set(model.parameters) <= set(state)
    assert all(n.endswith("weight") and state[n].dim() >= 2 for n in model.prunable)
    assert all(t.device.type == "cpu" and t.is_contiguous() for t in state.values())


SHRUNK = {"ipc": 2, "iterations": 2, "inner_steps": 2, "expert_epochs": 1, "max_start": 2, "lr_pixels": 0.1}


@pytest.mark.parametrize("name", METHODS)
def test_methods(finished: tuple[Store, Graph], name: str) -> None:
    store, graph = finished
    method: Any = METHODS[name]
    reader, images = Reader(store, "cpu"), Reader(store, "cpu").images(graph.data)
    settings = method.Settings(**{k: v for k, v in SHRUNK.items() if k in method.Settings.model_fields})
    experts = [store.trajectory(tiny.node_of(graph, f"expert {i}").key) for i in range(2)] if method.NEEDS_EXPERTS else []
    model = reader.model_for(graph.pipeline.model, graph.data)
    source = Source(reader.part(graph.data, "train"), images.classes, images.transform, model, experts)
    made, again = (method.distill(settings, source, Streams(0, ("test",)), "cpu", SILENT) for _ in range(2))
    assert made.set.labels.tolist() == [c for c in range(10) for _ in range(2)]
    assert made.set.images.shape == (20, 1, 8, 8) and made.set.images.dtype == torch.float32
    assert made.set.method == name and made.set.classes == images.classes and not made.set.images.requires_grad
    assert torch.equal(made.set.images, again.set.images) and made.cost == again.cost
    assert bool(made.cost.images) == method.NEEDS_EXPERTS


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria(name: str) -> None:
    criterion: Any = CRITERIA[name]
    generator = torch.Generator().manual_seed(0)
    state = {
        "a.weight": torch.randn(4, 3, generator=generator),
        "a.bias": torch.zeros(4),
        "b.weight": torch.randn(5, 4, generator=generator),
    }
    mask = Mask.dense(state, ("a.weight", "b.weight"))
    for level in range(3):
        scores = criterion.scores(state, mask, Streams(0).under(level=level))
        again = criterion.scores(state, mask, Streams(0).under(level=level))
        assert {n: t.shape for n, t in scores.items()} == {n: t.shape for n, t in mask.kept.items()}
        assert all(torch.equal(t, again[n]) for n, t in scores.items())
        smaller = select(scores, mask, 0.3, criterion.Settings().scope)
        assert smaller.remaining == mask.remaining - round(0.3 * mask.remaining) and smaller.inside(mask)
        mask = smaller


def test_analyses() -> None:
    assert {ANALYSES[n].TAKES for n in ANALYSES} <= {"copies", "pair", "set", "study"}
    assert [n for n in ANALYSES if ANALYSES[n].TAKES == "study"] == ["summary"]


def test_a_table_imports_on_use() -> None:
    table = Table("kind", {"a": "distill_prune.errors", "b": "no.such.module"})
    assert set(table) == {"a", "b"} and len(table) == 2 and "b" in table and isinstance(table["a"], ModuleType)
    from distill_prune.errors import ConfigError

    with pytest.raises(ConfigError, match=r"(?s)unknown kind 'c'.*known: a, b"):
        table["c"]
