from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import torch
from reference_analyze import (
    examples_of,
    mask_of,
    shared_by_chance,
    sign_flips,
    state_of,
    synthetic_of,
    tiny,
)
from reference_inputs import copies_of

from distill_prune.analyze import ANALYSES, accuracy, evaluation, overlap
from distill_prune.analyze.estimate import combined, dependent, estimate, sign_flip_p, smallest_p
from distill_prune.analyze.inputs import Pair, SetInput
from distill_prune.artifacts import Examples, Mask, SyntheticSet, Transform
from distill_prune.errors import ConfigError, UserError
from distill_prune.rng import Streams, seed_of
from distill_prune.training import evaluate

# ---------------------------------------------------------------- the table


@pytest.mark.parametrize("name", ["accuracy", "connectivity", "curvature", "overlap", "evaluation", "summary"])
def test_every_analysis_conforms(name):
    entry = ANALYSES[name]
    assert entry.Settings().name == name
    assert entry.TAKES in {"copies", "pair", "set", "study"}
    assert callable(entry.measure) and entry.__doc__
    with pytest.raises(ValueError, match="frozen"):
        entry.Settings().name = name
    with pytest.raises(ValueError, match="Extra inputs"):
        entry.Settings(nonsense=1)


def test_unknown_analysis_names_the_nearest():
    with pytest.raises(ConfigError, match=r"(?s)unknown analysis 'curvatur'.*did you mean 'curvature'"):
        ANALYSES["curvatur"]


# ---------------------------------------------------------------- estimates


def test_estimate_is_scipys_t_interval():
    values = [0.3, 1.9, -0.4, 2.2, 0.8]
    held = estimate(values)
    low, high = scipy.stats.t.interval(0.95, 4, np.mean(values), scipy.stats.sem(values))
    assert held == pytest.approx(
        {"mean": np.mean(values), "sd": np.std(values, ddof=1), "se": scipy.stats.sem(values), "low": low, "high": high, "n": 5}
    )


def test_one_value_has_no_uncertainty():
    assert estimate([2.0]) == {"mean": 2.0, "sd": None, "se": None, "low": None, "high": None, "n": 1}


def test_dependent_values_have_a_spread_and_no_interval():
    assert dependent([1.0, 3.0]) == pytest.approx(
        {"mean": 2.0, "sd": math.sqrt(2), "se": None, "low": None, "high": None, "n": 2}
    )


def test_combined_errors_add_in_quadrature():
    parts = [estimate([1.0, 2.0, 4.0]), estimate([2.0, 2.5, 5.0, 7.0])]
    held, a, b = combined(parts), parts[0]["se"], parts[1]["se"]
    assert held["mean"] == pytest.approx((parts[0]["mean"] + parts[1]["mean"]) / 2)
    assert held["se"] == pytest.approx(math.hypot(a, b) / 2)
    freedom = (a**2 + b**2) ** 2 / (a**4 / 2 + b**4 / 3)
    assert held["high"] - held["mean"] == pytest.approx(scipy.stats.t.ppf(0.975, freedom) * held["se"])
    assert held["n"] == 2
    exact = combined([estimate([1.0, 1.0]), estimate([3.0, 3.0])])
    assert exact["low"] == exact["high"] == 2.0


@pytest.mark.parametrize(
    "differences",
    [
        [1.0],
        [1.0, 2.0],
        [0.1, -0.3, 0.2],
        [0.3, 0.2, 0.1, 0.6],
        [0.0, 0.0, 0.0],
        [1.0, -1.0],
        [0.5, 0.4, -0.2, 0.9, 0.1, 0.3, -0.1],
        [0.01] * 6,
        [-3.0, -1.0, -2.0, -5.0, -0.5],
    ],
)
def test_sign_flips_are_counted_exactly(differences):
    assert sign_flip_p(differences) == pytest.approx(sign_flips(differences))
    assert sign_flip_p(differences) >= smallest_p(len(differences))


def test_smallest_p():
    assert [smallest_p(n) for n in (1, 2, 3, 6)] == [1.0, 0.5, 0.25, 0.03125]
    assert sign_flip_p([1.0, 2.0, 0.5, 0.7, 3.0, 1.1]) == smallest_p(6)
    assert sign_flip_p([1.0] * 30) == pytest.approx(2 / 2**30)


# ---------------------------------------------------------------- accuracy


def test_accuracy_of_each_copy_and_their_mean():
    model = tiny()
    copies = [state_of(model, 0), state_of(model, 1)]
    parts = {"train": examples_of(model, 20, 1), "validation": examples_of(model, 0), "test": examples_of(model, 9, 2)}
    numbers = accuracy.measure(accuracy.Settings(), copies_of(model, copies, **parts)).numbers
    assert set(numbers["accuracy"]) == {"train", "test"}
    for part in ("train", "test"):
        x, y = parts[part].x, parts[part].y
        right = [float((model(c, x).argmax(1) == y).double().mean()) for c in copies]
        assert [c[part]["accuracy"] for c in numbers["copies"]] == pytest.approx(right)
        assert numbers["accuracy"][part]["mean"] == pytest.approx(sum(right) / 2)
        loss = [float(torch.nn.functional.cross_entropy(model(c, x), y)) for c in copies]
        assert numbers["loss"][part] == pytest.approx(estimate(loss))
        assert numbers["copies"][0][part]["count"] == len(y)


def test_accuracy_of_no_copies_is_refused():
    with pytest.raises(UserError, match=r"(?s)accuracy of no copies.*at least one"):
        accuracy.measure(accuracy.Settings(), copies_of(tiny(), []))


# ---------------------------------------------------------------- overlap


def test_overlap_against_counted_sets_and_exact_chance():
    model = tiny("none")
    state = state_of(model, 0)
    a, b = mask_of(model, state, 1, 0.5), mask_of(model, state, 2, 0.3)
    numbers = overlap.measure(overlap.Settings(), Pair(a, b)).numbers

    def survivors(mask, names):
        return {(n, i) for n in names for i, kept in enumerate(mask.kept[n].flatten().tolist()) if kept}

    chances = {}
    for names in [*([n] for n in model.prunable), list(model.prunable)]:
        held = numbers if len(names) > 1 else numbers["layers"][names[0]]
        left, right = survivors(a, names), survivors(b, names)
        assert (held["a"], held["b"], held["shared"]) == (len(left), len(right), len(left & right))
        assert held["iou"] == pytest.approx(len(left & right) / len(left | right))
        assert held["a_in_b"] == pytest.approx(len(left & right) / len(left))
        for n in names:
            chances[n] = shared_by_chance(a.kept[n].numel(), len(survivors(a, [n])), len(survivors(b, [n])))
        mean = sum(chances[n][0] for n in names)
        sd = math.sqrt(sum(chances[n][1] ** 2 for n in names))
        assert held["chance"]["shared"] == pytest.approx(mean)
        assert held["chance"]["sd"] == pytest.approx(sd)
        assert held["chance"]["iou"] == pytest.approx(mean / (len(left) + len(right) - mean))
        assert held["z"] == pytest.approx((len(left & right) - mean) / sd)


def test_overlap_of_a_mask_with_itself_and_with_the_dense_mask():
    model = tiny("none")
    state = state_of(model, 0)
    a = mask_of(model, state, 1)
    same = overlap.measure(overlap.Settings(), Pair(a, a)).numbers
    assert same["iou"] == same["a_in_b"] == 1 and same["z"] > 3
    dense = overlap.measure(overlap.Settings(), Pair(a, Mask.dense(state, model.prunable))).numbers
    assert dense["a_in_b"] == dense["chance"]["a_in_b"] == 1 and dense["z"] is None


def test_masks_of_different_architectures_are_refused():
    one, two = tiny("none"), tiny("instance", classes=4)
    masks = [Mask.dense(state_of(m, 0), m.prunable) for m in (one, two)]
    with pytest.raises(UserError, match=r"(?s)different architectures.*4\.weight, 5\.weight"):
        overlap.measure(overlap.Settings(), Pair(*masks))


# ---------------------------------------------------------------- evaluation


QUICK = evaluation.Settings(nets=3, length="60it", lr=0.1)


def test_fresh_networks_learn_the_set():
    model = tiny("none")
    held = synthetic_of(model)
    none = Examples(held.images[:0], held.labels[:0])
    parts = {"test": Examples(held.images + 0.05, held.labels), "validation": none}
    numbers = evaluation.measure(QUICK, SetInput(model, held, parts, held.transform, Streams(0), network="tiny")).numbers
    right = [net["test"]["accuracy"] for net in numbers["nets"]]
    assert min(right) > 0.9 and numbers["accuracy"] == {"test": estimate(right)}
    assert len({net["test"]["loss"] for net in numbers["nets"]}) == 3, "the networks are not fresh"
    assert numbers["network"] == "tiny"
    assert numbers["cost"]["steps"] == 180 and numbers["cost"]["images"] == 180 * 12
    again = evaluation.measure(QUICK, SetInput(model, held, parts, held.transform, Streams(0), network="tiny")).numbers
    assert again == numbers
    other = evaluation.measure(QUICK, SetInput(model, held, parts, held.transform, Streams(1), network="tiny")).numbers
    assert other["nets"] != numbers["nets"]


def test_what_is_left_open_comes_from_the_set():
    model = tiny("none")
    settings = evaluation.Settings()
    assert settings.recipe(synthetic_of(model)).lr == 0.01
    recipe = settings.recipe(synthetic_of(model, lr=0.03, augment="flip"))
    assert (recipe.lr, recipe.augment) == (0.03, "flip")
    given = evaluation.Settings(lr=0.2, augment="none").recipe(synthetic_of(model, lr=0.03, augment="flip"))
    assert (given.lr, given.augment) == (0.2, "none")
    rates = [recipe.lr_at(step, 12) for step in (0, 499, 500, 999)]
    assert recipe.steps(12) == 1000 and rates == pytest.approx([0.03, 0.03, 0.003, 0.003])


def test_another_input_space_or_shape_is_refused():
    model = tiny("none")
    held = synthetic_of(model)
    elsewhere = Transform("normalize", {"mean": torch.ones(1), "std": torch.ones(1)})
    with pytest.raises(UserError, match=r"(?s)lives in another input space.*normalize and normalize, fitted separately"):
        evaluation.measure(QUICK, SetInput(model, held, {}, elsewhere, Streams(0)))
    small = SyntheticSet(held.images[..., :3], held.labels, held.classes, held.transform, "subset")
    with pytest.raises(UserError, match=r"(?s)do not fit network 'tiny'.*\(1, 4, 3\).*\(1, 4, 4\)"):
        evaluation.measure(QUICK, SetInput(model, small, {}, held.transform, Streams(0), network="tiny"))


def test_accuracy_is_that_of_the_trained_network():
    model = tiny("none")
    held = synthetic_of(model)
    still = evaluation.Settings(nets=1, length="1it", lr=1e-30)  # a step too small for float32
    start = model.fresh(seed_of(0, "evaluation", "init", net=0))
    examples = held.examples(held.transform)
    score = evaluate(model, start, examples)
    numbers = evaluation.measure(still, SetInput(model, held, {"test": examples}, held.transform, Streams(0))).numbers
    assert numbers["nets"][0]["test"] == {"accuracy": 1 - score.error, "loss": score.loss, "count": 12}
