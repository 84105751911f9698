"""A study of text: settings that mean nothing are refused, and what it made can be taken out and brought back."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import tiny_bert
import tiny_text
import torch
from safetensors.torch import load_file
from tiny import Cli
from tiny_text import Study, equal, pipeline, ticket

from distill_prune.errors import ConfigError
from distill_prune.models import build_model, resolved
from distill_prune.plan.config import parse
from distill_prune.plan.graph import build
from distill_prune.run.reader import Reader
from distill_prune.store.store import Store

pytest.importorskip("transformers")
pytest.importorskip("tokenizers")


@pytest.fixture
def study(text_study: Study) -> Study:
    return text_study


file = pytest.fixture(tiny_text.file)


# -- settings


def test_tasks_without_a_path_lie_where_the_data_do(study: Study) -> None:
    values = tiny_text.raw(study[2])
    del values["tasks"]["other"]["path"], values["tasks"]["both"]["tasks"]["two"]["path"]
    found: dict[str, Any] = parse(values, "text.yaml").tasks
    here = str(study[2]["data"])
    assert found["other"].path == here and found["both"].tasks["two"].path == here
    assert parse(tiny_text.raw(study[2]), "text.yaml").tasks["other"].path == str(study[2]["other"])  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("arms.other={task: ohter}", r"'arms.other.task' in (?s:.*)got: +ohter(?s:.*)did you mean 'other'"),
        (
            "arms.new={control: {of: real, kind: transferred}}",
            "'arms.new' in .*: transferred means to another task than that of 'real'",
        ),
        ("arms.new={control: {of: other, kind: transferred}, task: other}", "another task than that of 'other'"),
        (
            "arms.new={control: {of: other, kind: shuffled}, task: other}",
            "the arm is of the task of 'other', which it is made from",
        ),
        ("arms.new={begins: {arm: real, level: 1}, task: other}", "which it is made from(?s:.*)leave task out"),
        ("arms.new={control: {of: real, kind: swapped}, rewind: none}", "leave out images, recipe, criterion.*rewind"),
        ("arms.new={task: other, retrain: twice}", "one of: chain, once"),
        ("prune.rate=0.5", "'prune.levels' in .*: 2 levels that each take 0.5 of the original weights leave none"),
        ("prune.rewind.head=keep", "one of: carry, redraw"),
        ("prune.share=all", "one of: original, remaining"),
        ("retrain.recipe.head_lr=0", "a number above 0 or null"),
        ("only.nothing={arms: [real]}", "'only.nothing' in .* no analysis"),
        ("tasks.other.regresion=true", "unknown key 'tasks.other.regresion'"),
        ("tasks.both.tasks.one.regression=true", "'tasks.both.tasks.one' in .* the labels of this task are numbers"),
    ],
)
def test_what_means_nothing_is_refused(study: Study, assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline(study[2], assignment)


def test_an_inherited_restriction_can_be_left_out(study: Study) -> None:
    found = pipeline(study[2], "only.curvature=null")
    assert "curvature" not in found.only and "connectivity" in found.only


def test_only_methods_of_text_can_be_planned(study: Study) -> None:
    store, _, at = study
    for name in ("trajectory", "gradient", "herding"):
        changed = pipeline(at, f"distill.distilled={{name: {name}, ipc: 1}}", "experts.recipe.length=60ep")
        with pytest.raises(ConfigError, match=f"method '{name}' is for images, and the data are text"):
            build(changed, store)
    values = tiny_text.raw(at)
    values |= {"data": {"name": "digits"}, "tasks": {}, "arms": {"real": {}}}
    values["only"] = {}
    with pytest.raises(ConfigError, match="method 'embedding' is for text, and the data are images"):
        build(parse(values, "text.yaml"), store)


def test_a_set_of_other_classes_is_refused(study: Study, file: Path, cli: Cli, tmp_path: Path) -> None:
    """Sets are made of `data`, which has two classes, and the arm's own task has three."""
    for name in ("sentences", "distilled"):
        store = Path(shutil.copytree(study[0].root, tmp_path / name))
        done = cli(
            "prune", file, "--store", store, "--executor", "serial", "--set", f"arms.new={{images: {name}, task: other}}"
        )
        assert done.code == 2 and "does not fit its network" in done.err and "2 classes" in done.err, done.err


def test_synflow_is_for_images(study: Study, file: Path, cli: Cli, tmp_path: Path) -> None:
    store = Path(shutil.copytree(study[0].root, tmp_path / "store"))
    new = "arms.new={criterion: {name: synflow, rounds: 2}}"
    done = cli("prune", file, "--store", store, "--executor", "serial", "--set", new)
    assert done.code == 2 and "synflow sends ones through a network of images" in done.err, done.err


# -- out of the store and in


def test_tickets_can_be_looked_at(study: Study, cli: Cli) -> None:
    store, graph, _ = study
    key, other = graph.chains["real", 0][2], graph.chains["swapped", 0][2]
    shown = cli("show", key, "--json", "--store", store.root)
    assert shown.code == 0 and '"label": "real seed 0 level 2"' in shown.out and '"weights": "' in shown.out
    listed = cli("ls", "prune", "--store", store.root)
    assert listed.code == 0 and "real_on_other seed 0 level 2" in listed.out
    apart = cli("diff", key, other, "--store", store.root)
    assert apart.code == 0 and "39.99%" in apart.out and "attention.self.query" in apart.out
    sets = list(graph.sets.values())
    unlike = cli("diff", *sets, "--store", store.root)
    assert unlike.code == 2 and "different images cannot be compared" in unlike.err


@pytest.mark.parametrize("form", ["state-dict", "safetensors", "torch-prune"])
@pytest.mark.parametrize("what", ["ticket", "copy"])
def test_networks_are_exported_whole(study: Study, cli: Cli, tmp_path: Path, form: str, what: str) -> None:
    """With the frozen embeddings that a copy in the store does not hold."""
    store, graph, at = study
    unit = next(u for u in graph.units if u.arm == "real" and u.level == 2)
    path = tmp_path / ("out.safetensors" if form == "safetensors" else "out.pt")
    done = cli("export", unit.ticket if what == "ticket" else unit.copies[0], "--to", form, path, "--store", store.root)
    assert done.code == 0, done.err
    assert "2,458 of 4,096 prunable survive" in done.out
    reader = Reader(store, "cpu")
    expected = reader.ticket(unit.ticket).state if what == "ticket" else reader.state(unit.copies[0])
    found = load_file(path) if form == "safetensors" else torch.load(path, weights_only=True)
    if form == "torch-prune":
        found = {n.removesuffix("_orig"): t for n, t in found.items() if not n.endswith("_mask")}
    assert equal(found, expected)
    tiny_text.model_of(at["model"]).module.load_state_dict(found, strict=True)


def test_an_exported_ticket_comes_back(study: Study, cli: Cli, tmp_path: Path) -> None:
    store, graph, at = study
    own = Path(shutil.copytree(store.root, tmp_path / "store"))
    key, path = graph.chains["real", 0][2], tmp_path / "out.pt"
    assert cli("export", key, "--to", "torch-prune", path, "--store", own).code == 0
    network = ("--set", "model.name=bert", "--set", "model.pooling=mean", "--set", f"model.path={at['model']}")
    done = cli("import", "torch-prune", path, "--set", f"dataset={graph.data}", *network, "--store", own, "--json")
    assert done.code == 0, done.err
    (made,) = json.loads(done.out)["artifacts"]
    found = Reader(Store(own), "cpu").ticket(made["key"])
    assert equal(found.state, ticket(study, "real").state) and equal(found.mask.kept, ticket(study, "real").mask.kept)
    again = cli("export", made["key"], "--to", "state-dict", tmp_path / "again.pt", "--store", own)
    assert again.code == 0, again.err


def test_onnx_and_formats_of_images_are_refused(study: Study, cli: Cli, tmp_path: Path) -> None:
    store, graph, _ = study
    done = cli("export", graph.chains["real", 0][2], "--to", "onnx", tmp_path / "x.onnx", "--store", store.root)
    assert done.code == 2 and "networks of text are not written as ONNX" in done.err
    for name in ("distilled", "sentences"):
        for form in ("npz", "mtt", "dc", "ddranking"):
            done = cli("export", graph.sets[name], "--to", form, tmp_path / f"{name}.{form}", "--store", store.root)
            assert done.code == 2 and "holds images, and the set is of text" in done.err, (name, form, done.out, done.err)


def test_evaluating_a_set_of_text(study: Study, cli: Cli, tmp_path: Path) -> None:
    """Where the weights lie is in no manifest, so it must be said; where it is, the pipeline's own artifact is found."""
    store, graph, at = study
    own = Path(shutil.copytree(store.root, tmp_path / "store"))
    key, short = graph.sets["distilled"], ("--set", "nets=1", "--set", "length=2it", "--set", "batch=4")
    refused = cli("evaluate", key, *short, "--store", own)
    assert refused.code == 2 and "`path`: the directory that holds them" in refused.err
    elsewhere = tiny_bert.write(tmp_path / "elsewhere", seed=1)
    wrong = cli("evaluate", key, *short, "--set", f"model.path={elsewhere}", "--store", own)
    assert wrong.code == 2 and "is not the one that model 'bert' names by its weights" in wrong.err
    asked = graph.pipeline.compare["evaluation"].model_dump()
    same = [x for n in ("nets", "length", "batch", "lr", "optimizer") for x in ("--set", f"{n}={asked[n]}")]
    done = cli("evaluate", key, *same, "--set", f"model.path={at['model']}", "--store", own)
    assert done.code == 0 and "to make" not in done.out, done.err + done.out
    other = cli("evaluate", key, *short, "--set", f"model.path={at['model']}", "--set", "architectures.b.name=bert",
                "--set", f"architectures.b.path={elsewhere}", "--store", own)  # fmt: skip
    assert other.code == 0, other.err
    sentences = cli("evaluate", graph.sets["sentences"], *short, "--set", "model.name=bert",
                    "--set", f"model.path={at['model']}", "--store", own)  # fmt: skip
    assert sentences.code == 0, sentences.err


def test_networks_are_built_without_their_directory(study: Study) -> None:
    """From what the keys hold alone."""
    settings = resolved(study[1].pipeline.model)
    bare = settings.model_copy(update={"path": None})
    assert build_model(bare, (2, 9), 2).prunable == tiny_text.model_of(study[2]["model"]).prunable
