"""Gradient matching: DC, DSA and IDC."""

from __future__ import annotations

import pytest
import torch
from reference import convnet, cross_entropy, logits, trained_by_hand, uneven
from reference_methods import CLASSES, DSA, STREAMS, double, made_source, pairs_of, run, source_of

from distill_prune.artifacts import Cost, Examples, decode
from distill_prune.distill import Source, gradient
from distill_prune.distill.formation import initial
from distill_prune.errors import ConfigError
from distill_prune.models import build_model
from distill_prune.models.lenet import Settings as LeNet
from distill_prune.progress import SILENT
from distill_prune.rng import stream
from distill_prune.training import loop, training_cost

source = pytest.fixture(scope="module")(made_source)


# -- gradient matching


def naive_distance(real, synthetic, metric, last):
    """Layer by layer, channel by channel, in Python."""
    total = 0.0
    for name, g in real.items():
        s = synthetic[name]
        if g.dim() == 1 or (metric == "mse" and name == last):
            continue
        for a, b in zip(g, s, strict=True):
            a, b = a.reshape(-1), b.reshape(-1)
            if metric == "mse":
                total = total + sum((x - y) ** 2 for x, y in zip(a, b, strict=True))
            else:
                total = total + 1 - (a @ b) / ((a @ a).sqrt() * (b @ b).sqrt() + 1e-6)
    return total


def naive_matching(pairs, pixels, state, metric, depth, step):
    """Loss and gradient of one matching step: all classes in one graph."""
    leaf, total = pixels.clone().requires_grad_(), 0.0
    ipc, last = len(pixels) // 3, list(state)[-2]
    for label in range(3):
        w = {n: t.detach().clone().requires_grad_() for n, t in state.items()}
        slopes = []
        for x in pairs.pair(leaf[ipc * label : ipc * (label + 1)], pairs.drawn(**step)[label]):
            loss = cross_entropy(logits(w, x, depth), torch.full((len(x),), label))
            slopes.append(dict(zip(w, torch.autograd.grad(loss, list(w.values()), create_graph=True), strict=True)))
        total = total + naive_distance({n: g.detach() for n, g in slopes[0].items()}, slopes[1], metric, last)
    return total.detach(), torch.autograd.grad(total, leaf)[0]


@pytest.mark.parametrize("metric", ["cosine", "mse"])
@pytest.mark.parametrize(("augment", "factor", "depth"), [("none", 1, 1), (DSA, 2, 2)])
def test_gradient_matching_equals_a_loop_over_classes_and_channels(metric, augment, factor, depth):
    model = double(convnet(depth))
    source, state = source_of(model, dtype=torch.float64), uneven(model)
    pairs, names = pairs_of(source, augment, factor), gradient.matched_names(model, metric)
    pixels = torch.randn(6, *model.shape, generator=stream(0, "pixels"), dtype=torch.float64)
    match = lambda *a: gradient.gradient_distance(model, state, names, metric, *a)  # noqa: E731
    loss, found = pairs.gradient(pixels, match, iteration=0, inner=1)
    expected = naive_matching(pairs, pixels, state, metric, depth, {"iteration": 0, "inner": 1})
    torch.testing.assert_close((loss, found), expected)


def test_what_the_metrics_compare():
    model = convnet(depth=2)
    assert gradient.matched_names(model, "cosine") == ("0.weight", "4.weight", "9.weight")
    assert gradient.matched_names(model, "mse") == ("0.weight", "4.weight")
    with pytest.raises(ConfigError, match=r"(?s)leaves out the last linear layer.*fix: *metric cosine"):
        gradient.matched_names(build_model(LeNet(hidden=()), (1, 4, 4), 3), "mse")


def test_a_channel_without_gradient_counts_one_under_cosine():
    g = torch.tensor([[1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    s = torch.tensor([[2.0, 0.0], [1.0, 0.0], [-1.0, -1.0]], requires_grad=True)
    found = gradient.distance([g], [s], "cosine")
    assert float(found.detach()) == pytest.approx(0 + 1 + 2, abs=1e-5)
    assert torch.isfinite(torch.autograd.grad(found, s)[0]).all()


@pytest.mark.parametrize("net_on", ["synthetic", "real"])
@pytest.mark.parametrize("factor", [1, 2])
def test_gradient_iterations_by_hand(monkeypatch, net_on, factor):
    """Match, step the pixels, train the network, match again; a new network at every iteration."""
    for module in (gradient, loop):
        monkeypatch.setattr(module, "training_cost", lambda *a: Cost())  # which counts in float32
    model = double(convnet())
    source = source_of(model, dtype=torch.float64)
    settings = gradient.Settings(
        ipc=1, iterations=2, inner_loop=3, batch_real=5, lr_pixels=0.3, momentum=0.5, augment="none", factor=factor,
        net_on=net_on, net_steps=3, net_batch=2, net_lr=0.1, net_momentum=0.3, net_weight_decay=0.01,
    )  # fmt: skip
    found = gradient.distill(settings, source, STREAMS, "cpu", SILENT)
    pixels, labels = initial(source, 1, factor, "real", STREAMS)
    pairs, velocity, losses = pairs_of(source, factor=factor), 0, []
    for i in range(2):
        state = model.fresh(0, "distill", "network", iteration=i)
        for inner in range(3):
            if inner:
                x, y = decode(pixels, factor), labels.repeat(factor**2)
                if net_on == "real":
                    x, y = source.train.x, source.train.y
                order = []
                for epoch in range(3):
                    generator = STREAMS.under("training", iteration=i, inner=inner)("order", epoch=epoch)
                    order += torch.split(torch.randperm(len(x), generator=generator), 2)
                steps = [(x[rows], y[rows]) for rows in order[:3]]
                state = trained_by_hand(logits, state, steps, [0.1] * 3, momentum=0.3, weight_decay=0.01)[0][-1]
            loss, slope = naive_matching(pairs, pixels, state, "cosine", 1, {"iteration": i, "inner": inner})
            losses.append(float(loss))
            velocity = 0.5 * velocity + slope
            pixels = pixels - 0.3 * velocity
    torch.testing.assert_close(found.set.images, pixels, rtol=1e-6, atol=1e-8)
    assert found.record["loss"] == [pytest.approx(sum(losses) / 6)] and found.set.factor == factor


def test_the_network_sees_an_augmentation_of_each_image_by_itself(source, monkeypatch):
    asked = []
    true = gradient.train

    def spy(model, state, examples, recipe, noise, **more):
        asked.append((recipe, len(examples), noise.parts))
        return true(model, state, examples, recipe, noise, **more)

    monkeypatch.setattr(gradient, "train", spy)
    run(gradient, source, iterations=2, factor=2, net_weight_decay=0.1)
    assert [n for _, n, _ in asked] == [24] * 2 and len({parts for *_, parts in asked}) == 2
    recipe = asked[0][0]
    assert (recipe.length, recipe.batch, recipe.augment, recipe.weight_decay) == ("2it", 4, DSA, 0.1)


@pytest.mark.parametrize("kind", ["normalize", "zca"])
def test_clamped_pixels_stay_within_black_and_white(kind):
    from distill_prune.data.normalize import fit_normalize
    from distill_prune.data.whiten import fit_zca

    pixels = torch.rand(24, 1, 4, 4, generator=stream(0, "pixels"))
    transform = {"normalize": fit_normalize, "zca": fit_zca}[kind](pixels, 1.0)
    source = Source(Examples(transform.apply(pixels), torch.arange(24) % 3), CLASSES, transform, convnet())
    wild, held = (run(gradient, source, iterations=2, lr_pixels=20.0, clamp=c).set.images for c in (False, True))
    wild, held = transform.invert(wild), transform.invert(held)
    assert wild.min() < -0.1 and wild.max() > 1.1
    assert held.min() > -1e-4 and held.max() < 1 + 1e-4 and ((held < 1e-4) | (held > 1 - 1e-4)).any()


def test_cost_of_gradient_matching(source):
    model = source.model
    found = run(gradient, source, iterations=2, factor=2, net_on="real").cost
    short = run(gradient, source, iterations=1, inner_loop=1, factor=2).cost
    assert (short.images, short.steps) == (3 * 5 + 4 * 6, 1) and short.flops > 0
    assert found == (short.times(2) + training_cost(model, 24, source.train.shape, 4, 0, 2)).times(2)
