"""Barriers where the truth is known: convex and two-well losses, scaled batch-norm networks, identical copies."""

from __future__ import annotations

import pytest
import torch
from reference_analyze import examples_of, state_of, tiny
from reference_lines import STREAMS, at, bowl, measured, norm_batches, of_class_0, weights, wells, written
from torch import nn

from distill_prune.analyze.line import CURVES, Gauge, RowSettings, excess, line_of
from distill_prune.artifacts import Mask
from distill_prune.models import Model
from distill_prune.progress import SILENT
from distill_prune.tree import lerp

LOSSES = ("test_loss", "train_loss")


def line(loss, a, b, points):
    return measured(
        "connectivity", written(loss, len(a)), [weights(*a), weights(*b)], of_class_0(), of_class_0(2), points=points
    )


def loss_at(loss, *w):
    return float(loss(torch.tensor(w, dtype=torch.float64))) + 1


@pytest.mark.parametrize("points", [2, 3, 30])
def test_a_convex_quadratic_has_a_barrier_of_half_the_ends_difference(points):
    loss, a, b = bowl(4), (1.0, -2.0, 0.5, 3.0), (-0.5, 0.25, 2.0, -1.0)
    numbers = line(loss, a, b, points)
    ends = loss_at(loss, *a), loss_at(loss, *b)
    assert abs(ends[0] - ends[1]) > 1
    for curve in LOSSES:
        assert numbers["curves"][curve][0] == pytest.approx(ends[0], rel=1e-13)
        assert numbers["barrier"][curve]["mean"] == pytest.approx(abs(ends[0] - ends[1]) / 2, rel=1e-12)
        assert numbers["excess"][curve]["mean"] == 0


def test_a_convex_quadratic_with_equal_ends_has_none():
    numbers = line(lambda w: (w * torch.arange(1.0, 4, dtype=torch.float64) * w).sum(), (1.0, -2.0, 0.5), (-1.0, 2.0, -0.5), 30)
    for curve in LOSSES:
        assert numbers["barrier"][curve]["mean"] == 0 and numbers["excess"][curve]["mean"] == 0
        assert min(numbers["curves"][curve]) < numbers["curves"][curve][0] - 5, "the line must cross a valley"


def test_two_wells_are_as_high_as_the_grid_reaches():
    """alpha = 1/2 is on the grid of odd counts; the nearest of n even points lies at w = 1 / (n - 1)."""
    short = []
    for points in (4, 8, 16, 30, 64):
        numbers = line(wells, (-1.0, 0.0), (1.0, 0.0), points)
        top = (1 - 1 / (points - 1) ** 2) ** 2
        for curve in LOSSES:
            assert numbers["barrier"][curve]["mean"] == pytest.approx(top, rel=1e-12)
            assert numbers["excess"][curve]["mean"] == pytest.approx(top, rel=1e-12)
        short.append((1 - numbers["barrier"]["test_loss"]["mean"]) * (points - 1) ** 2)
    assert line(wells, (-1.0, 0.0), (1.0, 0.0), 31)["barrier"]["test_loss"]["mean"] == pytest.approx(1, rel=1e-13)
    # What is missing falls with the square of the spacing: it tends to 2 / (n - 1)^2.
    assert short == sorted(short) and short[-1] == pytest.approx(2, rel=1e-3)


def test_a_slope_adds_to_the_barrier_and_not_to_the_excess():
    numbers = line(lambda w: wells(w) + 0.4 * w[0] + 1, (-1.0, 0.0), (1.0, 0.0), 31)
    grid = [-1 + i / 15 for i in range(31)]
    top = max((w**2 - 1) ** 2 + 0.4 * w for w in grid)  # the mean of the ends is 0 but for the constant
    assert numbers["barrier"]["test_loss"]["mean"] == pytest.approx(top, rel=1e-12)
    assert top > 1.01 and numbers["excess"]["test_loss"]["mean"] == pytest.approx(1, rel=1e-12)


def test_three_copies_in_a_bowl_share_the_mean_of_their_pairs():
    loss = bowl(2)
    copies = [weights(1.0, 0.0), weights(0.0, 2.0), weights(-3.0, 1.0)]
    numbers = measured("connectivity", written(loss, 2), copies, of_class_0(), of_class_0(), points=5)
    ends = [loss_at(loss, *c["weight"][0].tolist()) for c in copies]
    halves = [abs(ends[i] - ends[j]) / 2 for i, j in ((0, 1), (0, 2), (1, 2))]
    assert [p["barrier"]["test_loss"] for p in numbers["pairs"]] == pytest.approx(halves)
    assert numbers["barrier"]["test_loss"]["mean"] == pytest.approx(sum(halves) / 3)


# identical copies


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["instance", "batch", "none"])
@pytest.mark.parametrize("name", ["connectivity", "layerwise", "between"])
def test_identical_copies_have_exactly_no_barrier(name, kind, dtype):
    model = tiny(kind)
    copy = {n: t.to(dtype) if t.is_floating_point() else t for n, t in state_of(model, 0).items()}
    train, test = (type(e)(e.x.to(dtype), e.y) for e in (examples_of(model, 30, 1), examples_of(model, 23, 2)))
    twins = [{n: t.clone() for n, t in copy.items()} for _ in range(3)]
    numbers = measured(name, model, twins, train, test, points=7, norm_rows=20, norm_batch=10)
    whole = list(numbers["layers"].values()) if name == "layerwise" else [numbers]
    assert whole
    for found in whole:
        assert found["distance"]["mean"] == 0
        for curve in CURVES:
            assert found["barrier"][curve]["mean"] == 0 and found["excess"][curve]["mean"] == 0
    lines = [p["curves"] for p in numbers["pairs"]] if name != "layerwise" else []
    assert all(len(set(c[curve])) == 1 for c in lines for curve in CURVES)


def test_a_constant_curve_has_no_excess_however_it_rounds():
    value, alphas = 2.2798194885253906 / 3, line_of(30)
    assert any(value > (1 - a) * value + a * value for a in alphas), "the chord must round for the test to mean anything"
    assert excess([value] * 30, alphas) == 0


# batch norm


def scaled() -> Model:
    """A linear layer under batch norm: the function does not depend on the layer's scale where statistics are its own."""

    def build() -> nn.Module:
        return nn.Sequential(
            nn.Flatten(), nn.Linear(16, 6, bias=False), nn.BatchNorm1d(6, eps=1e-12), nn.Tanh(), nn.Linear(6, 3)
        )

    return Model(build, (1, 4, 4), 3, "scaled")


def test_rescaled_copies_are_one_network_only_where_statistics_are_measured_anew():
    model = scaled()
    a = state_of(model, 0)
    train, test = examples_of(model, 60, 1), examples_of(model, 40, 2)
    pre = train.x.flatten(1) @ a["1.weight"].T
    a |= {"2.running_mean": pre.mean(0), "2.running_var": pre.var(0)}
    b = a | {"1.weight": 5 * a["1.weight"], "2.running_mean": 5 * pre.mean(0), "2.running_var": 25 * pre.var(0)}
    alphas = line_of(9)
    gauge = Gauge.over(RowSettings(name="x", norm_rows=60, norm_batch=60), model, a, train, test, STREAMS)
    new = gauge.line(a, b, alphas, SILENT, "copies")
    for curve in LOSSES:
        assert new[curve] == pytest.approx([new[curve][0]] * 9, rel=1e-8)
    # Without that, variances are mixed while scales are: what comes out of the norm is (1 - x + 5 x) / sqrt(1 - x + 25 x)
    # of what it should be.
    stale = Gauge(model, gauge.parts, dict, {}).line(a, b, alphas, SILENT, "copies")["train_loss"]
    normed = (pre - pre.mean(0)) / pre.var(0).sqrt()
    for alpha, loss in zip(alphas, stale, strict=True):
        shrunk = (1 + 4 * alpha) / (1 + 24 * alpha) ** 0.5
        hidden = torch.tanh(shrunk * normed * a["2.weight"] + a["2.bias"])
        logits = hidden @ a["4.weight"].T + a["4.bias"]
        assert loss == pytest.approx(float(nn.functional.cross_entropy(logits, train.y)), rel=1e-8)
    assert max(abs(loss - new["train_loss"][0]) for loss in stale) > 5e-3, "the test cannot tell old statistics from new"


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_statistics_are_those_of_a_fresh_pass_at_the_ends_too(alpha):
    model = tiny("batch")
    a, b = state_of(model, 0), state_of(model, 1)
    train, test = examples_of(model, 40, 1), examples_of(model, 20, 2)
    gauge = Gauge.over(RowSettings(name="x", norm_rows=33, norm_batch=10), model, a, train, test, STREAMS)
    batches = norm_batches(train, 30, 10)
    state = lerp(a, b, alpha)
    module = model.instance(state)
    torch.optim.swa_utils.update_bn(batches, module)
    found = gauge.renew(state)
    for name in ("1.running_mean", "1.running_var"):
        assert torch.allclose(found[name], module.state_dict()[name], rtol=1e-12, atol=1e-14)
        assert not torch.allclose(found[name], state[name], rtol=1e-3)
    by_hand = nn.functional.conv2d(torch.cat(batches), found["0.weight"], found["0.bias"], padding=1)
    assert torch.allclose(found["1.running_mean"], by_hand.mean((0, 2, 3)))
    curve = gauge.line(a, b, [0.0, alpha], SILENT, "copies")["test_loss"]
    assert curve == pytest.approx([at(model, lerp(a, b, x), test, batches)[1] for x in (0.0, alpha)])


def test_the_renewed_state_says_nothing_of_the_states_before_it():
    model = tiny("batch")
    a, b = state_of(model, 0), state_of(model, 1)
    train, test = examples_of(model, 20, 1), examples_of(model, 20, 2)
    gauge = Gauge.over(RowSettings(name="x", norm_rows=20, norm_batch=10), model, a, train, test, STREAMS)
    first = gauge.scores(a)
    assert gauge.scores(b) != first and gauge.scores(a) == first


def test_networks_without_batch_norm_record_no_rows_for_it():
    model = tiny("instance")
    numbers = measured(
        "connectivity", model, [state_of(model, 0), state_of(model, 1)], examples_of(model, 9), examples_of(model, 9)
    )
    assert set(numbers["rows"]) == {"train", "test"}


def test_masks_of_both_ends_hold_on_the_line():
    """Between copies of one mask every state has its zeros."""
    model = tiny("none")
    mask = Mask(
        {n: torch.arange(t.numel()).view(t.shape) % 2 == 0 for n, t in state_of(model, 0).items() if n in model.prunable}
    )
    a, b = (mask.apply(state_of(model, s)) for s in (0, 1))
    mixed = lerp(a, b, 0.3)
    assert all(bool((mixed[n][~kept] == 0).all()) for n, kept in mask.kept.items())
