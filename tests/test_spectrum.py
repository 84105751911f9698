"""Eigenvalues, eigenvectors and density beside the whole Hessian's."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest
import torch
from reference_curvature import NETS, STREAMS, Dense, scene
from reference_inputs import copies_of
from scipy.special import ndtr

from distill_prune.analyze import lanczos, spectrum
from distill_prune.analyze.lanczos import quadratures
from distill_prune.analyze.spectrum import Settings, Spectrum, leading, measure
from distill_prune.artifacts import Examples, Mask
from distill_prune.errors import RunError, UserError


def measured(s, **settings):
    chosen = Settings(**{"eigenvalues": 5, "tolerance": 1e-8, "starts": 12, "steps": 20, **settings})
    return measure(chosen, copies_of(s.model, [s.state], [s.mask], s.examples, STREAMS)).numbers


@cache
def copy_of(kind):
    """The one copy's numbers, which several tests look at."""
    return measured(scene(kind))["copies"][0]


def matrix_of(size, seed=0):
    root = torch.randn(size, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return (root + root.mT) / 2


@pytest.mark.parametrize("kind", NETS)
def test_eigenpairs_are_those_of_the_whole_matrix(kind):
    s = scene(kind)
    one = copy_of(kind)
    values, vectors = torch.linalg.eigh(s.hessian)
    for i, found in enumerate(one["eigenvalues"]):
        value, vector = float(values[-1 - i]), vectors[:, -1 - i]
        assert found["residual"] < 1e-7
        assert abs(found["value"] - value) <= found["residual"] * abs(value) + 1e-12
        gap = min(abs(float(v) - value) for j, v in enumerate(values) if j != len(values) - 1 - i)
        assert gap > 1e-3, "the eigenvector is not determined"
        assert found["layers"] == pytest.approx(s.by_layer(vector**2), abs=1e-6)
        assert sum(found["layers"].values()) == pytest.approx(1)
        assert found["participation"] == pytest.approx(1 / (len(values) * float((vector**4).sum())), rel=1e-5)
    assert one["survivors"] == len(values) == s.mask.remaining


def test_residuals_are_those_of_the_vectors_found():
    """A coarse tolerance shows in the residual, and the residual bounds the eigenvalue's error."""
    matrix = matrix_of(60)
    truth = torch.linalg.eigvalsh(matrix).flip(0)[:3]
    found, vectors = leading(lambda v: v @ matrix, torch.ones(60, dtype=torch.float64), 3, 0.05, "copy 0")
    torch.testing.assert_close(vectors @ vectors.mT, torch.eye(3, dtype=torch.float64))
    residuals = (vectors @ matrix - found[:, None] * vectors).norm(dim=1)
    assert bool((residuals > 1e-12).any()) and bool(((found - truth).abs() <= residuals + 1e-12).all())
    s = scene("lenet")
    coarse, fine = (measured(s, tolerance=t)["copies"][0]["eigenvalues"][-1]["residual"] for t in (0.3, 1e-10))
    assert fine < 1e-9 < coarse < 0.6


def test_participation_of_one_and_of_all():
    """Eigenvectors of a diagonal matrix are single entries; a constant one takes all."""
    found, vectors = leading(lambda v: v * torch.arange(1.0, 9.0).double(), torch.ones(8, dtype=torch.float64), 2, 1e-10, "")
    assert found.tolist() == pytest.approx([8, 7]) and float(vectors[0].pow(4).sum()) == pytest.approx(1)


@pytest.mark.parametrize("kind", NETS)
def test_moments_are_those_of_the_whole_matrix(kind):
    s = scene(kind)
    one = copy_of(kind)
    values = torch.linalg.eigvalsh(s.hessian)
    for name, power in (("first", 1), ("second", 2)):
        held, truth = one["moments"][name], float((values**power).mean())
        assert held["n"] == 12 and abs(held["mean"] - truth) < 4 * held["se"]
        assert held["se"] < 0.25 * float((values**power).abs().mean()), "an error that says nothing"
    share = float((values < -1e-5 * values.abs().max()).double().mean())
    low, high = one["negative_bounds"]
    slack = 4 * one["negative"]["se"]
    assert low <= one["negative"]["mean"] <= high and 0.05 < share < 0.95 and low - slack < share < high + slack
    held, truth = one["negative_curvature"], float((-values).clamp(min=0).sum() / values.abs().sum())
    assert abs(held["mean"] - truth) < 4 * held["se"] + 0.005 and truth > 0.01


@pytest.mark.parametrize("kind", NETS)
def test_density_is_that_of_the_whole_matrix(kind, monkeypatch):
    """Its distribution function, at every point of the grid, and its mass; its errors are those of its values. The products
    are those of the matrix, which is quicker."""
    s = scene(kind)
    monkeypatch.setattr(spectrum, "Products", lambda *_: Dense(s.hessian))
    (one,) = measured(s, starts=30, steps=40, broadening=0.03)["copies"]
    grid, held, errors, sigma = (np.array(one["density"][k]) for k in ("grid", "values", "errors", "sigma"))
    values = torch.linalg.eigvalsh(s.hessian).numpy()
    step = grid[1] - grid[0]
    assert sigma == pytest.approx(0.03 * (values[-1] - values[0]), rel=0.02) and step == pytest.approx(sigma / 2, rel=0.02)
    assert float(held.sum() * step) == pytest.approx(1, abs=1e-4)
    assert float((grid * held).sum() * step) == pytest.approx(one["moments"]["first"]["mean"], abs=1e-4 * values[-1])
    truth = ndtr((grid[:, None] - values) / sigma).mean(1)
    distribution = np.cumsum(held) * step - held * step / 2
    assert np.abs(distribution - truth).max() < 0.05
    density = np.exp(-0.5 * ((grid[:, None] - values) / sigma) ** 2).mean(1) / (sigma * math.sqrt(2 * math.pi))
    assert np.mean(np.abs(held - density) <= 3 * errors + 1e-9) > 0.95 and errors.max() < 0.3 * held.max()


@pytest.mark.parametrize("at", [-0.7, 0.0, 1e-9, 1.3])
def test_bounds_of_a_share_hold(at):
    """For one direction they hold with certainty, wherever the step is and whatever lies on it."""
    vectors = torch.linalg.qr(matrix_of(40, 1))[0]
    values = torch.cat([torch.zeros(15).double(), torch.linalg.eigvalsh(matrix_of(25))])
    matrix = vectors @ torch.diag(values) @ vectors.mT
    start = matrix_of(40, 2)[:1]
    truth = float(((vectors.mT @ start[0])[values < at - 1e-12] ** 2).sum() / (start**2).sum())
    known, none = torch.zeros(0, dtype=torch.float64), torch.zeros(0, 40, dtype=torch.float64)
    widths = []
    for steps in (4, 10, 20):
        seen = quadratures(lambda v: v @ matrix, start, steps, none)
        low, high = Spectrum(known, [(nodes, 40 * weights) for nodes, weights in seen], 40).below(at)
        assert low - 1e-9 <= truth <= high + 1e-9
        widths.append(high - low)
    assert widths[0] < 1 and widths[-1] < widths[0]


def test_densities_errors_are_their_spread():
    seen = [(torch.tensor([0.0, 1.0]).double(), torch.tensor([a, 3 - a]).double()) for a in (1.0, 2.0, 1.5)]
    found = Spectrum(torch.tensor([4.0]).double(), seen, 4)
    mean = found.mean(lambda x: x)
    assert mean["mean"] == pytest.approx((4 + 1.5) / 4) and mean["sd"] == pytest.approx(0.5 / 4)
    density = found.density(0.05)
    at = int(np.argmin(np.abs(np.array(density["grid"]))))
    height = math.exp(-0.5 * (density["grid"][at] / 0.2) ** 2) / (0.2 * math.sqrt(2 * math.pi))
    assert density["sigma"] == pytest.approx(0.2)
    assert density["values"][at] == pytest.approx(1.5 / 4 * height, rel=1e-4)
    assert density["errors"][at] == pytest.approx(0.5 / math.sqrt(3) / 4 * height, rel=1e-4)


# Lanczos quadrature


def exact_moments(matrix, start, powers):
    start = start / start.norm()
    return [float(start @ torch.linalg.matrix_power(matrix, p) @ start) for p in powers]


def test_quadrature_is_exact_for_low_degrees():
    matrix, none = matrix_of(30), torch.zeros(0, 30, dtype=torch.float64)
    starts = torch.randn(3, 30, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for (nodes, weights), start in zip(quadratures(lambda v: v @ matrix, starts, 4, none), starts, strict=True):
        found = [float(weights @ nodes**p) for p in range(9)]
        truth = exact_moments(matrix, start, range(9))
        assert found[:8] == pytest.approx(truth[:8]) and found[8] != pytest.approx(truth[8], rel=1e-3)


def test_all_steps_find_all_eigenvalues():
    """Without reorthogonalisation some would come twice."""
    matrix, none = matrix_of(50) ** 3, torch.zeros(0, 50, dtype=torch.float64)
    ((nodes, weights),) = quadratures(lambda v: v @ matrix, torch.ones(1, 50, dtype=torch.float64), 200, none)
    values, vectors = torch.linalg.eigh(matrix)
    torch.testing.assert_close(nodes, values)
    torch.testing.assert_close(weights, vectors.sum(0) ** 2 / 50)


def test_what_is_outside_is_left_out():
    """Vectors that are no eigenvectors: what is left is the matrix in a basis of their complement."""
    matrix, basis = matrix_of(20), torch.linalg.qr(matrix_of(20, 1))[0]
    outside, inside = basis[:, :4].mT, basis[:, 4:]
    start = torch.ones(1, 20, dtype=torch.float64)
    start = start - start @ outside.mT @ outside
    ((nodes, _),) = quadratures(lambda v: v @ matrix, start, 99, outside)
    torch.testing.assert_close(nodes, torch.linalg.eigvalsh(inside.mT @ matrix @ inside))


def test_exhausted_spaces_end_early():
    """Two different eigenvalues: after two steps there is nothing new; other starts go on."""
    matrix = torch.diag(torch.tensor([1.0, 1, 5, 5, 2, 3]).double())
    starts = torch.tensor([[1.0, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [0, 0, 2, 0, 0, 0]]).double()
    found = quadratures(lambda v: v @ matrix, starts, 6, torch.zeros(0, 6, dtype=torch.float64))
    assert [nodes.tolist() for nodes, _ in found] == [pytest.approx([1, 5]), pytest.approx([1, 2, 3, 5]), [5]]
    assert found[0][1].tolist() == pytest.approx([0.5, 0.5])


def test_starts_share_products(monkeypatch):
    matrix, calls = matrix_of(12), []

    def times(rows):
        calls.append(len(rows))
        return rows @ matrix

    starts, none = torch.eye(12, dtype=torch.float64)[:5], torch.zeros(0, 12, dtype=torch.float64)
    together = quadratures(times, starts, 3, none)
    assert calls == [5, 5, 5]
    monkeypatch.setattr(lanczos, "GROUP_BYTES", 2 * 8 * 12 * 3)
    apart = quadratures(times, starts, 3, none)
    assert calls[3:] == [2] * 6 + [1] * 3
    for a, b in zip(together, apart, strict=True):
        torch.testing.assert_close(a, b)


# The analysis


def test_copies_and_their_estimates():
    s = scene("lenet")
    other = s.mask.apply({n: 1.1 * t for n, t in s.state.items()})
    arguments = (s.model, [s.state, other], [s.mask] * 2, s.examples, STREAMS)
    both = measure(Settings(copies=5, eigenvalues=6, steps=8), copies_of(*arguments)).numbers
    assert [c["copy"] for c in both["copies"]] == [0, 1]
    values = [[e["value"] for e in c["eigenvalues"]] for c in both["copies"]]
    assert all(v == sorted(v, reverse=True) for v in values)
    assert both["top"]["mean"] == pytest.approx(sum(v[0] for v in values) / 2) and both["top"]["n"] == 2
    assert both["ratio"]["mean"] == pytest.approx(sum(v[0] / v[4] for v in values) / 2)
    for key in ("negative", "negative_curvature"):
        shares = [c[key] for c in both["copies"]]
        assert both[key]["mean"] == pytest.approx((shares[0]["mean"] + shares[1]["mean"]) / 2)
        assert both[key]["se"] == pytest.approx(math.hypot(shares[0]["se"], shares[1]["se"]) / 2)
    one = measure(Settings(eigenvalues=6, steps=8), copies_of(*arguments)).numbers
    assert one["copies"] == both["copies"][:1] and one["top"]["n"] == 1 and one["top"]["se"] is None
    few = measure(Settings(eigenvalues=4, steps=8), copies_of(*arguments)).numbers
    assert few["ratio"] is None


def test_zero_eigenvalues_are_not_negative():
    """A network whose last layer is zero but for one weight has many eigenvalues that are zero but for rounding."""
    s = scene("lenet")
    state = {n: t.float() for n, t in s.state.items()}
    state[s.model.prunable[0]] = torch.zeros_like(state[s.model.prunable[0]])
    state["1.bias"] = -torch.ones_like(state["1.bias"])
    examples = Examples(s.examples.x.float(), s.examples.y)
    one = measure(Settings(eigenvalues=2), copies_of(s.model, [state], [s.mask], examples, STREAMS)).numbers["copies"][0]
    assert one["negative"]["mean"] < 0.02 and one["negative_curvature"]["mean"] < 1e-3
    assert one["moments"]["first"]["mean"] >= 0


def test_repeats_are_equal_and_products_are_counted():
    s = scene("group")
    assert measured(s, steps=10) == measured(s, steps=10)
    ticks = []

    class Counting:
        def tick(self, done, total, note=""):
            ticks.append((done, total, note))

    found = measure(
        Settings(eigenvalues=3, starts=2, steps=7), copies_of(s.model, [s.state], [s.mask], s.examples, STREAMS, Counting())
    )
    done = [d for d, _, _ in ticks]
    assert done == sorted(done) and ticks[-1][0] <= ticks[-1][1] == 3 * 11 + 14 and ticks[0][2] == "copy 0"
    assert found.numbers["copies"][0]["products"] > 14 + 3


def test_more_eigenvalues_than_weights_are_refused():
    s = scene("lenet")
    kept = {n: torch.zeros_like(t) for n, t in s.mask.kept.items()}
    kept[s.model.prunable[-1]].view(-1)[:4] = True
    few = Mask(kept)
    arguments = (s.model, [few.apply(s.state)], [few], s.examples, STREAMS)
    with pytest.raises(
        UserError, match=r"(?s)copy 0 has no 4 leading eigenvalues.*4 surviving.*more than .*eigenvalues, 4.*fix"
    ):
        measure(Settings(eigenvalues=4), copies_of(*arguments))
    assert len(measure(Settings(eigenvalues=3), copies_of(*arguments)).numbers["copies"][0]["eigenvalues"]) == 3


def test_a_basis_beyond_the_memory_is_refused_before_any_product(monkeypatch):
    s = scene("lenet")
    size = s.mask.remaining
    monkeypatch.setattr(spectrum, "leading", None)  # would fail if it were called
    message = rf"(?s)copy 0 takes more memory.*{size} surviving weights and 21 steps.*compare.spectrum.steps of at most 20,"
    with pytest.raises(UserError, match=message):
        measured(s, steps=21, memory_gb=8 * size * 20.5 / 1e9)
    monkeypatch.undo()
    assert measured(s, steps=20, memory_gb=8 * size * 20.5 / 1e9) == measured(s, steps=20)
    assert Settings(memory_gb=4.0).identity() == Settings().identity()


def test_eigenvalues_that_are_not_found_are_said(monkeypatch):
    monkeypatch.setattr(spectrum, "RESTARTS", 1)
    matrix = matrix_of(200)
    with pytest.raises(RunError, match=r"(?s)eigenvalues of copy 2 were not found.*of 9 within 1 restarts.*tolerance"):
        leading(lambda v: v @ matrix, torch.ones(200, dtype=torch.float64), 9, 1e-12, "copy 2")
