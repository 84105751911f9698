"""Real images chosen by how experts learn them, and teachers' labels."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import tiny
import torch
from reference_methods import STREAMS, made_source

from distill_prune.artifacts import SyntheticSet, Trajectory
from distill_prune.distill import METHODS, Source, coverage, dynamics, moderate
from distill_prune.distill.experts import train_expert
from distill_prune.distill.scored import ranked
from distill_prune.errors import ConfigError
from distill_prune.plan.graph import build
from distill_prune.progress import SILENT
from distill_prune.rng import Streams, stream
from distill_prune.store.store import Store
from distill_prune.training import Recipe

SCORED = ("el2n", "forgetting", "margin")
ALL = (*SCORED, "coverage", "moderate")


@pytest.fixture(scope="module")
def source() -> Source:
    """A source with two experts of four epochs."""
    bare = made_source()
    recipe = Recipe(length="4ep", batch=8, lr=0.3, momentum=0.0)

    def taught(i: int) -> Trajectory:
        return train_expert(bare.network, bare.train, recipe, Streams(0, ("t",)).under(index=i), "cpu", SILENT)[0]

    return Source(bare.train, bare.classes, bare.transform, bare.model, [taught(0), taught(1)])


def outputs(source: Source, expert: Trajectory) -> list[list[list[float]]]:
    """Logits by epoch and example, one example at a time."""
    x = source.train.inputs(slice(None))
    return [
        [source.network(expert.state(t), x[i : i + 1])[0].double().tolist() for i in range(len(x))]
        for t in range(1, len(expert.checkpoints))
    ]


def softmax(z: list[float]) -> list[float]:
    total = sum(math.exp(v) for v in z)
    return [math.exp(v) / total for v in z]


def slow(kind: str, z: list[list[list[float]]], y: list[int]) -> list[float]:
    """The scores of one expert, written out."""
    scores = []
    for i, label in enumerate(y):
        of = [epoch[i] for epoch in z]
        if kind == "el2n":
            scores.append(math.dist(softmax(of[0]), [float(k == label) for k in range(len(of[0]))]))
        elif kind == "margin":
            margins = [v[label] - max(v[k] for k in range(len(v)) if k != label) for v in of]
            scores.append(-sum(margins) / len(margins))
        else:
            right = [v.index(max(v)) == label for v in of]
            lost = sum(a and not b for a, b in pairwise(right))
            scores.append(float(lost if any(right) else len(right)))
    return scores


@pytest.mark.parametrize("kind", SCORED)
def test_scores_are_those_of_single_examples(source: Source, kind: dynamics.Score) -> None:
    y = source.train.y.tolist()
    by_expert = [slow(kind, outputs(source, e), y) for e in source.experts]
    expected = [sum(s) / len(s) for s in zip(*by_expert, strict=True)]
    score, cost = dynamics.scores(source, kind, 1)
    assert score.tolist() == pytest.approx(expected, abs=1e-5)
    assert cost.images == len(y) * 2 * (1 if kind == "el2n" else 4) and cost.steps == 0 and cost.flops > 0


def test_what_is_never_right_is_the_hardest() -> None:
    z = torch.tensor([[[0.0, 1.0], [1.0, 0.0]], [[0.0, 1.0], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]])
    assert dynamics.forgetting(z, torch.tensor([0, 0])).tolist() == [3.0, 1.0]


@pytest.mark.parametrize("kind", SCORED)
@pytest.mark.parametrize("keep", ["hard", "easy"])
def test_the_ends_of_the_scores_are_kept(source: Source, kind: dynamics.Score, keep: str) -> None:
    settings = METHODS[kind].Settings.model_validate(
        {"name": kind, "ipc": 2, "keep": keep, **({"epoch": 1} if kind == "el2n" else {})}
    )
    made = METHODS[kind].distill(settings, source, STREAMS, "cpu", SILENT).set
    score, _ = dynamics.scores(source, kind, 1)
    for label in range(len(source.classes)):
        rows = [i for i, y in enumerate(source.train.y.tolist()) if y == label]
        order = sorted(rows, key=lambda i: -float(score[i]) if keep == "hard" else float(score[i]))
        chosen = made.images[2 * label : 2 * label + 2]
        assert torch.equal(chosen, source.train.inputs(torch.tensor(order[:2])))


def test_of_equal_scores_the_first_is_kept() -> None:
    rows = torch.tensor([4, 2, 7])
    for keep in ("hard", "easy"):
        assert ranked(torch.ones(8), rows, 2, keep).tolist() == [4, 2]  # type: ignore[arg-type]


def stratified_by_hand(score: list[float], count: int, strata: int, draw: list[list[int]]) -> list[int]:
    low, width = min(score), (max(score) - min(score)) / strata
    groups = [[i for i, s in enumerate(score) if min(int((s - low) / width), strata - 1) == k] for k in range(strata)]
    groups = sorted((g for g in groups if g), key=len)
    chosen: list[int] = []
    while groups:
        share = min(len(groups[0]), (count - len(chosen)) // len(groups))
        chosen += [groups[0][j] for j in draw.pop(0)[:share]]
        groups.pop(0)
    return chosen


def test_strata_share_the_budget_from_the_smallest_on() -> None:
    score = [0.0, 0.1, 0.2, 0.25, 0.3, 0.35, 5.0, 5.5, 9.0, 10.0, 0.4]
    for count in (3, 5, 8, 11):
        generator, sizes = stream(3, "strata"), (2, 2, 7)  # of the strata, in ascending order
        draws = [torch.randperm(size, generator=generator).tolist() for size in sizes]
        chosen = coverage.stratified(torch.tensor(score), count, 4, stream(3, "strata"))
        assert chosen == stratified_by_hand(score, count, 4, draws) and len({*chosen}) == count
    assert sorted(coverage.stratified(torch.ones(5), 5, 3, stream(0, "s"))) == [0, 1, 2, 3, 4]


def test_coverage_leaves_the_hardest_out(source: Source) -> None:
    settings = coverage.Settings(ipc=2, cut=0.5)
    made = coverage.distill(settings, source, STREAMS, "cpu", SILENT).set
    score, _ = dynamics.scores(source, "margin")
    inputs = source.train.inputs(slice(None))
    for label in range(len(source.classes)):
        rows = (source.train.y == label).nonzero().squeeze(1)
        hardest = set(rows[score[rows].argsort(descending=True)[: len(rows) // 2]].tolist())
        for image in made.images[2 * label : 2 * label + 2]:
            assert all(not torch.equal(image, inputs[i]) for i in hardest)


def test_moderate_is_next_to_the_median() -> None:
    features = torch.tensor(
        [[[0.0], [1.0], [2.0], [10.0], [22.0]]], dtype=torch.float64
    )  # the centre is 7, the median distance 6
    distance = [7.0, 6.0, 5.0, 3.0, 15.0]
    assert moderate.from_median(features).tolist() == pytest.approx([abs(d / 6 - 1) for d in distance])
    assert moderate.from_median(features.expand(2, -1, -1)).tolist() == pytest.approx([abs(d / 6 - 1) for d in distance])


@pytest.mark.parametrize("name", ["subset", "herding", "kcenter", *ALL])
def test_a_teacher_labels_what_was_chosen(source: Source, name: str) -> None:
    early = {"epoch": 1} if name == "el2n" else {}
    given = {"name": name, "ipc": 2, **early}
    hard = METHODS[name].distill(METHODS[name].Settings.model_validate(given), source, STREAMS, "cpu", SILENT)
    settings = METHODS[name].Settings.model_validate({**given, "labels": "teacher", "teacher_epoch": 3})
    soft = METHODS[name].distill(settings, source, STREAMS, "cpu", SILENT)
    assert torch.equal(soft.set.images, hard.set.images) and soft.set.label_kind == "probabilities"
    x = soft.set.images
    slowly = [
        [softmax(source.network(e.state(3), x[i : i + 1])[0].double().tolist()) for i in range(len(x))] for e in source.experts
    ]
    mean = [[sum(p) / 2 for p in zip(*both, strict=True)] for both in zip(*slowly, strict=True)]
    assert soft.set.labels.tolist() == [pytest.approx(p, abs=1e-6) for p in mean]
    assert soft.cost.images == hard.cost.images + 2 * len(x)


def test_experts_are_inputs_where_they_are_read() -> None:
    def inputs(*assignments: str) -> set[str]:
        graph = build(tiny.pipeline(*assignments), Store("/nonexistent"))
        return set(graph.nodes[graph.sets["subset"]].inputs)

    assert inputs() == {"data"}
    assert inputs("distill.subset={name: subset, ipc: 1, labels: teacher}") == {"data", "expert0", "expert1"}
    assert inputs("distill.subset={name: margin, ipc: 1}") == {"data", "expert0", "expert1"}


def test_a_study_of_them_is_made(empty: Store) -> None:
    sets = (
        "distill.subset={name: subset, ipc: 1, labels: teacher}",
        "distill.easy={name: margin, ipc: 1, keep: easy}",
        "arms={real: {}, easy: {images: easy}, subset: {images: subset}}",
    )
    graph, report = tiny.execute(
        empty,
        *sets,
        "compare={accuracy: {}, ranking: {nets: 1, real_length: 2it, length: 2it, rates: [0.1], random_labels: as_set}}",
    )
    assert report.made == len(graph.nodes)
    assert empty.noun("distill", graph.sets["subset"], SyntheticSet.of).label_kind == "probabilities"
    assert not graph.is_learned("easy")


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("distill.subset={name: el2n, ipc: 1, epoch: 4}", "it reads epoch 4 of the experts, .*\n  fix: +an earlier epoch, or"),
        (
            "distill.subset={name: subset, labels: teacher, teacher_epoch: 9}",
            "'distill.subset' in .*: it reads epoch 9",
        ),
        ("distill.subset={name: subset, teacher_epoch: 2}", "teacher_epoch' in .*: it changes nothing without labels: teacher"),
    ],
)
def test_what_experts_do_not_have_is_refused(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny.pipeline(assignment)
