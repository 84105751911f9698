"""The Hessian's diagonal beside the whole matrix's."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from reference_curvature import NETS, STREAMS, Dense, scene
from reference_inputs import copies_of

from distill_prune.analyze import diagonal
from distill_prune.analyze.diagonal import BLOCK, Settings, estimated, exactly, histogram, measure
from distill_prune.analyze.estimate import combined, estimate
from distill_prune.training.hessian import Products


def products_of(s):
    return Products(s.model, s.state, s.mask, s.examples)


def measured(s, **settings):
    return measure(Settings(**settings), copies_of(s.model, [s.state], [s.mask], s.examples, STREAMS)).numbers


def silent(done, total):
    pass


@pytest.mark.parametrize("kind", NETS)
def test_exact_diagonals_are_those_of_the_whole_matrix(kind):
    s = scene(kind)
    truth = s.hessian.diagonal()
    torch.testing.assert_close(exactly(products_of(s), silent), truth)
    (one,) = measured(s)["copies"]
    assert one["exact"] and one["probes"] == 0 and one["error"] == 0 and one["noise"] == 0
    assert one["products"] == one["survivors"] == len(truth) > BLOCK
    values = sorted(truth.tolist())
    for q, value in one["quantiles"].items():
        place = float(q) * (len(values) - 1)
        below, above = values[math.floor(place)], values[math.ceil(place)]
        assert value == pytest.approx(below + (place - math.floor(place)) * (above - below))
    assert list(one["quantiles"]) == ["0.05", "0.25", "0.5", "0.75", "0.95"]
    assert one["negative"] == one["surely_negative"] == sum(v < 0 for v in values) / len(values)
    assert one["sum"]["mean"] == pytest.approx(sum(values)) and one["sum"]["se"] is None
    whole = s.whole.diagonal()
    assert float(whole.sum()) != pytest.approx(sum(values), rel=1e-3), "pruned coordinates would not be noticed"


@pytest.mark.parametrize("kind", NETS)
@pytest.mark.parametrize("sketch", [0, 8])
def test_estimates_converge_with_honest_errors(kind, sketch):
    s = scene(kind)
    truth, products = s.hessian.diagonal(), products_of(s)
    settings = Settings(probes=100, sketch=sketch)
    entries, errors, total, taken = estimated(settings, products, STREAMS, 0, silent)
    # Entries whose column of the rest is empty are known exactly; about them only rounding is left.
    scores = ((entries - truth) / errors.clamp(min=1e-12))[errors > 1e-9]
    # Their mean square is 1 within three times sqrt(2 / 44), were they normal and independent.
    assert len(scores) > 20 and 0.4 < float(scores.square().mean()) < 1.6 and float(scores.abs().max()) < 4.5
    assert bool(((entries - truth).abs()[errors <= 1e-9] < 1e-7).all())
    assert abs(total["mean"] - float(truth.sum())) < 4 * total["se"] and total["n"] == 100
    assert total["mean"] == pytest.approx(float(entries.sum()))
    assert taken == 100 + 2 * sketch
    (one,) = measured(s, probes=100, sketch=sketch, exact_below=0)["copies"]
    assert not one["exact"] and one["probes"] == 100 and one["products"] == taken
    assert one["error"] == pytest.approx(float(errors.mean()))
    assert one["noise"] == pytest.approx(min(1.0, float((errors**2).mean() / entries.var(correction=0))))
    assert one["quantiles"]["0.5"] == pytest.approx(float(np.median(entries.numpy())))
    assert one["negative"] == float((entries < 0).double().mean())
    assert one["surely_negative"] == float((entries + 2 * errors < 0).double().mean()) < one["negative"]


def test_estimates_are_those_of_the_formula():
    """v * H v, probe by probe, with the sample standard deviation over the root of n; blocks change nothing."""
    s = scene("lenet")
    count = 2 * BLOCK + 3
    entries, errors, total, _ = estimated(Settings(probes=count, sketch=0), products_of(s), STREAMS, 1, silent)
    products = products_of(s)
    probes = products.signs([STREAMS("diagonal", "probe", copy=1, index=i) for i in range(count)])
    samples = probes * (probes @ s.hessian)
    torch.testing.assert_close(entries, samples.mean(0))
    torch.testing.assert_close(errors, samples.std(0) / math.sqrt(count))
    assert total == pytest.approx(estimate(samples.sum(1).tolist()))
    rest = (s.hessian**2).sum(1) - s.hessian.diagonal() ** 2
    ratio = float((errors**2 * count).sum() / rest.sum())
    assert 0.7 < ratio < 1.4, "the variance is that of the textbook"


def test_a_sketch_pays():
    """At 200 products the mean error with a sketch is a fraction of that without."""
    products = Dense(torch.diag(torch.linspace(0.1, 1, 60).double()))
    direction = torch.ones(60, dtype=torch.float64) / math.sqrt(60)
    products.matrix = products.matrix + 30 * torch.outer(direction, direction)

    def drawn(generators):
        rows = [torch.randint(0, 2, (1, 60), generator=g) for g in generators]
        return torch.cat([torch.zeros(0, 60, dtype=torch.int64), *rows]).double() * 2 - 1

    products.signs = drawn
    errors = {k: estimated(Settings(probes=200 - 2 * k, sketch=k), products, STREAMS, 0, silent)[1].mean() for k in (0, 5)}
    assert float(errors[5]) < 0.1 * float(errors[0])


def test_noise_is_seen():
    """Without a sketch and with two probes nearly everything is noise."""
    s = scene("group")
    bad, good = (
        measured(s, exact_below=0, **k)["copies"][0] for k in ({"probes": 2, "sketch": 0}, {"probes": 300, "sketch": 30})
    )
    assert good["noise"] < 0.1 < 0.4 < bad["noise"]


@pytest.mark.parametrize("exact", [True, False])
def test_copies_and_their_estimates(exact):
    s = scene("lenet")
    other = s.mask.apply({n: 1.1 * t for n, t in s.state.items()})
    arguments = (s.model, [s.state, other], [s.mask] * 2, s.examples, STREAMS)
    settings = {"probes": 20, "sketch": 3, "exact_below": 3000 if exact else 5}
    both = measure(Settings(copies=3, **settings), copies_of(*arguments)).numbers
    first, second = both["copies"]
    assert (first["copy"], second["copy"]) == (0, 1)
    assert both["median"] == estimate([first["quantiles"]["0.5"], second["quantiles"]["0.5"]])
    assert both["negative"] == estimate([first["negative"], second["negative"]])
    sums = [first["sum"], second["sum"]]
    assert both["sum"] == (estimate([x["mean"] for x in sums]) if exact else combined(sums))
    one = measure(Settings(**settings), copies_of(*arguments)).numbers
    assert one["copies"] == [first] and one["median"]["n"] == 1
    if not exact:
        same = measure(Settings(copies=2, **settings), copies_of(s.model, [s.state] * 2, *arguments[2:])).numbers["copies"]
        assert same[0]["sum"] != same[1]["sum"], "copies share probes: their errors are not independent"


def test_exact_up_to_a_number_of_survivors():
    s = scene("lenet")
    size = s.mask.remaining
    assert measured(s, exact_below=size)["copies"][0]["exact"]
    assert not measured(s, exact_below=size - 1, probes=2, sketch=1)["copies"][0]["exact"]


def test_histograms_hold_every_entry():
    values = np.concatenate([np.random.default_rng(0).standard_normal(500) * 1e-3, [-2.0, 50.0]])
    found = histogram(values, 12)
    edges, counts = found["edges"], found["counts"]
    assert len(edges) == 13 and (edges[0], edges[-1]) == (-2.0, 50.0) and edges == sorted(edges)
    assert counts == [sum(a <= v < b or (b == 50.0 == v) for v in values) for a, b in pairwise(edges)]
    assert sum(counts) == 502
    even = np.diff(np.arcsinh(np.array(edges) / np.median(np.abs(values))))
    assert np.allclose(even, even[0])


@pytest.mark.parametrize("values", [[0.0, 0.0], [3.0], [-1e-9] * 3])
def test_histograms_of_one_value(values):
    found = histogram(np.array(values), 4)
    assert sum(found["counts"]) == len(values) and np.all(np.diff(found["edges"]) > 0)


def test_progress_runs_to_its_end():
    s, ticks = scene("lenet"), []

    class Counting:
        def tick(self, done, total, note=""):
            ticks.append((done, total, note))

    for settings in ({}, {"exact_below": 0, "probes": 20, "sketch": 2}):
        ticks.clear()
        measure(
            Settings(copies=2, **settings), copies_of(s.model, [s.state] * 2, [s.mask] * 2, s.examples, STREAMS, Counting())
        )
        done = [d for d, _, _ in ticks]
        assert done == sorted(done) and done[-1] == ticks[-1][1] and {n for _, _, n in ticks} == {"copy 0", "copy 1"}


def test_a_layer_without_survivors():
    s = scene("lenet")
    name = s.model.prunable[0]
    mask = type(s.mask)(s.mask.kept | {name: torch.zeros_like(s.mask.kept[name])})
    found = measure(Settings(), copies_of(s.model, [mask.apply(s.state)], [mask], s.examples, STREAMS)).numbers["copies"][0]
    assert found["survivors"] == mask.remaining < s.mask.remaining
    assert diagonal.QUANTILES[2] == 0.5 and math.isfinite(found["quantiles"]["0.5"])
