"""Differences within initialisations: whom each arm is compared with, exact p-values, their correction, and claims."""

from __future__ import annotations

import random
from fractions import Fraction

import numpy as np
import pytest
from reference_summary import TWO, arm, closed_testing, scan_arms, sign_flips_exactly, summarise, unit

from distill_prune.analyze import summary
from distill_prune.analyze.estimate import estimate, holm, sign_flip_p, smallest_p
from distill_prune.analyze.paired import PAIRED, carried, control_of, differences


def of(rows, metric, name="syn", level=1):
    (held,) = [r for r in rows if (r["metric"], r["arm"], r["level"]) == (metric, name, level)]
    return held


def against_zero(values, metric="accuracy", claim_p=1.0):
    """The row of differences that are `values`."""
    units = [unit("real", s, 1, **{metric: 0.0}) for s in range(len(values))]
    units += [unit("syn", s, 1, **{metric: v}) for s, v in enumerate(values)]
    return of(differences(units, TWO, "real", claim_p), metric)


def test_every_paired_metric_is_a_metric():
    assert set(PAIRED) < set(summary.METRICS)
    assert {"trace_invariant", "top_eigenvalue", "disagreement"} < set(PAIRED)


def test_rows_are_those_of_a_slow_twin():
    draw = random.Random(0)
    names, levels, seeds = ["real", "syn", "other"], range(3), range(7)
    arms = [arm(n) for n in names]
    units = []
    for name in names:
        for level in levels:
            for seed in seeds:
                if draw.random() < 0.2:
                    continue
                metrics = {m: draw.choice([None, draw.random(), draw.random()]) for m in PAIRED if m != "top_eigenvalue"}
                units.append(unit(name, seed, level, **metrics))
    draw.shuffle(units)
    expected = []
    for name in ("syn", "other"):
        for level in (1, 2):
            for metric in PAIRED:
                found = {(u["arm"], u["seed"]): u.get(metric) for u in units if u["level"] == level}
                apart = []
                for seed in seeds:
                    a, b = found.get((name, seed)), found.get(("real", seed))
                    if a is not None and b is not None:
                        apart.append(a - b)
                if apart:
                    p = sign_flips_exactly([Fraction(d) for d in apart])
                    expected.append((name, "real", level, metric, estimate(apart), p, 2 / 2 ** len(apart)))
    rows = differences(units, arms, "real", 1.0)
    keys = ("arm", "versus", "level", "metric", "difference", "p", "p_smallest")
    assert [tuple(r[k] for k in keys) for r in rows] == expected and len(rows) > 12
    assert not any(r["metric"] == "top_eigenvalue" for r in rows), "what is nowhere measured has no rows"


def test_controls_stand_at_the_same_step_of_a_scan():
    arms = [*scan_arms("100it", "0it", "2ep"), arm("late")]
    controls = {a["name"]: control_of(a, arms, "real") for a in arms}
    assert controls == {
        "real": None,
        "syn": "real",
        "shuffled": "real",
        "late": "real",
        "real@0it": None,
        "syn@0it": "real@0it",
        "shuffled@0it": "real@0it",
        "real@2ep": None,
        "syn@2ep": "real@2ep",
        "shuffled@2ep": "real@2ep",
    }
    assert control_of(arms[1], arms, "nothing") is None
    fixed = [a for a in arms if a.get("base") != "real"]
    assert control_of(fixed[-2], fixed, "real") is None, "the control is not a part of the scan"


def test_scanned_arms_are_subtracted_at_their_own_step():
    arms = scan_arms("0it", "100it")
    accuracy = {"real": 0.9, "syn": 0.8, "shuffled": 0.7, "real@100it": 0.95, "syn@100it": 0.94, "shuffled@100it": 0.5}
    units = [unit(name, s, level, accuracy=a + 0.01 * s) for name, a in accuracy.items() for s in range(3) for level in (0, 1)]
    rows = differences(units, arms, "real", 1.0)
    assert {(r["arm"], r["versus"], round(r["difference"]["mean"], 9), r["level"]) for r in rows} == {
        ("syn", "real", -0.1, 1),
        ("shuffled", "real", -0.2, 1),
        ("syn@100it", "real@100it", -0.01, 1),
        ("shuffled@100it", "real@100it", -0.45, 1),
    }


@pytest.mark.parametrize("n", range(1, 10))
def test_p_is_the_share_of_all_signings(n):
    draw = np.random.default_rng(n)
    for values in (draw.normal(0.5, 1, n), draw.integers(-2, 4, n).astype(float), draw.lognormal(0, 2, n)):
        exact = sign_flips_exactly([Fraction(float(v)) for v in values])
        assert sign_flip_p(values.tolist()) == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("n", [12, 15, 18])
def test_p_of_whole_numbers_is_the_share_of_all_signings(n):
    values = np.random.default_rng(n).integers(-3, 6, n)
    signs = 1 - 2 * (np.arange(2**n)[:, None] >> np.arange(n) & 1)
    exact = np.mean(abs(signs @ values) >= abs(values.sum()))
    assert sign_flip_p(values.astype(float).tolist()) == pytest.approx(exact, abs=1e-12) and 0 < exact < 1


def test_counts_that_tie_on_paper_tie_here():
    """Accuracies are counts of 50,000, averaged over 3 copies: their differences carry rounding, their ties do not."""
    draw, without = random.Random(1), 0
    for _ in range(60):
        counts = [[[45_000 + draw.randrange(3) for _ in range(3)] for _ in range(6)] for _ in range(2)]
        ours, theirs = ([estimate([c / 50_000 for c in unit])["mean"] for unit in side] for side in counts)
        units = [unit(n, s, 1, accuracy=a) for n, side in (("syn", ours), ("real", theirs)) for s, a in enumerate(side)]
        exact = sign_flips_exactly([Fraction(sum(a) - sum(b), 150_000) for a, b in zip(*counts, strict=True)])
        assert of(differences(units, TWO, "real", 1.0), "accuracy")["p"] == pytest.approx(exact, abs=1e-12)
        without += sign_flip_p([a - b for a, b in zip(ours, theirs, strict=True)]) != pytest.approx(exact, abs=1e-12)
    assert without > 0, "the ties of this test are too easy"


def test_p_of_many_initialisations():
    values = [1.0] * 29 + [-1.0]
    assert sign_flip_p(values) == pytest.approx(2 * 31 / 2**30)


@pytest.mark.parametrize("seed", range(12))
def test_holm_is_closed_testing(seed):
    draw = random.Random(seed)
    ps = [draw.choice([draw.random() * draw.choice([0.02, 0.2, 1.0]), 0.03125]) for _ in range(1 + seed % 8)]
    assert holm(ps) == pytest.approx(closed_testing(ps))


def test_holm_by_hand():
    assert holm([0.04, 0.01, 0.03, 0.005]) == pytest.approx([0.06, 0.03, 0.06, 0.02])
    assert holm([]) == [] and holm([0.4, 0.9]) == [0.8, 0.9] and holm([0.6, 0.7]) == [1.0, 1.0]


def test_correction_is_over_all_rows_of_a_metric():
    arms = [*TWO, arm("other")]
    wave = {"real": lambda s: 0.0, "syn": lambda s: 0.1 + 0.01 * s, "other": lambda s: 0.1 * (-1) ** s}
    units = [
        unit(n, s, level, accuracy=wave[n](s), **({"barrier_test": wave[n](s)} if n != "other" else {}))
        for n in wave
        for s in range(6)
        for level in (1, 2)
    ]
    rows = differences(units, arms, "real", 1.0)
    accuracy = [r for r in rows if r["metric"] == "accuracy"]
    assert [r["p_holm"] for r in accuracy] == closed_testing([r["p"] for r in accuracy]) and len(accuracy) == 4
    assert of(rows, "accuracy")["p_holm"] == 4 * smallest_p(6)
    assert of(rows, "barrier_test")["p_holm"] == 2 * smallest_p(6)


def test_a_claim_needs_pairs_an_interval_and_p():
    assert against_zero([0.1, 0.2, 0.3, 0.2, 0.1], claim_p=0.05)["claim"] is None
    lean = against_zero([1.0, 1.0, 1.0, 1.0, 1.0, -0.05])
    assert lean["difference"]["low"] > 0 and lean["p"] == 0.0625 and lean["claim"]
    assert against_zero([1.0, 1.0, 1.0, 1.0, 1.0, -0.05], claim_p=0.05)["claim"] is None
    assert against_zero([0.1, 0.2, 0.3, 0.2, 0.1, 0.2], claim_p=0.03125)["claim"], "p may be as large as its bound"
    # All of one sign, so p is the smallest, but one far out: the interval holds zero.
    far = against_zero([0.01, 0.01, 0.01, 0.01, 0.01, 5.0], claim_p=0.05)
    assert far["p"] == 0.03125 and far["difference"]["low"] < 0 and far["claim"] is None
    assert against_zero([0.1, 0.2, 0.3, 0.2, 0.1, 0.2], claim_p=0.05)["claim"]


@pytest.mark.parametrize(
    ("metric", "told"),
    [
        ("accuracy", "accuracy of syn is lower than of real by 2 points at level 1 (n = 6)"),
        ("barrier_test", "test barrier of syn is lower than of real by 2 points at level 1 (n = 6)"),
        ("disagreement", "disagreement of copies of syn is lower than of real by 2 points at level 1 (n = 6)"),
        ("trace_per_weight", "trace per weight of syn is lower than of real by 0.02 at level 1 (n = 6)"),
        ("trace_invariant", "rescaling-invariant trace of syn is lower than of real by 0.02 at level 1 (n = 6)"),
        ("top_eigenvalue", "largest eigenvalue of syn is lower than of real by 0.02 at level 1 (n = 6)"),
    ],
)
def test_claims_name_their_metric_and_its_unit(metric, told):
    assert against_zero([-0.02, -0.0201, -0.0199] * 2, metric)["claim"] == told


def test_a_carried_difference_comes_with_all_its_numbers():
    row = against_zero([-0.02, -0.03, -0.01, -0.02, -0.03, -0.01])
    low, high = (100 * abs(row["difference"][end]) for end in ("high", "low"))
    assert (
        carried(row, PAIRED["accuracy"]) == f"accuracy lower by 2 [{low:.3g}, {high:.3g}] points (p = 0.031, n = 6)"
        and low < 2 < high
    )
    up = against_zero([1.0, 2.0, 3.0, 2.0, 1.0, 3.0], "trace_invariant")
    assert carried(up, PAIRED["trace_invariant"]) == "rescaling-invariant trace higher by 2 [1.06, 2.94] (p = 0.031, n = 6)"


def test_the_setting_reaches_the_rows_and_no_old_key():
    units = [unit("real", s, 1, accuracy=0.0) for s in range(6)]
    units += [unit("syn", s, 1, accuracy=v) for s, v in enumerate([1.0, 1.0, 1.0, 1.0, 1.0, -0.05])]
    assert of(summarise(units, TWO)["paired"], "accuracy")["claim"]
    assert of(summarise(units, TWO, claim_p=0.05)["paired"], "accuracy")["claim"] is None


def test_intervals_and_p_are_calibrated():
    """2,000 studies of 6 initialisations: test counts of networks that differ, effects of initialisation in both arms."""
    draw = np.random.default_rng(0)
    repeats, seeds, rows, gap = 2_000, 6, 2_000, 0.01
    shared, own = draw.normal(0, 0.02, (repeats, seeds, 1)), draw.normal(0, 0.01, (repeats, seeds, 2))
    accuracy = draw.binomial(rows, 0.8 + shared + own + np.array([0.0, gap])) / rows - np.array([0.0, gap])
    inside, mean_inside, false = 0, 0, 0
    for study in accuracy:
        units = [unit(n, s, 1, accuracy=a) for s, pair in enumerate(study) for n, a in zip(("real", "syn"), pair, strict=True)]
        row = of(differences(units, TWO, "real", 0.05), "accuracy")
        inside += row["difference"]["low"] <= 0 <= row["difference"]["high"]
        false += row["claim"] is not None
        mean = estimate(study[:, 0].tolist())
        mean_inside += mean["low"] <= 0.8 <= mean["high"]
    assert 0.934 <= inside / repeats <= 0.966 and 0.934 <= mean_inside / repeats <= 0.966
    # Both must hold, and p alone holds in 2 of 64 signings.
    assert 0.01 <= false / repeats <= 0.045
