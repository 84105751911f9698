"""Compiled steps: equal to those of plain PyTorch to rounding; refused in one message where they cannot be; in the keys."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny
import torch
from test_lanes import SMALL, examples_of, furthest, model_of, training

from distill_prune import compiled
from distill_prune.plan.jobs import CompareJob, DistillJob
from distill_prune.training import Trained, evaluate, train_group

HERE = pytest.mark.skipif(compiled.compiler() is None, reason="no C++ compiler")


@HERE
@pytest.mark.parametrize("lanes", [1, 4])
def test_training_is_that_of_plain_steps(lanes: int, tmp_path: Path) -> None:
    """Batch norm's running statistics, masks and momentum among it; sam's two passes are one piece of code."""
    model = model_of("convnet-batch")
    recipe = SMALL.model_copy(update={"batch": 5})
    group = [training(model, seed, recipe) for seed in range(min(lanes, 2))]
    uphill = [replace(one, recipe=recipe.model_copy(update={"optimizer": "sam"})) for one in group]
    plain = train_group(group, lanes) + train_group(uphill, lanes)
    with compiled.cache(tmp_path), compiled.compiling(True):
        fast = train_group(group, lanes) + train_group(uphill, lanes)
        again = train_group(group[::-1], lanes)[::-1] + train_group(uphill[::-1], lanes)[::-1]
    for one, other, third in zip(plain, fast, again, strict=True):
        assert isinstance(one, Trained) and isinstance(other, Trained) and isinstance(third, Trained)
        assert furthest(one, other) < 1e-9 and one.losses == pytest.approx(other.losses, rel=1e-9)
        assert all(torch.equal(t, third.state[n]) for n, t in other.state.items())
    assert any(tmp_path.rglob("*.so")), "what was compiled is in the folder that was named"


@HERE
def test_evaluation_is_that_of_a_plain_pass(tmp_path: Path) -> None:
    model = model_of("convnet-instance")
    state = {n: t.double() for n, t in model.fresh(0, "start").items()}
    examples = examples_of(model, 0, torch.float64, 21)
    plain = evaluate(model, state, examples)
    with compiled.cache(tmp_path), compiled.compiling(True):
        fast = evaluate(model, state, examples)
    assert fast.loss == pytest.approx(plain.loss, rel=1e-12) and (fast.error, fast.count) == (plain.error, plain.count)


def test_what_runs_a_network_has_it_in_its_key() -> None:
    from distill_prune.plan.graph import build
    from distill_prune.store.store import Store

    plain, fast = (build(tiny.pipeline(*a), Store("/nonexistent")) for a in ((), ("compile=true",)))
    for (key, node), (other, same) in zip(plain.nodes.items(), fast.nodes.items(), strict=True):
        if (isinstance(node.job, DistillJob) and node.job.model is None) or node.stage == "data":
            assert key == other, node.label
        if node.stage == "retrain" or (isinstance(node.job, CompareJob) and node.job.model is not None):
            assert key != other and same.job.identity()["compile"] is True, node.label


def test_no_compiler_is_said_before_the_first_artifact(
    cli: tiny.Cli, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = cli("run", file, "--store", tmp_path / "store", "--set", "compile=true", "--executor", "serial")
    assert result.code == 2 and "no program 'no-such-compiler' (from $CXX)" in result.err and "compile: false" in result.err
    assert not list((tmp_path / "store").glob("[!.]*/*/manifest.json"))
    planned = cli("plan", file, "--store", tmp_path / "store", "--set", "compile=true")
    assert planned.code == 0 and "needs a C++ compiler" in planned.err
    assert "compile: true will not work on a CPU" in " ".join(cli("doctor", "--store", tmp_path / "store").out.split())


def test_text_is_not_compiled(cli: tiny.Cli) -> None:
    result = cli("plan", "bert-tickets-sst2-small", "--set", "compile=true")
    assert result.code == 2 and "leave compile out" in result.err
