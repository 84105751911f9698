"""XTrace, against leave-one-out by hand: a sketch of all vectors but one, computed anew for each."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
import torch
from reference_curvature import NETS, STREAMS, Dense, scene, signs, trained_hessian
from reference_inputs import copies_of

from distill_prune.analyze import curvature
from distill_prune.analyze.curvature import Settings
from distill_prune.analyze.estimate import estimate
from distill_prune.analyze.xtrace import XTrace
from distill_prune.errors import RunError


def one_left_out(matrix, w):
    """Each vector's estimate of the diagonal, with projectors as whole matrices; w (s, n)."""
    estimates = []
    for i in range(len(w)):
        others = torch.cat([w[:i], w[i + 1 :]])
        directions, sizes, _ = torch.linalg.svd((others @ matrix).T, full_matrices=False)
        basis = directions[:, sizes > 1e-10 * sizes[0]]
        inside = basis @ basis.T
        outside = torch.eye(len(matrix), dtype=matrix.dtype) - inside
        known = inside @ matrix + matrix @ inside - inside @ matrix @ inside
        estimates.append(known.diagonal() + w[i] * (outside @ matrix @ outside @ w[i]))
    return torch.stack(estimates)


def matrix_of(kind):
    generator = torch.Generator().manual_seed(2)
    q, _ = torch.linalg.qr(torch.randn(40, 40, dtype=torch.float64, generator=generator))
    spectrum = torch.linspace(-1, 4, 40, dtype=torch.float64)
    if kind == "low rank":
        spectrum[5:] = 0
    whole = q * spectrum @ q.T
    if kind == "one in no span":  # one vector alone reaches the last direction
        whole = torch.zeros(40, 40, dtype=torch.float64)
        whole[:3, :3] = torch.diag(torch.tensor([1.0, 2.0, -3.0], dtype=torch.float64))
    return (whole + whole.T) / 2


@pytest.mark.parametrize("steps", [(9,), (2, 3, 4), (1, 8)])
@pytest.mark.parametrize("kind", ["full", "low rank", "one in no span"])
def test_estimates_are_those_of_one_left_out(kind, steps):
    matrix, w = matrix_of(kind), signs(np.random.default_rng(1), 9, 40)
    if kind == "one in no span":
        w[:8, 2] = w[:8, 1]  # in the range of the matrix, only the last vector tells the two apart
        w[8, 2] = -w[8, 1]
    trace = XTrace(Dense(matrix))
    for part in w.split(steps):
        trace.add(part)
    found, by_hand = trace.diagonals(), one_left_out(matrix, w)
    torch.testing.assert_close(found, by_hand, rtol=1e-8, atol=1e-10)
    rank = int(torch.linalg.matrix_rank(matrix))
    assert trace.taken == 9 + min(9, rank)
    if kind == "low rank":
        torch.testing.assert_close(found, matrix.diagonal().expand(9, -1))  # eight vectors hold five directions


def test_enough_vectors_know_the_whole_matrix():
    matrix = matrix_of("full")[:6, :6]
    trace = XTrace(Dense(matrix))
    trace.add(signs(np.random.default_rng(0), 12, 6))
    torch.testing.assert_close(trace.diagonals(), matrix.diagonal().expand(12, -1))
    assert trace.taken == 12 + 6


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_products_are_refused(count):
    trace = XTrace(Dense(matrix_of("full")))
    if count:
        trace.add(signs(np.random.default_rng(0), count, 40))
    with pytest.raises(RunError, match=f"(?s)xtrace has too few products.*{count} random directions.*2 or more"):
        trace.diagonals()


# The estimate of the analysis


@pytest.mark.parametrize("kind", NETS)
def test_numbers_are_near_the_truth_and_nearer_than_hutchinsons(kind):
    s = scene(kind)
    settings = Settings(method="xtrace", probes_min=16, probes_max=32, relative_error=1e-9)
    one = curvature.measure(settings, copies_of(s.model, [s.state], [s.mask], s.examples, STREAMS)).numbers["copies"][0]
    diagonal = s.hessian.diagonal()
    truths = {"trace": diagonal.sum(), "invariant": (s.weights**2 * diagonal).sum()}
    pairs = [(one[k], float(v)) for k, v in truths.items()]
    pairs += [(one["layers"][n]["trace"], v) for n, v in s.by_layer(diagonal).items()]
    for held, truth in pairs:
        assert abs(held["mean"] - truth) < 5 * held["se"] + 1e-9
    assert one["trace"]["mean"] == pytest.approx(sum(layer["trace"]["mean"] for layer in one["layers"].values()))
    assert one["probes"] == 32 == one["trace"]["n"] and one["stopped"] == "cap" and one["products"] <= 64
    plain = Settings(probes_max=64, relative_error=1e-9)
    other = curvature.measure(plain, copies_of(s.model, [s.state], [s.mask], s.examples, STREAMS)).numbers["copies"][0]
    assert one["trace"]["se"] < 0.65 * other["trace"]["se"]


def test_vectors_are_added_until_their_own_error_is_small():
    s = scene("lenet")
    settings = Settings(method="xtrace", relative_error=0.02, check_every=4)
    one = curvature.measure(settings, copies_of(s.model, [s.state], [s.mask], s.examples, STREAMS)).numbers["copies"][0]
    products = curvature.Products(s.model, s.state, s.mask, s.examples)
    w = products.signs([STREAMS("curvature", "probe", copy=0, index=i) for i in range(one["probes"])])
    by_hand = estimate(one_left_out(s.hessian, w).sum(1).tolist())
    assert one["trace"]["mean"] == pytest.approx(by_hand["mean"]) and one["trace"]["se"] == pytest.approx(
        by_hand["se"], rel=1e-6
    )
    assert one["stopped"] == "relative error" and by_hand["se"] <= 0.02 * by_hand["mean"] and one["probes"] < 200


@cache
def repeats(count, times):
    """Estimates by `count` vectors of the hard matrix of test_trace_coverage."""
    rng, matrix, made = np.random.default_rng(4), trained_hessian(), []
    for _ in range(times):
        trace = XTrace(Dense(matrix))
        trace.add(signs(rng, count, len(matrix)))
        made.append(estimate(trace.diagonals().sum(1).tolist()))
    return made


def test_it_is_unbiased_and_far_closer_than_hutchinson_at_equal_products():
    matrix, made = trained_hessian(), repeats(16, 300)
    means = np.array([e["mean"] for e in made])
    assert abs(means.mean() - float(matrix.trace())) < 3.5 * means.std() / len(means) ** 0.5
    beside = matrix - torch.diag(matrix.diagonal())
    hutchinson = (2 * float((beside**2).sum()) / 32) ** 0.5
    assert means.std() < hutchinson / 5


def test_students_intervals_hold_the_truth_in_nine_cases_of_ten():
    """Its estimates are not quite uncorrelated; were this to fail, the table of probing.py would be wrong."""
    truth = float(trained_hessian().trace())
    assert 0.825 < sum(e["low"] <= truth <= e["high"] for e in repeats(16, 300)) / 300 < 0.945
