"""The answer in sentences: the means first, then what the differences carry, and nothing that they do not."""

from __future__ import annotations

import pytest
from reference_summary import BARRIER, KS, TWO, arm, scan_arms, summarise, unit, units_of_scan, verdict_and_rest

from distill_prune.analyze.answer import NO_LEVEL, Answer, SetScore
from distill_prune.analyze.estimate import estimate
from distill_prune.analyze.sentences import sentences

SMALL = [0.98, 1.0, 1.02, 0.99, 1.01, 1.0, 1.03]


def study(gaps, seeds=6, arms=("syn",), missing=()):
    """Dense networks, and at level 1 the learned arm at `gaps` {metric: gap} from real; without effect the gap wavers."""
    base = {"accuracy": 0.8, "barrier_test": 0.05, "trace_per_weight": 0.2, "trace_invariant": 5.0}
    units = []
    for s in range(seeds):
        units.append(unit("real", s, 0, accuracy=0.8 - 0.001 * s))
        units.append(unit("real", s, 1, **{m: v for m, v in base.items() if m in gaps}))
        for name in arms:
            values = {m: v + (gaps[m] * SMALL[s] if gaps[m] else 0.001 * (-1) ** s) for m, v in base.items() if m in gaps}
            units.append(unit(name, s, 1, **{m: None if (m, s) in missing else v for m, v in values.items()}))
    return units


def told(gaps, arms=TWO, **more):
    return summarise(study(gaps, **more), arms, claim_p=0.05)["answer"]


FLAT = {"accuracy": -0.02, "barrier_test": -0.04, "trace_per_weight": -0.1, "trace_invariant": -1.0}


def test_what_the_intervals_carry_is_told_with_its_numbers():
    assert told(FLAT).endswith(
        "Within initialisations, syn has, against real, accuracy lower by 2 [1.97, 2.03] points (p = 0.031, n = 6), test "
        "barrier lower by 4 [3.94, 4.06] points (p = 0.031, n = 6), trace per weight lower by 0.1 [0.0985, 0.101] (p = 0.031, "
        "n = 6) and rescaling-invariant trace lower by 1 [0.985, 1.01] (p = 0.031, n = 6). Syn more stable than real: shown in "
        "test barrier (n = 6); flatter than real: shown in trace per weight and rescaling-invariant trace (n = 6)."
    )


def test_a_synthetic_control_is_what_the_others_are_held_to():
    numbers = summarise(study(FLAT), TWO, claim_p=0.05, versus="syn")
    text, (first, _) = numbers["answer"], verdict_and_rest(numbers, "syn")
    assert first == (
        "At 20.0% sparsity syn is not matching and stable (n = 6); real is shown to be more accurate, less stable and less "
        "flat than syn (n = 6)."
    )
    assert "syn reaches 78.0 ± 0.0% test accuracy" in text and "real reaches 80.0 ± 0.0% test accuracy" in text
    assert "real has, against syn, accuracy higher by 2 [1.97, 2.03] points (p = 0.031, n = 6)" in text


def test_nothing_carried_is_said():
    text = told(dict.fromkeys(FLAT, 0.0))
    assert (
        "Between syn and real no difference is carried by interval and p in accuracy, test barrier, trace per weight and "
        "rescaling-invariant trace (n = 6)." in text
    )
    assert "more stable than real: not shown in test barrier (n = 6); flatter than real: not shown in" in text
    assert "Within initialisations" not in text


@pytest.mark.parametrize(
    ("gaps", "stabler", "flatter"),
    [
        (
            {"barrier_test": 0.04, "trace_per_weight": 0.1, "trace_invariant": 1.0},
            "the opposite is shown",
            "the opposite is shown",
        ),
        ({"barrier_test": 0.0, "trace_per_weight": -0.1, "trace_invariant": 1.0}, "not shown", "not shown"),
        ({"barrier_test": -0.04, "trace_per_weight": -0.1, "trace_invariant": 0.0}, "shown", "not shown"),
        ({"barrier_test": -0.04, "trace_per_weight": 0.0, "trace_invariant": -1.0}, "shown", "not shown"),
        ({"barrier_test": -0.04, "trace_per_weight": -0.1, "trace_invariant": -1.0}, "shown", "shown"),
    ],
)
def test_the_claims_of_the_papers_go_as_far_as_the_numbers(gaps, stabler, flatter):
    assert told({"accuracy": 0.0, **gaps}).endswith(
        f"Syn more stable than real: {stabler} in test barrier (n = 6); flatter than real: {flatter} in trace per weight and "
        "rescaling-invariant trace (n = 6)."
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_a_mean_that_the_interval_does_not_carry_shows_nothing(sign):
    units = study({"accuracy": 0.0, **dict.fromkeys(FLAT, 0.0)})
    for u in units:
        if (u["arm"], u["level"], u["seed"]) == ("syn", 1, 0):
            u |= {m: u[m] + sign * 0.5 for m in FLAT}
    text = summarise(units, TWO)["answer"]
    assert "more stable than real: not shown in" in text and "flatter than real: not shown in" in text


def test_differences_are_those_of_the_sparsest_level():
    units = study(FLAT)
    units += [u | {"level": 2, "sparsity": 0.36} for u in study(dict.fromkeys(FLAT, 0.0)) if u["level"] == 1]
    text = summarise(units, TWO)["answer"]
    assert "At 36.0% sparsity (level 2), syn reaches" in text and "Within initialisations" not in text
    turned = units + [u | {"level": 3, "sparsity": 0.488} for u in study(FLAT) if u["level"] == 1]
    assert "trace per weight lower by 0.1" in summarise(turned, TWO)["answer"]
    turned += [u | {"level": 4, "sparsity": 0.59} for u in study({"accuracy": 0.0}) if u["level"] == 1]
    assert (
        "trace" not in summarise(turned, TWO)["answer"]
        and "flatter than real: not measured" in summarise(turned, TWO)["answer"]
    )


def test_one_trace_alone_is_named():
    text = told({"accuracy": 0.0, "trace_per_weight": -0.1})
    assert text.endswith("Syn more stable than real: not measured; flatter than real: shown in trace per weight (n = 6).")


def test_below_six_initialisations_nothing_is_claimed():
    text = told(FLAT, seeds=5)
    assert (
        "; below 6 initialisations no difference is claimed. Syn more stable than real: not shown in test barrier (n = 5)"
        in text
    )
    assert "Within initialisations" not in text and "is carried" not in text and "flatter than real: not shown" in text


def test_a_metric_of_too_few_initialisations_is_not_claimed():
    text = told(FLAT, missing={("barrier_test", s) for s in range(3)} | {("trace_invariant", 0)})
    assert "accuracy lower by" in text and "test barrier lower" not in text and "trace per weight lower by" in text
    few = "test barrier (n = 3) and rescaling-invariant trace (n = 5)"
    assert f"Below 6 initialisations nothing is claimed of syn and real in {few}." in text
    assert "flatter than real: not shown in trace per weight (n = 6) and rescaling-invariant trace (n = 5)." in text


def test_p_above_its_bound_carries_nothing():
    units = study({"accuracy": -0.02})
    units[-1]["accuracy"] = 0.801
    assert "accuracy lower by" in summarise(units, TWO)["answer"]
    assert "no difference is carried by interval and p in accuracy (n = 6)" in summarise(units, TWO, claim_p=0.05)["answer"]


def test_controls_are_not_named_and_every_learned_arm_is():
    arms = [*TWO, arm("soft", images="soft", learned=True, label="Soft labels"), arm("subset", images="subset"), arm("random")]
    text = summarise(study(FLAT, arms=("syn", "soft", "subset", "random")), arms)["answer"]
    assert "subset" not in text and "random" not in text
    assert "Syn more stable than real: shown" in text and "Soft labels more stable than real: shown" in text


def test_without_the_control_nothing_is_compared():
    numbers = summarise(study(FLAT), [TWO[1]])
    first, rest = verdict_and_rest(numbers)
    assert "more stable" not in numbers["answer"] and rest.startswith("At 20.0% sparsity (level 1), syn reaches")
    assert first == "At 20.0% sparsity syn is not decidably matching below 3 initialisations and stable (n = 6)."


def test_a_learned_control_stands_there_once():
    arms = [arm("syn", images="a", learned=True), arm("soft", images="b", learned=True)]
    text = summarise(study(FLAT, arms=("syn", "soft")), arms, versus="syn")["answer"]
    assert text.count("syn reaches") == text.count("soft reaches") == 1 and "Soft more stable than syn" in text


def test_verdicts_have_their_counts():
    units = study({"accuracy": 0.0, "barrier_test": -0.04}, missing={("barrier_test", 0)})
    text = summarise(units, TWO)["answer"]
    assert "Syn is last matching at 20.0% sparsity (n = 6) and last stable at 20.0% sparsity (n = 5)" in text
    assert "real is last matching at 20.0% sparsity and stable at no pruned level (n = 6)" in text


def test_a_scan_is_told_by_its_onsets():
    units = units_of_scan(BARRIER, dense_barrier=[0.3, 0.1, 0.01])
    numbers = summarise(units, scan_arms(*KS))
    text = numbers["answer"]
    assert text.startswith("At 20.0% sparsity (k = 0it) syn is not shown to be more or less accurate or more stable than real")
    assert verdict_and_rest(numbers)[1].startswith("At 20.0% sparsity (level 1, k = 0it), syn reaches 95.1 ± 0.1%")
    assert text.endswith(
        "Of the rewinding steps k = 0it, 10it, 50it, at level 1: syn becomes stable at k = 50it and becomes matching at "
        "k = 0it (n = 3); real becomes stable at k = 10it and becomes matching at k = 10it (n = 3); the dense network becomes "
        "stable at k = 50it (n = 3)."
    )
    assert "@" not in text and "shuffled" not in text


def test_a_scan_without_onset_says_so():
    barrier = {"real": [0.05, 0.05, 0.05], "syn": [None, None, None]}
    text = summarise(units_of_scan(barrier, seeds=range(2)), scan_arms(*KS))["answer"]
    assert "real becomes stable at no k (n = 2) and is not decidably matching below 3 initialisations" in text
    assert "syn is of unmeasured stability and is not decidably matching" in text
    assert text.endswith("the dense network is of unmeasured stability.")
    early = {"real": [0.01, 0.01, 0.05], "syn": [0.05, 0.01, 0.01]}
    text = summarise(units_of_scan(early), scan_arms(*KS))["answer"]
    assert "real is stable at some k, but not at the last one and becomes matching at k = 10it (n = 3)" in text


def test_dense_networks_that_differ_are_named():
    units = units_of_scan(BARRIER, dense_barrier=[0.3, 0.1, 0.01])
    for u in units:
        if u["arm"] == "syn@10it" and u["level"] == 0:
            u["barrier_test"] = 0.001
    text = summarise(units, scan_arms(*KS))["answer"]
    assert "the dense network of real becomes stable at k = 50it (n = 3)" in text
    assert "the dense network of syn becomes stable at k = 10it (n = 3)" in text


# the first sentence


def first(gaps, arms=TWO, **more):
    return verdict_and_rest(summarise(study(gaps, **more), arms, claim_p=0.05))[0]


@pytest.mark.parametrize(
    ("gaps", "verdict"),
    [
        (FLAT, "is shown to be less accurate, more stable and flatter than real (n = 6)."),
        ({m: -g for m, g in FLAT.items()}, "is shown to be more accurate, less stable and less flat than real (n = 6)."),
        (
            {**FLAT, "trace_invariant": 1.0},
            "is shown to be less accurate and more stable than real and not shown to be flatter (n = 6).",
        ),
        (
            dict.fromkeys(FLAT, 0.0),
            "is not shown to be more or less accurate, more stable or flatter than real (n = 6).",
        ),
        (
            {"accuracy": 0.0, "barrier_test": -0.04},
            "is shown to be more stable than real and not shown to be more or less accurate (n = 6); flatness was not "
            "measured.",
        ),
        (
            {"accuracy": -0.02},
            "is shown to be less accurate than real (n = 6); stability and flatness were not measured.",
        ),
    ],
)
def test_the_first_sentence_is_the_verdict(gaps, verdict):
    assert first(gaps) == f"At 20.0% sparsity syn {verdict}"


def test_the_first_sentence_has_its_counts():
    few = "is not shown to be more or less accurate, more stable or flatter than real"
    assert first(FLAT, seeds=5) == f"At 20.0% sparsity syn {few} (n = 5; below 6 initialisations nothing can be shown)."
    lacking = first(FLAT, missing={("trace_invariant", 0)})
    assert lacking.endswith("not shown to be flatter (n = 6 in accuracy, 6 in stability, 5 in flatness).")


def test_arms_that_stand_alike_are_told_together():
    arms = [*TWO, arm("soft", images="soft", learned=True, label="vs. Soft"), arm("hard", images="hard", learned=True)]
    units = study(FLAT, arms=("syn", "soft", "hard"))
    for u in units:
        if u["arm"] == "hard" and u["level"] == 1:
            u["barrier_test"] = None
    text = verdict_and_rest(summarise(units, arms, claim_p=0.05))[0]
    assert text == (
        "At 20.0% sparsity syn and vs. Soft are shown to be less accurate, more stable and flatter than real (n = 6); "
        "hard is shown to be less accurate and flatter than real (n = 6); stability was not measured."
    )


def test_without_learned_arms_the_control_is_judged_and_differences_have_two_sides():
    arms = [arm("real"), arm("random"), arm("late")]
    units = study({"accuracy": -0.02, "barrier_test": 0.0}, arms=("random", "late"))
    units = [u for u in units if u["arm"] != "late" or u["level"] == 0 or u["seed"] < 0]
    units += [unit("late", s, 1, accuracy=0.8) for s in range(2)]
    text = verdict_and_rest(summarise(units, arms, claim_p=0.05))[0]
    assert text == (
        "At 20.0% sparsity real is matching and not stable (n = 6); random is shown to be less accurate than real and not "
        "shown to be more or less stable (n = 6); late is not shown to be more or less accurate than real (n = 2; below 6 "
        "initialisations nothing can be shown)."
    )


def test_an_answer_is_as_many_sentences_as_there_are_things_to_say():
    sets = (SetScore("no. 1", "convnet", estimate([0.5])),)
    of_sets = "Fresh networks trained on a set alone reach, in test accuracy (mean ± sd): set no. 1 50.0% (convnet, n = 1)."
    assert sentences(Answer()) == () and sentences(Answer(NO_LEVEL)) == (NO_LEVEL,)
    assert sentences(Answer(sets=sets)) == (of_sets,) and sentences(Answer(NO_LEVEL, sets)) == (NO_LEVEL, of_sets)
