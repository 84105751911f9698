"""Intervals of the trace: how often they hold it, in 2,000 repeats on the whole Hessian of a trained network.

The matrix is a hard one: one eigenvalue is two fifths of the trace, and the skewness of a quadratic about 2.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from reference_curvature import NETS, STREAMS, Dense, scene, signs, trained_hessian
from reference_inputs import copies_of
from scipy.stats import gamma, skew, t

from distill_prune.analyze import curvature
from distill_prune.analyze.curvature import Settings
from distill_prune.analyze.estimate import combined, estimate
from distill_prune.analyze.probing import FRESH, one_stage, two_stages
from distill_prune.analyze.skewness import pooled, skewed
from distill_prune.training.hessian import Sketch

REPEATS = 2000
PROBES = 216
"""The most that a repeat takes."""
SKETCH = 8


def test_the_matrix_is_hard():
    matrix = trained_hessian()
    beside = matrix - torch.diag(matrix.diagonal())
    variance = 2 * float((beside**2).sum())
    assert float(torch.linalg.eigvalsh(matrix)[-1]) > 0.4 * float(matrix.trace())
    assert 8 * float((beside @ beside @ beside).trace()) / variance**1.5 > 1.7


@cache
def samples(method):
    """What each probe says of the trace; (repeats, probes)."""
    rng, matrix, found = np.random.default_rng(0), trained_hessian(), []
    single = matrix.float()
    for _ in range(REPEATS):
        probes = torch.from_numpy(rng.integers(0, 2, (PROBES, len(matrix)), dtype=np.int8)).float() * 2 - 1
        known = 0.0
        if method == "hutch++":
            sketch = Sketch(Dense(matrix), signs(rng, SKETCH, len(matrix)))
            basis, known = sketch.basis.float(), float(sketch.known.sum())
            probes -= probes @ basis @ basis.T
        found.append(known + ((probes @ single) * probes).sum(1).double().numpy())
    return np.stack(found)


def covered(estimates):
    truth = float(trained_hessian().trace())
    return sum(e["low"] <= truth <= e["high"] for e in estimates) / len(estimates)


def stopped(rule, settings, row):
    """A rule's probes, drawn from a row."""
    probes = torch.stack([torch.from_numpy(row), torch.zeros(len(row))], 1)
    held, _ = rule(settings, lambda begin, end: list(probes[0 if rule is one_stage else begin : end].unbind()))
    return torch.stack(held)[:, 0].tolist()


@pytest.mark.parametrize(("method", "error"), [("hutchinson", 0.05), ("hutchinson", 0.1), ("hutch++", 0.05)])
def test_calibrated_intervals_hold_the_truth(method, error):
    settings = Settings(interval="calibrated", relative_error=error, method=method)
    drawn = [stopped(two_stages, settings, row) for row in samples(method)]
    assert 0.934 <= covered([skewed(d) for d in drawn]) <= 0.966
    assert min(map(len, drawn)) == FRESH and max(map(len, drawn)) <= settings.probes_max - settings.probes_min


@pytest.mark.parametrize(("method", "fewest"), [("hutchinson", 32), ("hutch++", 16)])
@pytest.mark.parametrize("n", [16, 32, 64, 200])
def test_intervals_of_a_number_of_probes_hold_the_truth(method, fewest, n):
    if n >= fewest:
        assert 0.934 <= covered([skewed(row) for row in samples(method)[:, :n].tolist()]) <= 0.966


def test_students_intervals_hold_the_truth_with_a_sketch():
    settings = Settings(method="hutch++")
    drawn = [stopped(one_stage, settings, row) for row in samples("hutch++")]
    assert 0.934 <= covered([estimate(d) for d in drawn]) <= 0.966


def test_students_intervals_hold_it_less_often_without():
    """What the calibrated interval is for; were this to fail, the docstring would be wrong."""
    drawn = [stopped(one_stage, Settings(relative_error=0.1), row) for row in samples("hutchinson")]
    assert 0.88 < covered([estimate(d) for d in drawn]) < 0.925


# The interval itself


def test_halls_interval_is_the_inverse_of_his_transformation():
    values = gamma(1.5).rvs(40, random_state=0).tolist()
    found, n = skewed(values), len(values)
    mean, se = float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(n)
    a = float(skew(values, bias=False)) / math.sqrt(n)
    assert found["skewness"] == pytest.approx(a)

    def transformed(truth):
        x = (mean - truth) / se
        return x + a * x**2 / 3 + a**2 * x**3 / 27 + a / 6

    q = float(t.ppf(0.975, n - 1))
    assert transformed(found["low"]) == pytest.approx(q) and transformed(found["high"]) == pytest.approx(-q)
    assert found["high"] - mean > 1.2 * (mean - found["low"]), "skewed to the right: more room above"
    assert {k: found[k] for k in ("mean", "sd", "se", "n")} == {k: estimate(values)[k] for k in ("mean", "sd", "se", "n")}


def test_symmetric_values_have_students_interval():
    values = [1.0, 2.0, 3.0, 4.0, 5.0]
    found, plain = skewed(values), estimate(values)
    assert found == plain | {"skewness": pytest.approx(0)}
    assert skewed([2.0] * 4) == estimate([2.0] * 4) | {"skewness": 0.0}


def test_means_over_copies_are_less_skewed():
    groups = [gamma(1.0).rvs(n, random_state=n).tolist() for n in (30, 40, 50)]
    parts = [skewed(g) for g in groups]
    found, plain = pooled(parts), combined([estimate(g) for g in groups])
    # The third cumulant of a mean of independent means, over its standard error cubed.
    third = sum(float(skew(g, bias=False)) * float(np.std(g, ddof=1)) ** 3 / len(g) ** 2 for g in groups) / 3**3
    assert found["skewness"] == pytest.approx(third / found["se"] ** 3)
    assert 0 < found["skewness"] < min(p["skewness"] for p in parts)
    assert {k: found[k] for k in ("mean", "sd", "se", "n")} == {k: plain[k] for k in ("mean", "sd", "se", "n")}
    assert found["low"] > plain["low"] and found["high"] > plain["high"]
    assert pooled([parts[0]])["high"] == pytest.approx(parts[0]["high"])
    assert pooled([{**parts[0], "skewness": 0.0}])["high"] == pytest.approx(estimate(groups[0])["high"])
    assert "skewness" not in pooled([estimate(g) for g in groups])


# Hutch++ and two stages, in the analysis


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("interval", ["student", "calibrated"])
def test_hutchpp_converges_to_the_truth(kind, interval):
    s = scene(kind)
    settings = Settings(method="hutch++", sketch=6, interval=interval, probes_max=120, relative_error=1e-9)
    one = curvature.measure(settings, copies_of(s.model, [s.state], [s.mask], s.examples, STREAMS)).numbers["copies"][0]
    diagonal = s.hessian.diagonal()
    truths = {"trace": diagonal.sum(), "invariant": (s.weights**2 * diagonal).sum()}
    pairs = [(one[k], float(v)) for k, v in truths.items()]
    pairs += [(one["layers"][n]["trace"], v) for n, v in s.by_layer(diagonal).items()]
    for held, truth in pairs:
        assert abs(held["mean"] - truth) < 4 * held["se"]
    assert one["trace"]["mean"] == pytest.approx(sum(layer["trace"]["mean"] for layer in one["layers"].values()))
    pilot = 16 if interval == "calibrated" else 0
    assert one["probes"] == 120 - pilot == one["trace"]["n"] and one["stopped"] == "cap"
    assert one["sketch"] == 12 and one.get("pilot", 0) == pilot and one["products"] == 132
    plain = Settings(probes_max=120, relative_error=1e-9)
    other = curvature.measure(plain, copies_of(s.model, [s.state], [s.mask], s.examples, STREAMS)).numbers["copies"][0]
    assert one["trace"]["se"] < 0.65 * other["trace"]["se"] and "products" not in other


def test_a_pilot_decides_and_is_forgotten():
    s = scene("lenet")
    settings = Settings(interval="calibrated", probes_max=400, relative_error=0.1)
    one = curvature.measure(settings, copies_of(s.model, [s.state], [s.mask], s.examples, STREAMS)).numbers["copies"][0]
    products = curvature.Products(s.model, s.state, s.mask, s.examples)
    drawn = products.probes([STREAMS("curvature", "probe", copy=0, index=i) for i in range(400)])
    values = products.quadratics(drawn)[:, :-1].sum(1)
    pilot = values[:16]
    asked = max(32, math.ceil(float(pilot.var() / (0.1 * pilot.mean()) ** 2)))
    assert 32 < asked < 384, "neither bound is seen"
    assert one["probes"] == asked and one["stopped"] == "relative error" and one["products"] == asked + 16
    fresh = values[16 : 16 + asked]
    assert one["trace"]["mean"] == pytest.approx(float(fresh.mean()))
    assert one["trace"]["se"] == pytest.approx(float(fresh.std()) / math.sqrt(asked))
    fewer = Settings(interval="calibrated", probes_max=16 + asked - 1, relative_error=0.1)
    one = curvature.measure(fewer, copies_of(s.model, [s.state], [s.mask], s.examples, STREAMS)).numbers["copies"][0]
    assert one["probes"] == asked - 1 and one["stopped"] == "cap"


def test_calibrated_copies_are_pooled():
    s = scene("lenet")
    settings = Settings(interval="calibrated", method="hutch++", sketch=2, probes_max=48)
    other = s.mask.apply({n: 1.1 * v for n, v in s.state.items()})
    found = curvature.measure(settings, copies_of(s.model, [s.state, other], [s.mask] * 2, s.examples, STREAMS)).numbers
    for key in ("trace", "invariant", "trace_per_weight"):
        assert found[key] == pooled([c[key] for c in found["copies"]])
    one = found["copies"][0]
    assert one["trace_per_weight"]["skewness"] == one["trace"]["skewness"]
    assert one["trace_per_weight"]["high"] == pytest.approx(one["trace"]["high"] / s.mask.remaining)
    name = s.model.prunable[0]
    assert found["layers"][name]["trace"] == pooled([c["layers"][name]["trace"] for c in found["copies"]])


@pytest.mark.parametrize(
    ("values", "stops", "count"),
    [([0.0] * 60, "relative error", 32), ([1.0, -1.0] * 100, "cap", 184), ([3.0] * 60, "relative error", 32)],
)
def test_pilots_without_a_mean_or_a_spread(values, stops, count):
    settings = Settings(interval="calibrated")
    held, why = two_stages(settings, lambda begin, end: [torch.tensor([x, 0.0]) for x in (values * 4)[begin:end]])
    assert (why, len(held)) == (stops, count)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"interval": "calibrated", "probes_max": 40}, "pilot of probes_min 16 and 32 fresh probes: got 40: at least 48"),
        ({"interval": "calibrated", "method": "xtrace"}, "interval: a calibrated interval is of independent probes"),
        ({"method": "xtrace", "probes_max": 8}, "greater than or equal to 16"),
        ({"method": "xtrace", "sketch": 5}, "sketch: it belongs to method hutch\\+\\+, and the method is xtrace"),
        ({"sketch": 5}, "sketch: it belongs to method hutch\\+\\+, and the method is hutchinson"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Settings(**settings)


def test_old_settings_keep_their_keys():
    from distill_prune.settings import canonical

    assert canonical(Settings()).keys() == {"name", "rows", "probes_min", "probes_max", "relative_error", "check_every"}
