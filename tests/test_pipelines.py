"""Every shipped pipeline runs to its report, shrunk to a few steps, on made-up images of the right shape, or on made-up
sentences with a tiny encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_masked
import yaml
from reference_report import vector
from tiny import Cli

from distill_prune.analyze import ANALYSES
from distill_prune.plan.files import find_pipeline, read_raw
from distill_prune.plan.sweep import load_cells
from distill_prune.report import figures

ROOT = Path(__file__).resolve().parent.parent
NAMES = sorted(p.name for p in (ROOT / "pipelines").glob("*.yaml"))
CLASSES = {"cifar100": 100}
METHOD = {
    "ipc": 1, "iterations": 2, "inner_steps": 2, "expert_epochs": 1, "max_start": 2, "min_start": 0, "batch_real": 4,
    "inner_loop": 1, "net_steps": 1, "tokens": 4,
}  # fmt: skip
ANALYSIS = {
    "points": 3, "train_rows": 16, "test_rows": 16, "rows": 16,
    "eigenvalues": 2, "steps": 4, "starts": 2, "exact_below": 10, "probes": 4,
    "probes_min": 16, "probes_max": 48, "relative_error": 1.0, "nets": 1,
    "length": "2it", "real_length": "2it", "norm_rows": 16, "norm_batch": 16,
}  # fmt: skip


def small(settings: dict[str, Any], values: dict[str, Any], always: tuple[str, ...] = ()) -> dict[str, Any]:
    """The settings with those of `values` that they write, and the named ones."""
    return {**settings, **{k: v for k, v in values.items() if k in settings or k in always}}


def recipe(settings: dict[str, Any], length: str = "2it") -> dict[str, Any]:
    return {**{k: v for k, v in settings.items() if k != "warmup"}, "length": length, "batch": 16}


def network(settings: dict[str, Any]) -> dict[str, Any]:
    values = {"width": 4, "depth": {"resnet": 10, "cifar_resnet": 8}.get(settings["name"], 2)}
    return small(settings, values, ("width",) if settings["name"] == "cifar_resnet" else ())


def is_text(raw: dict[str, Any]) -> bool:
    return raw["data"]["name"] == "glue"


def task(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A text data set's settings, for the made-up sentences."""
    if settings["name"] == "union":
        return {**settings, "validation": 0.25, "tasks": {n: plain(folder) for n in settings["tasks"]}}
    if settings["name"] == "masked":
        return {"name": "masked", "path": str(folder / "text"), "tokenizer": str(folder / "bert"), "validation": 0.25}
    return {**plain(folder), "validation": 0.25}


def plain(folder: Path) -> dict[str, Any]:
    return {"name": "tsv", "path": str(folder), "tokenizer": str(folder / "bert")}


def shrunk(raw: dict[str, Any], data: Path) -> dict[str, Any]:
    """The same study in seconds: every section stays, every length goes."""
    if is_text(raw):
        encoder = {"name": "bert", "path": str(data / "bert"), "pooling": "mean"}
        raw = {**raw, "data": task(raw["data"], data), "model": encoder | {"frozen": raw["model"].get("frozen", "embeddings")}}
        raw["tasks"] = {n: task(t, data) for n, t in raw.get("tasks", {}).items() if t}
    else:
        raw = {**raw, "data": {"name": "npz", "path": str(data), "validation": 0.25}}
    raw["seeds"] = [0]
    raw["compile"] = False  # it takes a minute and more, and has its tests (test_compile)
    if "distill_seeds" in raw:
        raw["distill_seeds"] = [0]
    raw["model"] = network(raw["model"])
    if "experts" in raw:
        experts = raw["experts"]
        raw["experts"] = {**experts, "count": 1, "recipe": recipe(experts["recipe"], "3ep")}
        if "model" in experts:
            raw["experts"]["model"] = network(experts["model"])
    raw["architectures"] = {k: network(v) for k, v in raw.get("architectures", {}).items()}
    raw["distill"] = {k: small(v, METHOD | {"init": "real"}) for k, v in raw.get("distill", {}).items() if v}
    swept = [key for key in raw.get("sweep", {}) if key.endswith(".begins.level")]
    prune = raw["prune"] = {**raw["prune"], "levels": min(2 if swept else 1, raw["prune"]["levels"])}
    prune["recipe"] = recipe(prune.get("recipe", {}))
    if prune.get("real"):
        prune["real"] = recipe(prune["real"])
    prune["rewind"] = {**prune.get("rewind", {}), "k": "0it"}
    if "scan" in prune:
        prune["scan"] = ["0it", "1it"] if raw["data"]["name"] == "npz" and "digits" in str(raw.get("title")) else []
    raw["arms"] = {
        name: {**arm, "begins": {**arm["begins"], "level": 1}} if arm and "begins" in arm else arm
        for name, arm in raw["arms"].items()
    }
    if "sweep" in raw:
        key, values = next(iter(raw["sweep"].items()))
        raw["sweep"] = {key: [1, 2] if key in swept else values[:2]}
    raw["only"] = {name: {"arms": only.get("arms"), "seeds": [0]} for name, only in raw.get("only", {}).items() if only}
    raw.pop("levels", None)
    raw["retrain"] = {**raw["retrain"], "recipe": recipe(raw["retrain"]["recipe"])}
    known = {k: ANALYSES[k].Settings.model_fields for k in raw["compare"]}
    raw["compare"] = {
        k: None if v is None else {**v, **{n: x for n, x in ANALYSIS.items() if n in known[k]}}
        for k, v in raw["compare"].items()
    }
    return raw


def shape_of(raw: dict[str, Any]) -> tuple[int, int, int]:
    """Of the data's own shape but for the images of 32 x 32, which are a quarter."""
    return (28, 28, 1) if raw["model"]["name"] == "lenet" else (8, 8, 1) if raw["data"]["name"] == "digits" else (16, 16, 3)


def images(raw: dict[str, Any], folder: Path, draws: np.random.Generator) -> None:
    classes = CLASSES.get(raw["data"]["name"], 10)
    labels = np.arange(8 * classes) % classes
    folder.mkdir()
    for part in ("train", "test"):
        np.savez(folder / f"{part}.npz", x=draws.integers(0, 256, (len(labels), *shape_of(raw)), dtype=np.uint8), y=labels)


def sentences(folder: Path) -> None:
    tiny_masked.write(folder / "bert")
    tiny_masked.text(folder / "text")
    for part in ("train", "dev"):
        lines = [f"{'good' if i % 2 else 'bad'} {'film ' * (i % 3)}film\t{i % 2}" for i in range(24)]
        (folder / f"{part}.tsv").write_text("\n".join(["sentence\tlabel", *lines]) + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the data, and for one store: what a study has in common with an earlier one, as a small study with the
    whole one that it extends, is found there and not made again."""
    return tmp_path_factory.mktemp("shipped")


def data_of(raw: dict[str, Any], shared: Path) -> Path:
    """The folder of a pipeline's data, made where it is not there."""
    classes, shape = CLASSES.get(raw["data"]["name"], 10), shape_of(raw)
    folder = shared / ("text" if is_text(raw) else "x".join(map(str, (*shape, classes))))
    if not folder.exists():
        if is_text(raw):
            sentences(folder)
        else:
            images(raw, folder, np.random.default_rng(0))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_pipeline_runs(
    cli: Cli, tmp_path: Path, shared: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(figures, "_render", vector)
    raw = read_raw(find_pipeline(name))
    store, draws = shared / "store", np.random.default_rng(1)
    if is_text(raw):
        pytest.importorskip("transformers")
        pytest.importorskip("tokenizers")
    data = data_of(raw, shared)
    classes = CLASSES.get(raw["data"]["name"], 10)
    for method in filter(None, raw.get("distill", {}).values()):
        if method["name"] == "stored":  # as the file's head says: an imported set under this name
            pixels = draws.integers(0, 256, (classes, *shape_of(raw)), dtype=np.uint8)
            names = np.array([str(i) for i in range(classes)])
            np.savez(tmp_path / "set.npz", images=pixels, labels=np.arange(classes), classes=names)
            assert cli("import", "npz", tmp_path / "set.npz", "--tag", method["ref"], "--store", store).code == 0
    file = tmp_path / name
    file.write_text(yaml.safe_dump(shrunk(raw, data)), encoding="utf-8")
    done = cli("run", file, "--store", store, "--executor", "serial")
    assert done.code == 0, done.err
    assert (store / "reports" / Path(name).stem / "report.html").exists()


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_pipeline_is_valid_as_it_stands(name: str) -> None:
    _, cells = load_cells(name)
    assert all(cell.pipeline.title and cell.pipeline.question for cell in cells.each)
    assert (ROOT / "pipelines" / name).read_text().startswith("# "), "a pipeline file says what is expected of it"


def test_papers_have_their_files() -> None:
    claims = {"distilled-pruning-cifar10", "distilled-pruning-cifar100", "stable-subnetworks-cifar10"}
    claims |= {"lottery-cifar10-resnet20", "lottery-mnist-lenet", *(f"mtt-cifar10-ipc{n}" for n in (1, 10, 50))}
    assert {f"{c}.yaml" for c in claims} <= set(NAMES)
