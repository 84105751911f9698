"""Tickets of masked language modelling: on other tasks, and in a whole study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_bert
import tiny_masked
import tiny_text
import torch
import yaml
from safetensors.torch import load_file
from tiny import Cli

from distill_prune.plan.config import parse
from distill_prune.plan.graph import build
from distill_prune.progress import SILENT
from distill_prune.prune.controls import control_ticket
from distill_prune.prune.imp import Step, next_level
from distill_prune.prune.magnitude import Settings as Magnitude
from distill_prune.rng import Streams
from distill_prune.run.reader import Reader
from distill_prune.store.store import Store
from distill_prune.training import Recipe

pytest.importorskip("transformers")

POOLED: dict[str, Any] = {"pooling": "cls_pooler", "prune_pooler": True}


# -- its ticket on other tasks


def test_a_ticket_goes_over_to_a_task_with_a_pooler(tmp_path: Path) -> None:
    directory = tiny_masked.write(tmp_path)
    pooled = tiny_masked.model_of(directory, **POOLED)
    dense = tiny.dense_ticket(pooled, 0, None, None, 0, SILENT)
    recipe, step = Recipe(length="6it", batch=8, optimizer="adamw", lr=3e-2, clip=1.0), Step(rate=0.4, criterion=Magnitude())
    given: dict[str, Any] = {
        "examples": tiny_masked.examples(24),
        "recipe": recipe,
        "first": 0,
        "device": "cpu",
        "progress": SILENT,
    }
    ticket = next_level(pooled, dense, dense, step, Streams(0, ("prune",)), **given)
    assert ticket.mask.remaining == 4352 - round(0.4 * 4352)
    other = tiny.dense_ticket(tiny_text.model_of(directory, 3, **POOLED), 0, None, None, 0, SILENT)
    found = control_ticket("transferred", ticket, other, Streams(0, ("control",)))
    assert list(found.mask.kept) == list(ticket.mask.kept) and found.state["classifier.weight"].shape == (3, 16)
    for name, kept in found.mask.kept.items():
        assert torch.equal(kept, ticket.mask.kept[name]) and torch.equal(found.state[name], other.state[name] * kept)
    assert 0 < ticket.mask.layers()["bert.pooler.dense.weight"]["remaining"] < 256


def study(root: Path) -> dict[str, Any]:
    at = tiny_text.places(root)
    tiny_masked.write(at["model"])
    values = tiny_text.raw(at)
    words = values["data"]["tokenizer"]
    values["tasks"] = {
        "mlm": {"name": "masked", "path": str(tiny_masked.text(root / "text")), "tokenizer": words, "validation": 0.0}
    }
    values |= {"distill": {}, "levels": [1]}
    values["prune"] = {**values["prune"], "levels": 1}
    control = {"control": {"of": "mlm", "kind": "transferred"}}
    values["arms"] = {"real": {}, "mlm": {"task": "mlm"}, "mlm_on_real": control}
    values["compare"].pop("evaluation")
    values["only"] = {"disagreement": {"arms": ["mlm"]}, "curvature": {"arms": ["mlm"]}, "connectivity": {"arms": ["mlm"]}}
    return values


def test_a_study_of_it(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    values = study(tmp_path)
    file = tmp_path / "mlm.yaml"
    file.write_text(yaml.safe_dump(values), encoding="utf-8")
    done = cli("run", file, "--store", tmp_path / "s", "--executor", "serial")
    assert done.code == 0, done.err
    assert (tmp_path / "s" / "reports" / "mlm" / "report.html").exists()
    store = Store(tmp_path / "s")
    graph, reader = build(parse(values, "mlm.yaml"), store), Reader(store, "cpu")
    held = load_file(Path(values["model"]["path"]) / "model.safetensors")
    tickets = {arm: reader.ticket(graph.chains[arm, 0][1]) for arm in values["arms"]}
    for name, kept in tickets["mlm"].mask.kept.items():
        assert torch.equal(tickets["mlm_on_real"].mask.kept[name], kept)
        assert torch.equal(tickets["mlm_on_real"].state[name], held[name] * kept)
        assert torch.equal(tickets["mlm"].state[name], held[name] * kept)
    assert torch.equal(tickets["mlm"].state["predictions.bias"], held["cls.predictions.bias"])
    assert not tiny_text.equal(dict(tickets["mlm"].mask.kept), dict(tickets["real"].mask.kept))
    unit = next(u for u in graph.units if (u.arm, u.level) == ("mlm", 1))
    assert set(unit.measured) == {"accuracy", "metrics", "connectivity", "disagreement", "curvature"}
    accuracy = store.numbers("compare", unit.measured["accuracy"])
    test = reader.part(graph.tasks["mlm"], "test")
    assert accuracy["copies"][0]["test"]["count"] == int((test.y >= 0).sum()) > len(test)
    again: Any = store.numbers("compare", unit.measured["metrics"])
    assert again["accuracy"]["mean"] == pytest.approx(accuracy["accuracy"]["test"]["mean"])


def test_a_study_says_at_once_that_there_is_no_head(cli: Cli, tmp_path: Path) -> None:
    pytest.importorskip("tokenizers")
    values = study(tmp_path)
    tiny_bert.write(Path(values["model"]["path"]))
    for model, message in (
        (values["model"], "has no masked-language-model head"),
        ({"name": "convnet"}, "model 'convnet' has no"),
    ):
        (tmp_path / "mlm.yaml").write_text(yaml.safe_dump({**values, "model": model}), encoding="utf-8")
        done = cli("run", tmp_path / "mlm.yaml", "--store", tmp_path / "s", "--executor", "serial")
        assert done.code == 2 and message in done.err and done.err.count("error:") == 1, done.err
    assert not list((tmp_path / "s").glob("data/*"))
