from __future__ import annotations

import math

import pytest
import torch
from reference_analyze import dense_hessian, examples_of, mask_of, state_of, tiny
from reference_inputs import copies_of

from distill_prune.analyze import curvature
from distill_prune.analyze.curvature import Settings
from distill_prune.analyze.estimate import estimate
from distill_prune.errors import NonFiniteError, UserError
from distill_prune.progress import Progress
from distill_prune.rng import Streams
from distill_prune.training import hessian
from distill_prune.training.hessian import Products

KINDS = ["instance", "batch", "none"]
STREAMS = Streams(3, ("compare",))


def flat(model, tensors):
    return torch.cat([tensors[n].flatten().double() for n in model.prunable])


def scene(kind, n=12, keep=0.6):
    model = tiny(kind)
    state = state_of(model, 0)
    mask = mask_of(model, state, 5, keep)
    return model, mask.apply(state), mask, examples_of(model, n)


def exact(model, state, mask, examples):
    """Trace, trace by layer, and sum w^2 H_ii over survivors, from the dense Hessian."""
    hessian, where = dense_hessian(model, state, examples)
    kept, w = flat(model, mask.kept), flat(model, state)
    diagonal = hessian.diagonal() * kept
    layers = {n: float(diagonal[s].sum()) for n, s in where.items()}
    return float(diagonal.sum()), layers, float((w**2 * diagonal).sum())


@pytest.mark.parametrize("kind", KINDS)
def test_products_equal_the_dense_hessian(kind):
    model, state, mask, examples = scene(kind)
    products = Products(model, state, mask, examples)
    hessian, where = dense_hessian(model, state, examples)
    probes = products.probes([STREAMS("p", i=i) for i in range(3)])
    w = flat(model, state)
    for probe, row in zip(probes, products.quadratics(probes), strict=True):
        v = probe.double()
        terms = v * (hessian @ v)
        assert row[:-1].tolist() == pytest.approx([float(terms[s].sum()) for s in where.values()])
        assert float(row[-1]) == pytest.approx(float((w**2 * terms).sum()))


def test_probes_are_signs_on_survivors_and_zero_elsewhere():
    model, state, mask, examples = scene("none")
    (probe,) = Products(model, state, mask, examples).probes([STREAMS("p")])
    assert torch.equal(probe.abs().double(), flat(model, mask.kept))
    assert {-1, 1} <= set(probe.tolist())
    drawn = torch.randint(0, 2, probe.shape, generator=STREAMS("p"))
    assert torch.equal(probe > 0, (drawn > 0) & (probe != 0)), "another stream"


def test_masks_in_another_order_give_the_same_probes():
    model, state, mask, examples = scene("none")
    turned = type(mask)(dict(reversed(mask.kept.items())))
    one, two = (Products(model, state, m, examples).probes([STREAMS("p")]) for m in (mask, turned))
    assert torch.equal(one, two)


@pytest.mark.parametrize("kind", KINDS)
def test_trace_converges_to_the_truth(kind):
    model, state, mask, examples = scene(kind)
    settings = Settings(probes_max=400, relative_error=1e-9)
    numbers = curvature.measure(settings, copies_of(model, [state], [mask], examples, STREAMS)).numbers
    trace, layers, invariant = exact(model, state, mask, examples)
    one = numbers["copies"][0]
    assert one["stopped"] == "cap" and one["probes"] == 400
    for held, truth in [
        (one["trace"], trace),
        (one["invariant"], invariant),
        *((one["layers"][n]["trace"], t) for n, t in layers.items()),
    ]:
        assert abs(held["mean"] - truth) < 4 * held["se"]
    unmasked = exact(model, state, mask.dense(state, model.prunable), examples)[0]
    assert abs(one["trace"]["mean"] - unmasked) > 4 * one["trace"]["se"], "pruned coordinates would not be noticed"
    assert one["trace"]["mean"] == pytest.approx(sum(one["layers"][n]["trace"]["mean"] for n in model.prunable))
    assert one["trace_per_weight"]["mean"] == pytest.approx(one["trace"]["mean"] / mask.remaining)
    assert one["trace_per_weight"]["se"] == pytest.approx(one["trace"]["se"] / mask.remaining)
    for name in model.prunable:
        layer = one["layers"][name]
        assert layer["trace_per_weight"]["mean"] == pytest.approx(layer["trace"]["mean"] / layer["remaining"])
    assert one["weight_norm"] == pytest.approx(float(flat(model, state).norm()))
    logits = model(state, examples.x)
    assert one["train_loss"] == pytest.approx(float(torch.nn.functional.cross_entropy(logits, examples.y)))


def test_variance_is_hutchinsons():
    """Var(v' A v) = 2 (||A||_F^2 - sum A_ii^2) on the survivors."""
    model, state, mask, examples = scene("none")
    kept = flat(model, mask.kept)
    hessian = dense_hessian(model, state, examples)[0] * kept * kept[:, None]
    sd = math.sqrt(2 * float((hessian**2).sum() - (hessian.diagonal() ** 2).sum()))
    products = Products(model, state, mask, examples)
    samples = products.quadratics(products.probes([STREAMS("v", i=i) for i in range(500)]))[:, :-1].sum(1)
    assert float(samples.std()) == pytest.approx(sd, rel=0.12)


def test_intervals_cover_the_truth():
    """16 probes, the fewest that are used, on a stored dense matrix: 95 % intervals hold the trace in 93 to 97 %."""
    generator = torch.Generator().manual_seed(0)
    root = torch.randn(40, 40, generator=generator, dtype=torch.float64)
    matrix = root @ root.T / 40 + torch.diag(torch.arange(40.0, dtype=torch.float64))
    v = torch.randint(0, 2, (3000, 16, 40), generator=generator).double() * 2 - 1
    samples = torch.einsum("rpi,ij,rpj->rp", v, matrix, v)
    truth = float(matrix.trace())
    held = [estimate(row) for row in samples.tolist()]
    covered = sum(e["low"] <= truth <= e["high"] for e in held) / len(held)
    assert 0.93 < covered < 0.97


def test_chunks_change_nothing(monkeypatch):
    model, state, mask, examples = scene("instance", n=11)
    whole = Products(model, state, mask, examples)
    assert whole.chunk == 11
    monkeypatch.setattr(hessian, "GRAPH_BYTES", 3 * whole._bytes_per_example())
    parts = Products(model, state, mask, examples)
    assert parts.chunk == 3
    probes = whole.probes([STREAMS("p", i=i) for i in range(2)])
    torch.testing.assert_close(parts.quadratics(probes), whole.quadratics(probes))
    assert parts.loss == pytest.approx(whole.loss)


def test_stops_at_the_relative_error_and_says_so():
    model, state, mask, examples = scene("none")
    settings = Settings(probes_min=16, probes_max=400, relative_error=0.08, check_every=5)
    one = curvature.measure(settings, copies_of(model, [state], [mask], examples, STREAMS)).numbers["copies"][0]
    assert one["stopped"] == "relative error"
    assert 16 < one["probes"] < 400 and (one["probes"] - 16) % 5 == 0
    assert one["trace"]["se"] <= 0.08 * abs(one["trace"]["mean"])
    shorter = Settings(probes_max=one["probes"] - 5, relative_error=0.08, check_every=5)
    one = curvature.measure(shorter, copies_of(model, [state], [mask], examples, STREAMS)).numbers["copies"][0]
    assert one["stopped"] == "cap"


def test_copies_are_averaged_and_their_errors_combined():
    model, state, mask, examples = scene("none")
    other = mask.apply(state_of(model, 9))
    settings = Settings(probes_max=20, relative_error=1e-9)
    numbers = curvature.measure(settings, copies_of(model, [state, other], [mask, mask], examples, STREAMS)).numbers
    one, two = (c["trace"] for c in numbers["copies"])
    assert numbers["trace"]["mean"] == pytest.approx((one["mean"] + two["mean"]) / 2)
    assert numbers["trace"]["se"] == pytest.approx(math.hypot(one["se"], two["se"]) / 2)
    assert numbers["trace"]["n"] == 2
    assert numbers["weight_norm"]["mean"] == pytest.approx(sum(c["weight_norm"] for c in numbers["copies"]) / 2)
    same = curvature.measure(settings, copies_of(model, [state, state], [mask, mask], examples, STREAMS)).numbers["copies"]
    assert same[0]["trace"]["mean"] != same[1]["trace"]["mean"], "copies share probes: their errors are not independent"
    assert curvature.measure(settings, copies_of(model, [state, other], [mask, mask], examples, STREAMS)).numbers == numbers


def test_rows_are_drawn_and_recorded():
    model, state, mask, examples = scene("none", n=30)
    settings = Settings(rows=8, probes_max=16)
    numbers = curvature.measure(settings, copies_of(model, [state], [mask], examples, STREAMS)).numbers
    index = torch.randperm(30, generator=STREAMS("curvature", "rows"))[:8]
    loss = torch.nn.functional.cross_entropy(model(state, examples.x[index]), examples.y[index])
    assert numbers["rows"]["count"] == 8
    assert numbers["train_loss"]["mean"] == pytest.approx(float(loss))


def test_a_layer_without_survivors():
    model, state, mask, examples = scene("none")
    name = model.prunable[0]
    bare = type(mask)(mask.kept | {name: torch.zeros_like(mask.kept[name])})
    numbers = curvature.measure(
        Settings(probes_max=16), copies_of(model, [bare.apply(state)], [bare], examples, STREAMS)
    ).numbers
    assert numbers["layers"][name]["trace"]["mean"] == 0
    assert numbers["layers"][name]["trace_per_weight"] is None


def test_no_examples_are_refused():
    model, state, mask, examples = scene("none")
    with pytest.raises(UserError, match=r"(?s)needs training examples.*0 examples, 1 copies"):
        curvature.measure(Settings(), copies_of(model, [state], [mask], examples.take(torch.arange(0)), STREAMS))


def test_a_network_that_overflows_is_refused():
    model, state, mask, examples = scene("none")
    state = {n: t * 1e200 for n, t in state.items()}
    with pytest.raises(NonFiniteError, match="curvature of copy 0 is not finite"):
        curvature.measure(Settings(), copies_of(model, [state], [mask], examples, STREAMS))


def test_probes_out_of_order_are_refused():
    with pytest.raises(ValueError, match="probes_min: it is above probes_max: got 30: at most 20"):
        Settings(probes_min=30, probes_max=20)


@pytest.mark.parametrize("interval", ["student", "calibrated"])
def test_progress_is_of_the_probes_that_are_expected(interval):
    ticks = []

    class Watch(Progress):
        def tick(self, done, total, note=""):
            ticks.append((done, total))

    model, state, mask, examples = scene("none")
    copies = copies_of(model, [state], [mask], examples, STREAMS, Watch())
    (copy,) = curvature.measure(Settings(probes_max=400, relative_error=0.25, interval=interval), copies).numbers["copies"]
    probes = copy["probes"] + copy.get("pilot", 0)
    assert probes < 400 and ticks[-1] == (probes, probes)
    assert all(total < 400 for _, total in ticks)
