"""Sets that are distilled from the easy, or the hard, real images alone."""

from __future__ import annotations

import pytest
import tiny
import torch
from reference_methods import made_source

from distill_prune.distill import Source, dynamics
from distill_prune.distill.experts import train_expert
from distill_prune.distill.kept import Kept, kept, kept_rows
from distill_prune.errors import ConfigError
from distill_prune.plan.graph import build
from distill_prune.plan.jobs import ExpertsJob
from distill_prune.progress import SILENT
from distill_prune.rng import Streams
from distill_prune.run.reader import Reader
from distill_prune.run.trainings import task_of
from distill_prune.store.store import Store
from distill_prune.training import Recipe

EASY = "distill.synthetic.source={score: margin, keep: easy, share: 0.5}"


@pytest.mark.parametrize("keep", ["easy", "hard"])
def test_the_share_of_every_class_is_kept(keep: str) -> None:
    bare = made_source()
    recipe = Recipe(length="3ep", batch=8, lr=0.3, momentum=0.0)
    experts = [train_expert(bare.network, bare.train, recipe, Streams(0, ("t",)), "cpu", SILENT)[0]]
    source = Source(bare.train, bare.classes, bare.transform, bare.model, experts)
    rows = kept_rows(Kept.model_validate({"keep": keep, "share": 0.4}), source).tolist()
    score, _ = dynamics.scores(source, "margin")
    expected = []
    for label in range(len(source.classes)):
        of_class = [i for i, y in enumerate(source.train.y.tolist()) if y == label]
        of_class.sort(key=lambda i: float(score[i]) if keep == "easy" else -float(score[i]))
        expected += of_class[: round(0.4 * len(of_class))]
    assert rows == sorted(expected)
    part = kept(source, Kept.model_validate({"keep": keep, "share": 0.4})).train
    assert torch.equal(part.y, source.train.y[rows]) and kept(source, None) is source


def test_experts_of_a_part_are_experts_of_their_own() -> None:
    store = Store("/nonexistent")
    whole, part = build(tiny.pipeline(), store), build(tiny.pipeline(EASY), store)
    inputs = part.nodes[part.sets["synthetic"]].inputs
    scorers = {inputs["scorer0"], inputs["scorer1"]}
    assert scorers == {key for key, node in whole.nodes.items() if node.stage == "experts"}
    taught = part.nodes[inputs["expert0"]]
    assert {taught.inputs["scorer0"], taught.inputs["scorer1"]} == scorers and taught.key not in whole.nodes
    assert whole.sets["subset"] == part.sets["subset"]


@pytest.mark.parametrize("method", ["trajectory", "gradient"])
def test_a_set_of_the_easy_images_is_made(empty: Store, method: str) -> None:
    other = "distill.synthetic={name: gradient, ipc: 1, iterations: 1, inner_loop: 1, net_steps: 1, batch_real: 8}"
    graph, report = tiny.execute(empty, *([other] if method == "gradient" else []), EASY, until="distill")
    assert report.made == len([n for n in graph.nodes.values() if n.stage in ("data", "experts", "distill")])
    if method == "trajectory":
        teacher = next(n for n in graph.nodes.values() if isinstance(n.job, ExpertsJob) and n.job.source is not None)
        task = task_of(teacher, Reader(empty, "cpu"))
        whole = len(Reader(empty, "cpu").part(graph.data, "train"))
        assert task is not None and len(task.training.examples) == pytest.approx(whole / 2, abs=10)


def test_a_share_of_everything_is_refused() -> None:
    with pytest.raises(ConfigError, match="share"):
        tiny.pipeline("distill.synthetic.source={share: 1}")
    with pytest.raises(ConfigError, match="it reads epoch 10 of the experts"):
        tiny.pipeline("distill.synthetic.source={score: el2n}")
