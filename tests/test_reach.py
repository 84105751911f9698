"""How far a chain carries: verdicts and the largest sparsity, of means and of single initialisations."""

from __future__ import annotations

import random

import pytest
from reference_summary import TWO, arm, row_of, scan_arms, summarise, unit

from distill_prune.analyze.estimate import estimate
from distill_prune.analyze.reach import STABLE_BELOW, least_matching, matching, stable

DENSE = {0: 0.9, 1: 0.91, 2: 0.92}
"""Mean 0.91, sample deviation 0.01: accuracies from 0.90 on are matching."""


def study(accuracy=None, barrier=None, seeds=range(3), dense=DENSE):
    """One arm by {seed: {level: value}}; the dense networks in the arm `real`."""
    units = [unit("real", s, 0, accuracy=dense[s]) for s in seeds]
    for s in seeds:
        levels = sorted({*(accuracy or {}).get(s, {}), *(barrier or {}).get(s, {})})
        for n in levels:
            held = {"accuracy": (accuracy or {}).get(s, {}).get(n), "barrier_test": (barrier or {}).get(s, {}).get(n)}
            units.append(unit("syn", s, n, **held))
    return units


def reach_of(units, name="syn", arms=TWO, **settings):
    (found,) = [r for r in summarise(units, arms, **settings)["reach"] if r["arm"] == name]
    return found


def sparsity(level):
    return 1 - 0.8**level


def test_bounds():
    assert least_matching(estimate(list(DENSE.values())), 0.002) == pytest.approx(0.898)
    assert least_matching(estimate([0.9, 0.91]), 0.0) is None and least_matching(None, 0.0) is None
    three = [estimate([v] * 3) for v in (0.5, 0.4999)]
    assert [matching(e, 0.5) for e in three] == ["yes", "no"]
    assert matching(estimate([0.9] * 2), 0.5) == matching(three[0], None) == matching(None, 0.5) == "not decidable"
    assert [stable(estimate([v])) for v in (STABLE_BELOW, 0.0199)] == ["no", "yes"] and stable(None) == "not measured"


def test_reach_is_the_largest_sparsity_that_holds():
    accuracy = {
        0: {1: 0.95, 2: 0.89, 3: 0.90, 4: 0.5},
        1: {1: 0.95, 2: 0.95, 3: 0.5, 4: 0.5},
        2: {1: 0.5, 2: 0.5, 3: 0.5, 4: 0.5},
    }
    found = reach_of(study(accuracy))["matching"]
    # Seed 0 fails at level 2 and holds at 3; seed 2 nowhere. The means are 0.8 and 0.78.
    assert found["last"] is None and found["known"]
    assert found["units"] == estimate([sparsity(3), sparsity(2), 0.0]) and found["at_least"] == 0
    assert reach_of(study(accuracy), margin=0.13)["matching"]["last"] == pytest.approx(sparsity(2))


def test_an_initialisation_on_a_bound_is_matching_and_not_stable():
    found = reach_of(study({0: {1: 0.5}}, {s: {1: 0.02, 2: 0.5} for s in range(3)}, dense=dict.fromkeys(range(3), 0.5)))
    assert found["stable"]["units"]["mean"] == 0.0 and found["matching"]["units"]["mean"] == pytest.approx(sparsity(1))


def test_reach_of_the_means_is_by_the_rows():
    barrier = {s: {1: 0.01, 2: 0.03, 3: 0.01 + 0.008 * s, 4: 0.05} for s in range(3)}
    numbers = summarise(study(barrier=barrier), TWO)
    (found,) = [r["stable"] for r in numbers["reach"] if r["arm"] == "syn"]
    assert [row_of(numbers, "syn", n)["stable"] for n in range(5)] == ["not measured", "yes", "no", "yes", "no"]
    assert found["last"] == row_of(numbers, "syn", 3)["sparsity"]
    assert found["units"] == estimate([sparsity(3), sparsity(3), sparsity(1)])


def test_initialisations_that_hold_to_the_end_are_counted():
    barrier = {0: {1: 0.01, 2: 0.01}, 1: {1: 0.5, 2: 0.01}, 2: {1: 0.01, 2: 0.5}}
    found = reach_of(study(barrier=barrier))["stable"]
    assert found["at_least"] == 2 and found["units"]["n"] == 3
    short = {0: {1: 0.01, 2: None}, 1: {1: 0.01, 2: 0.5}, 2: {1: 0.5, 2: 0.5}}
    assert reach_of(study(barrier=short))["stable"]["at_least"] == 1, "the end is the sparsest level measured of it"


@pytest.mark.parametrize(("barrier", "mean", "censored"), [(0.01, sparsity(2), 3), (0.5, 0.0, 0)])
def test_no_interval_where_all_reach_the_same_level(barrier, mean, censored):
    found = reach_of(study(barrier={s: {1: barrier, 2: barrier} for s in range(3)}))["stable"]
    assert found["units"]["mean"] == pytest.approx(mean) and found["units"]["n"] == 3 and found["at_least"] == censored
    assert found["units"]["low"] is found["units"]["high"] is found["units"]["se"] is None


def test_what_is_not_measured_or_not_decidable_has_no_units():
    accuracy = {s: {1: 0.95} for s in range(3)}
    assert reach_of(study(accuracy))["stable"] == {"last": None, "known": False, "units": None, "at_least": 0}
    assert reach_of(study(accuracy, seeds=range(2)))["matching"] == {"last": None, "known": False, "units": None, "at_least": 0}
    assert reach_of(study(accuracy), name="real")["matching"]["units"] is None, "the dense level is no reach"


def test_every_arm_has_a_reach_and_its_own_dense_networks():
    arms = scan_arms("0it", "100it")
    units = []
    for s in range(3):
        units += [unit("real", s, 0, accuracy=0.5 + 0.01 * s), unit("real@100it", s, 0, accuracy=0.9 + 0.01 * s)]
        units += [unit(n, s, 1, accuracy=0.7 + 0.01 * s) for n in ("syn", "syn@100it")]
    found = summarise(units, arms)
    assert [r["arm"] for r in found["reach"]] == [a["name"] for a in arms]
    matching = {r["arm"]: r["matching"] for r in found["reach"]}
    assert matching["syn"]["last"] == pytest.approx(0.2) and matching["syn"]["at_least"] == 3
    assert matching["syn@100it"]["last"] is None and matching["syn@100it"]["units"]["mean"] == 0


@pytest.mark.parametrize("seed", range(5))
def test_units_are_those_of_a_slow_twin(seed):
    draw = random.Random(seed)
    arms = [arm("real"), arm("syn"), arm("other")]
    units = [unit("real", s, 0, accuracy=0.9 + 0.01 * draw.random()) for s in range(6)]
    for name in ("real", "syn", "other"):
        for level in range(1, 6):
            for s in range(6):
                if draw.random() < 0.85:
                    accuracy, barrier = (
                        draw.choice([None, 0.85 + 0.1 * draw.random()]),
                        draw.choice([None, 0.04 * draw.random()]),
                    )
                    units.append(unit(name, s, level, accuracy=accuracy, barrier_test=barrier))
    dense = estimate([u["accuracy"] for u in units if u["level"] == 0])
    bound = dense["mean"] - dense["sd"] - 0.01
    for found in summarise(units, arms, margin=0.01)["reach"]:
        for what, metric, holds in (
            ("matching", "accuracy", lambda v: v >= bound),
            ("stable", "barrier_test", lambda v: v < 0.02),
        ):
            reached, censored = [], 0
            for s in range(6):
                best, sparsest, last = None, -1.0, False
                for u in units:
                    if u["arm"] != found["arm"] or u["seed"] != s or u["level"] == 0 or u.get(metric) is None:
                        continue
                    best = best or 0.0
                    if holds(u[metric]) and u["sparsity"] > best:
                        best = u["sparsity"]
                    if u["sparsity"] > sparsest:
                        sparsest, last = u["sparsity"], holds(u[metric])
                if best is not None:
                    reached.append(best)
                    censored += last
            assert found[what]["units"]["mean"] == pytest.approx(sum(reached) / len(reached))
            assert found[what]["units"]["n"] == len(reached) and found[what]["at_least"] == censored
