"""Several draws of every set in one study: estimates over sets and initialisations, and the grid that they are made of."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import tiny
import torch

from distill_prune.analyze.estimate import estimate, interval, sign_flip_p
from distill_prune.analyze.metric import BARRIER
from distill_prune.analyze.paired import differences
from distill_prune.analyze.records import value
from distill_prune.analyze.sets import Place, exact_p, minus, over
from distill_prune.errors import ConfigError
from distill_prune.plan.graph import build
from distill_prune.plan.nodes import Graph
from distill_prune.run.collect import gather
from distill_prune.run.reader import Reader
from distill_prune.store.store import Store
from distill_prune.study.study import read

NESTED = ("seeds=[0,1]", "distill_seeds=[0,1]")
CROSSED = (*NESTED, "distill_grid=crossed")


def of(*assignments: str) -> Graph:
    return build(tiny.pipeline(*assignments), Store("/nonexistent"))


def table(draws: int, seeds: int, spread: tuple[float, float, float], rng: np.random.Generator) -> dict[Place, float]:
    """A crossed study with mean 0 and the given deviations of sets, initialisations and the rest."""
    a, b = rng.normal(0, spread[0], draws), rng.normal(0, spread[1], seeds)
    return {Place(s, d): a[d] + b[s] + rng.normal(0, spread[2]) for s in range(seeds) for d in range(draws)}


def test_a_crossed_table_is_that_of_sums_written_out() -> None:
    values = table(4, 3, (1.0, 2.0, 0.5), np.random.default_rng(0))
    draws, seeds = range(4), range(3)
    mean = math.fsum(values.values()) / 12
    of_draw = {d: math.fsum(values[Place(s, d)] for s in seeds) / 3 for d in draws}
    of_seed = {s: math.fsum(values[Place(s, d)] for d in draws) / 4 for s in seeds}
    rest = math.fsum((values[Place(s, d)] - of_draw[d] - of_seed[s] + mean) ** 2 for s in seeds for d in draws) / 6
    a = 3 * math.fsum((m - mean) ** 2 for m in of_draw.values()) / 3
    b = 4 * math.fsum((m - mean) ** 2 for m in of_seed.values()) / 2
    assert a + b - rest > max(a, b)  # so that the interval is the one of both
    freedom = (a + b - rest) ** 2 / (a**2 / 3 + b**2 / 2 + rest**2 / 6)
    expected = interval(mean, math.sqrt((a + b - rest) / 12), freedom)
    result = over(values)
    assert {k: result[k] for k in expected} == pytest.approx(expected)  # type: ignore[literal-required]
    assert (result["n"], result["sets"]) == (3, 4)
    assert result["sd_sets"] == pytest.approx(math.sqrt((a - rest) / 3))
    assert result["sd_seeds"] == pytest.approx(math.sqrt((b - rest) / 4))
    assert exact_p(values)[0] == max(sign_flip_p([*of_draw.values()]), sign_flip_p([*of_seed.values()]))


@pytest.mark.parametrize("spread", [(1.0, 1.0, 1.0), (2.0, 0.1, 0.5), (0.0, 1.0, 0.2), (0.0, 0.0, 1.0)])
def test_a_crossed_interval_covers_the_mean(spread: tuple[float, float, float]) -> None:
    rng = np.random.default_rng(1)
    covered = sum((e := over(table(6, 6, spread, rng)))["low"] <= 0 <= e["high"] for _ in range(600))  # type: ignore[operator]
    assert covered / 600 > 0.95 - 3 * math.sqrt(0.95 * 0.05 / 600)


def test_intervals_of_initialisations_alone_do_not_cover_sets() -> None:
    """What is asked of `over` is more than what a single set, however many initialisations, can say."""
    rng = np.random.default_rng(1)
    tables = [table(6, 6, (2.0, 0.1, 0.5), rng) for _ in range(200)]
    one = [estimate([v for place, v in values.items() if place.draw == 0]) for values in tables]
    assert sum(e["low"] <= 0 <= e["high"] for e in one) / 200 < 0.5  # type: ignore[operator]


def test_one_draw_an_initialisation_is_an_estimate_as_ever() -> None:
    values = {Place(s, 10 + s): float(s * s) for s in range(5)}
    assert over(values) == {**estimate([0.0, 1.0, 4.0, 9.0, 16.0]), "sets": 5}
    plain = {Place(s): float(s) for s in range(5)}
    assert over(plain) == estimate([0.0, 1.0, 2.0, 3.0, 4.0])


def test_nested_draws_are_the_units() -> None:
    values = {Place(s, s % 2): v for s, v in enumerate((1.0, 5.0, 2.0, 7.0, 3.0, 9.0))}
    result = over(values)
    expected = estimate([2.0, 7.0])
    assert {k: result[k] for k in ("mean", "se", "low", "high", "n")} == {  # type: ignore[literal-required]
        k: expected[k]  # type: ignore[literal-required]
        for k in ("mean", "se", "low", "high", "n")
    }
    within = ((1 + 0 + 1) + (4 + 0 + 4)) / 4
    assert result["sd_seeds"] == pytest.approx(math.sqrt(within))
    assert result["sd_sets"] == pytest.approx(math.sqrt(12.5 - within / 3))
    assert exact_p(values) == (sign_flip_p([2.0, 7.0]), 0.5)


def test_a_table_with_gaps_has_no_interval() -> None:
    values = table(3, 3, (1.0, 1.0, 1.0), np.random.default_rng(0))
    del values[Place(1, 1)]
    assert over(values)["low"] is None and over(values)["n"] == 1 and exact_p(values) == (1.0, 1.0)


def test_what_depends_on_no_draw_stands_beside_each() -> None:
    drawn = {Place(s, d): float(10 * s + d) for s, d in itertools.product(range(2), range(3))}
    plain = {Place(s): float(s) for s in range(2)}
    apart, size = minus(drawn, plain)
    assert apart == {Place(s, d): 10.0 * s + d - s for s, d in drawn} and size == sum(drawn.values()) + 3
    assert minus(plain, drawn)[0] == {place: -v for place, v in apart.items()}
    assert minus(drawn, drawn)[0] == dict.fromkeys(drawn, 0.0)


def test_a_claim_needs_as_many_sets_as_initialisations() -> None:
    arms = [{"name": "real", "images": "real"}, {"name": "syn", "images": "synthetic"}]
    real = [{"arm": "real", "seed": s, "level": 1, "sparsity": 0.5, "accuracy": 0.5} for s in range(6)]

    def claimed(draws: int) -> bool:
        syn = [
            {"arm": "syn", "seed": s, "draw": d, "level": 1, "sparsity": 0.5, "accuracy": 0.4 + 0.001 * s + 0.001 * d}
            for s in range(6)
            for d in range(draws)
        ]
        (row,) = differences([*real, *syn], arms, "real", 0.05)  # type: ignore[arg-type, list-item]
        return row["claim"] is not None

    assert claimed(6) and not claimed(5)


def test_a_set_costs_the_mean_of_its_draws() -> None:
    """Of a single draw it stays in whole numbers, so that the stored summary of a study of one draw stays as it is."""

    def cost(*steps: int | None) -> dict[str, float] | None:
        roles = {str(i): {"kind": "set", "set": "synthetic", "experts": None} for i in range(len(steps))}
        return gather(roles, {str(i): {"cost": n and {"steps": n}} for i, n in enumerate(steps)}).costs["sets"]["synthetic"][
            "distill"
        ]

    assert str(cost(7)) == "{'steps': 7}" and cost(2, 3) == {"steps": 2.5}
    assert cost(7, None) is None


# -- the grid


def test_without_several_draws_every_key_is_as_before() -> None:
    assert of("seeds=[0,1]").nodes.keys() == of("seeds=[0,1]", "distill_seeds=[]").nodes.keys()


def test_each_initialisation_takes_its_draw() -> None:
    nested, crossed = of(*NESTED), of(*CROSSED)
    assert set(nested.sets) == {"synthetic/0", "synthetic/1", "subset/0", "subset/1"}
    of_set = {place: nested.nodes[chain[1]].inputs for place, chain in nested.chains.items() if place[0] == "synthetic"}
    assert {place: inputs["images"] for place, inputs in of_set.items()} == {
        ("synthetic", 0, 0): nested.sets["synthetic/0"],
        ("synthetic", 1, 1): nested.sets["synthetic/1"],
    }
    assert {place for place in crossed.chains if place[0] == "synthetic"} == {
        ("synthetic", s, d) for s, d in itertools.product((0, 1), (0, 1))
    }
    assert {place for place in crossed.chains if place[0] == "real"} == {("real", 0), ("real", 1)}
    assert set(nested.nodes) - {nested.summary} < set(crossed.nodes)
    one = of("seeds=[0,1]")
    shared = {key for arm in ("real", "random") for s in (0, 1) for key in one.chains[arm, s].values()}
    assert shared < set(nested.nodes) and one.sets["synthetic"] == nested.sets["synthetic/0"]


def test_a_dense_network_of_no_set_is_one_unit() -> None:
    dense = [u for u in of(*CROSSED).units if u.arm == "synthetic" and u.level == 0]
    assert [(u.seed, u.draw) for u in dense] == [(0, None), (1, None)]
    on_source = of(*CROSSED, "prune.rewind={k: 4it, on: source}", "only={}")
    dense = [u for u in on_source.units if u.arm == "synthetic" and u.level == 0]
    assert [(u.seed, u.draw) for u in dense] == [*itertools.product((0, 1), (0, 1))]
    assert all(on_source.unit("synthetic", u.ticket) is u for u in dense)


def test_what_is_made_of_an_arm_takes_its_draws() -> None:
    graph = of(
        *CROSSED, "arms.shuffled={control: {of: synthetic, kind: shuffled}}", "arms.on={begins: {arm: subset, level: 1}}"
    )
    for arm in ("shuffled", "on"):
        assert {place[1:] for place in graph.chains if place[0] == arm} == set(itertools.product((0, 1), (0, 1)))
    assert graph.nodes[graph.chains["shuffled", 1, 0][2]].inputs["of"] == graph.chains["synthetic", 1, 0][2]
    assert graph.chains["on", 0, 1][1] == graph.chains["subset", 0, 1][1]


def test_an_intersection_is_of_all_draws(empty: Store) -> None:
    arm = "arms.common={control: {of: synthetic, kind: intersection}}"
    graph, _ = tiny.execute(empty, *CROSSED, arm, "compare={accuracy: {}}")
    reader = Reader(empty, "cpu")
    common = reader.ticket(graph.chains["common", 1][2])
    parents = [reader.ticket(graph.chains["synthetic", 1, draw][2]) for draw in (0, 1)]
    for name, kept in common.mask.kept.items():
        assert torch.equal(kept, parents[0].mask.kept[name] & parents[1].mask.kept[name])
        assert torch.equal(common.state[name], parents[0].state[name] * kept)
    assert 0 < common.mask.remaining < parents[0].mask.remaining


def test_another_draw_leaves_every_artifact_as_it_is() -> None:
    before, after = of(*NESTED), of("seeds=[0,1,2]", "distill_seeds=[0,1,2]")
    assert set(before.nodes) - {before.summary} < set(after.nodes)


def test_a_crossed_study_is_summarised_over_sets(empty: Store) -> None:
    graph, _ = tiny.execute(empty, *CROSSED, "compare.curvature=null", "compare.evaluation=null")
    study = read("tiny", graph, empty)
    assert study.summary is not None
    rows = {(r["arm"], r["level"]): r for r in study.summary["rows"]}
    accuracy = rows["synthetic", 2]["accuracy"]  # type: ignore[typeddict-item]
    assert (accuracy["sets"], accuracy["n"], rows["synthetic", 2]["n"]) == (2, 2, 2)
    assert "sets" not in rows["real", 2]["accuracy"] and "sets" not in rows["synthetic", 0]["accuracy"]  # type: ignore[typeddict-item]
    assert rows["synthetic", 0]["accuracy"] == rows["real", 0]["accuracy"]  # type: ignore[typeddict-item]
    paired = {(p["arm"], p["metric"]): p["difference"] for p in study.summary["paired"]}
    assert paired["synthetic", "accuracy"]["sets"] == 2 and "sets" not in paired["random", "accuracy"]
    assert rows["synthetic", 2]["iou"] is not None and rows["synthetic", 2]["iou"]["sets"] == 2
    assert "Every set was drawn 2 times (synthetic, subset), and each initialisation was pruned with every draw." in " ".join(
        study.summary["notes"]
    )
    costs = {c["arm"]: c for c in study.summary["costs"]}
    assert costs["synthetic"]["n"] == 2 and costs["synthetic"]["with_experts"] is not None
    tickets = [t for t in study.tickets if t["arm"] == "synthetic" and t["level"] == 2]
    assert {(t["seed"], t["draw"]) for t in tickets} == set(itertools.product((0, 1), (0, 1)))
    assert len({value(t, BARRIER) for t in tickets}) > 2


@pytest.mark.parametrize(
    ("assignments", "message"),
    [
        (
            ("distill_seeds=[0]", "distill.subset={name: stored, ref: a}"),
            "'distill.subset' in tiny.yaml: of a stored set there is one draw",
        ),
        (("distill_seeds=[0,1]",), "each seed takes one draw(?s:.*)2 draws, 1 seeds"),
        (("distill_seeds=[0,0]", "seeds=[0,1]"), "'distill_seeds' in tiny.yaml: each draw is given once"),
        (("distill_seeds=[0]", "distill_seed=1"), "'distill_seed' in tiny.yaml: it is one draw, and distill_seeds are several"),
        (
            ("arms.common={control: {of: synthetic, kind: intersection}}", *NESTED),
            "'arms.common' in tiny.yaml: an intersection is of masks of several draws",
        ),
        (("distill_grid=crossed",), "'distill_grid' in tiny.yaml: it goes with distill_seeds"),
        (
            ("distill_seeds=[0]", "distill={}", "arms.synthetic=false", "arms.subset=false"),
            "'distill_seeds' in tiny.yaml: there are no sets to draw",
        ),
    ],
)
def test_draws_that_mean_nothing_are_refused(assignments: tuple[str, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny.pipeline(*assignments)
