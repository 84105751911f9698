"""The house: which way imports run, how long files are, and that every entry of every table is what its table asks for."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import ValidationError

import distill_prune
from distill_prune.analyze import ANALYSES
from distill_prune.conformance import check
from distill_prune.conformance.inputs import TINY_ENCODER
from distill_prune.data import DATASETS
from distill_prune.distill import METHODS
from distill_prune.interop import FORMATS
from distill_prune.models import MODELS, build_model
from distill_prune.prune import CRITERIA
from distill_prune.table import EntryModule, Table

PACKAGE = Path(distill_prune.__file__).parent
FLOORS = (
    {"__init__", "__main__"},
    {"cli", "conformance"},
    {"api"},
    {"terminal"},
    {"report"},
    {"study"},
    {"run"},
    {"plan"},
    {"plugins"},
    {"distill", "prune", "analyze", "interop"},
    {"training"},
    {"recipe"},
    {"data", "models"},
    {"store"},
    {"artifacts", "entries", "checkpoints"},
    {"tree", "rng", "progress", "table", "argument", "fingerprints", "objective", "vision"},
    {"settings"},
    {"duration", "compiled", "outside"},
    {"limits"},
    {"errors", "arithmetic"},
    {"letters", "interrupts", "version"},
)
"""From the top down. A room imports from itself and from the floors below it; rooms of one floor do not know each other."""

KNOW_THE_STORE = {"cli", "api", "report", "study", "run", "plan", "store", "__init__"}
"""Rooms that may import the store, though it stands below the rooms of mathematics: these never touch the disk."""


def allowed(room: str, other: str) -> bool:
    """Whether `room` may import `other`."""
    return room == other or (floor(other) > floor(room) and (other != "store" or room in KNOW_THE_STORE))


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def floor(name: str) -> int:
    return next((i for i, rooms in enumerate(FLOORS) if name in rooms), -1)


def statements(path: Path) -> Iterator[tuple[str, int]]:
    """Every module, or name of one, that the file's statements import, with its line."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            assert node.module is not None
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)


def imported(path: Path) -> Iterator[tuple[str, int]]:
    """What the file's statements import; names inside strings count too where a table resolves them."""
    yield from statements(path)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.startswith("distill_prune."):
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
        assert allowed(own, other), f"{path}:{line}: {own} imports {name}"


def test_the_walls_are_seen() -> None:
    """The test above can fail: arrows that run upward, or past a wall, are none that it allows."""
    assert floor("prune") == floor("distill") < floor("training") < floor("data") == floor("models") < floor("errors")
    for room, other in (("plan", "run"), ("run", "study"), ("store", "plan"), ("prune", "distill"), ("training", "store")):
        assert not allowed(room, other), f"{room} -> {other}"
    for room, other in (("run", "plan"), ("study", "store"), ("store", "artifacts"), ("analyze", "training")):
        assert allowed(room, other), f"{room} -> {other}"


def test_no_module_of_a_room_imports_itself_round_a_circle() -> None:
    """Imports of whole modules, those inside functions included, form no circle."""
    modules = {".".join(p.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__"): p for p in files()}
    arrows = {}
    for name, path in modules.items():
        used = {full if full in modules else full.rpartition(".")[0] for full, _ in statements(path)}
        arrows[name] = used & modules.keys() - {name}
    while leaves := [name for name, used in arrows.items() if not used & arrows.keys()]:
        for name in leaves:
            del arrows[name]
    assert not arrows, {name: sorted(used & arrows.keys()) for name, used in arrows.items()}


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 350, f"{path.name} has {len(lines)} lines: split it"
    assert path.name not in ("utils.py", "helpers.py", "common.py", "misc.py")


@pytest.mark.parametrize("path", sorted(Path(__file__).parent.glob("*.py")), ids=lambda p: p.name)
def test_files_of_tests_are_short(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 350, f"{path.name} has {len(lines)} lines: split it"


def test_torchvision_has_one_door() -> None:
    users = [p for p in files() if any(name.split(".")[0] == "torchvision" for name, _ in imported(p))]
    mentions = [p for p in files() if 'import_module("torchvision' in p.read_text(encoding="utf-8")]
    assert users == [] and mentions == [PACKAGE / "vision.py"]


def test_rooms_do_not_touch_the_disk() -> None:
    """Data sets read their sources, and so do the two files of models that begin at pre-trained weights."""
    readers = [PACKAGE / "models" / name for name in ("bert.py", "weights.py")]
    for path in files():
        if path not in readers and room(path) in ("analyze", "prune", "distill", "training", "models"):
            names = {name.split(".")[0] for name, _ in imported(path)}
            assert not names & {"pathlib", "os", "shutil", "json", "safetensors", "tempfile", "io"}, path


def test_public_names() -> None:
    assert dir(distill_prune) == sorted(distill_prune.__all__) and "train" in distill_prune.__all__
    for name in distill_prune.__all__:
        assert getattr(distill_prune, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = distill_prune.nothing


# conformance

TABLES = {
    "data": DATASETS,
    "models": MODELS,
    "methods": METHODS,
    "criteria": CRITERIA,
    "analyses": ANALYSES,
    "formats": FORMATS,
}
ENTRIES = [pytest.param(table, name, id=f"{table}: {name}") for table, entries in TABLES.items() for name in entries.own]


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_entries(table: str, name: str, tmp_path: Path) -> None:
    """What a plugin's entry keeps to, ours do. Data sets of files find none here; their own tests load some."""
    fields = TABLES[table][name].Settings.model_fields
    if name in ("bert", "minilm", "embedding"):
        pytest.importorskip("transformers")
    if name == "timm" and find_spec("timm") is None:
        pytest.skip("timm is not installed")
    none = str(tmp_path / "none")
    tasks = {task: {"name": "tsv", "path": none} for task in "ab"}
    nowhere = {"path": none, "download": False, "task": "rte", "tasks": tasks} if table == "data" else {}
    left_out = check(table, name, **{k: v for k, v in nowhere.items() if k in fields})
    assert not left_out or nowhere.keys() & fields.keys(), left_out


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_entries_are_files_of_their_tables_folder(table: str, name: str) -> None:
    entry: Any = TABLES[table][name]
    folder = Path(importlib.import_module(entry.__name__.rpartition(".")[0]).__file__ or "")
    assert entry.__doc__ and Path(entry.__file__).parent == folder.parent


@pytest.mark.parametrize(("table", "name"), ENTRIES)
def test_settings_of_entries_are_frozen_and_refuse_unknown_keys(table: str, name: str) -> None:
    entry: Any = TABLES[table][name]
    settings = entry.Settings.model_construct()
    with pytest.raises(ValidationError, match="frozen"):
        settings.name = "other"
    with pytest.raises(ValidationError, match="Extra inputs"):
        entry.Settings(not_a_field=1)


@pytest.mark.parametrize("name", MODELS.own)
def test_only_weights_of_layers_are_prunable(name: str) -> None:
    text = "config" in MODELS[name].Settings.model_fields
    if text:
        pytest.importorskip("transformers")
    if name == "timm" and find_spec("timm") is None:
        pytest.skip("timm is not installed")
    settings = MODELS[name].Settings(**({"config": TINY_ENCODER} if text else {}))
    assert all(n.endswith("weight") for n in build_model(settings, (2, 12) if text else (3, 32, 32), 10).prunable)


def test_only_the_summary_takes_a_whole_study() -> None:
    assert [n for n in ANALYSES.own if ANALYSES[n].TAKES == "study"] == ["summary"]


def test_a_table_imports_on_use() -> None:
    table = Table("kind", "kinds", EntryModule, {"a": "distill_prune.errors", "b": "no.such.module"})
    assert set(table) == {"a", "b"} and len(table) == 2 and "b" in table and isinstance(table["a"], ModuleType)
    from distill_prune.errors import ConfigError

    with pytest.raises(ConfigError, match=r"(?s)unknown kind 'c'.*one of: a, b"):
        table["c"]
