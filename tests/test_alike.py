"""Which trainings share their steps, and which artifacts take the same work: sets of equal form are alike."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny

from distill_prune.plan.alike import company, work_of
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.run.schedule import Schedule
from distill_prune.store.store import Store

SEVERAL = ("seeds=[0,1,2]", "distill_seeds=[0,1,2]", "lanes=8")
SOFT = 'distill.soft={"name":"subset","ipc":1,"labels":"teacher"}', 'arms.soft={"images":"soft"}'
LARGE = 'distill.large={"name":"subset","ipc":2}', 'arms.large={"images":"large"}'


@pytest.fixture
def graph(tmp_path: Path) -> Graph:
    return build(tiny.pipeline(*SEVERAL, *SOFT, *LARGE), Store(tmp_path))


def first_levels(graph: Graph, arm: str) -> list[str]:
    """The first levels of an arm's chains."""
    return [levels[1] for (name, *_), levels in graph.chains.items() if name == arm]


def test_levels_on_sets_of_equal_form_share_their_steps(graph: Graph) -> None:
    companies = {
        arm: {company(graph.nodes[key], graph.nodes) for key in first_levels(graph, arm)}
        for arm in ("real", "synthetic", "subset", "soft", "large")
    }
    assert all(len(of_arm) == 1 and None not in of_arm for of_arm in companies.values())
    assert companies["synthetic"] == companies["subset"]
    assert len(set.union(*companies.values())) == 4  # real images, classes, probabilities, more images


def test_a_worker_takes_levels_of_several_draws_and_methods(graph: Graph) -> None:
    levels = {*first_levels(graph, "synthetic"), *first_levels(graph, "subset")}
    schedule = Schedule(graph.nodes, levels, dict.fromkeys(graph.nodes, 1.0), lambda node: 1.0)
    assert len(levels) == 6 and {*schedule.take(0.0)} == levels


def test_artifacts_of_several_draws_are_one_kind_of_work(graph: Graph) -> None:
    works = {key: work_of(node, graph.nodes) for key, node in graph.nodes.items()}
    for arm in ("synthetic", "subset", "soft"):
        assert len({works[key] for key in first_levels(graph, arm)}) == 1
    assert len({works[levels[0]] for arm in ("subset", "large", "soft") for levels in [first_levels(graph, arm)]}) == 3
    assert len({works[m.key] for m in graph.set_measures if m.set.startswith("subset")}) == 1


def test_what_a_level_becomes_does_not_depend_on_sets_beside_it(tmp_path: Path) -> None:
    whole, alone = Store(tmp_path / "whole", create=True), Store(tmp_path / "alone", create=True)
    tiny.execute(whole, *SEVERAL, until="prune")
    for seed in range(3):
        tiny.execute(alone, *SEVERAL, f"seeds=[{seed}]", f"distill_seeds=[{seed}]", until="prune")
    files = [{n: c for n, c in tiny.contents(store).items() if "manifest" not in n} for store in (whole, alone)]
    assert len(files[0]) > 30 and files[0] == files[1]
