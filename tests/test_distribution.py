"""Siamese draws, and distribution matching."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from reference import convnet, logits, uneven
from reference_methods import DSA, STREAMS, double, made_source, pairs_of, run, source_of

from distill_prune.data.augment import FAMILIES, apply, draw
from distill_prune.distill import distribution
from distill_prune.distill.formation import initial
from distill_prune.distill.siamese import MIXED, shared
from distill_prune.errors import ConfigError
from distill_prune.models import Model, build_model
from distill_prune.models.lenet import Settings as LeNet
from distill_prune.progress import SILENT
from distill_prune.rng import stream

source = pytest.fixture(scope="module")(made_source)


# -- siamese augmentation


@pytest.mark.parametrize("family", FAMILIES)
def test_a_shared_draw_treats_all_images_alike(family):
    image = torch.randn(1, 3, 8, 8, dtype=torch.float64, generator=stream(0, "image"))
    for seed in range(5):
        one = draw(family, (1, 3, 8, 8), stream(seed, "draw"))
        for n in (1, 4, 7):
            assert torch.equal(apply(image.expand(n, -1, -1, -1), shared(one, n)), apply(image, one).expand(n, -1, -1, -1))


def test_both_batches_are_flipped_or_neither_and_each_class_and_step_draws_anew(source):
    pairs, plain = pairs_of(source, "flip", factor=2), pairs_of(source, "none", factor=2)
    own = torch.randn(2, *source.train.shape, generator=stream(0, "own"))
    seen = set()
    for step in range(12):
        flipped = []
        for label in range(3):
            found, before = (p.pair(own, p.drawn(iteration=step)[label]) for p in (pairs, plain))
            states = [
                [bool(torch.equal(x, y.flip(2))) for x, y in zip(*both, strict=True)]
                for both in zip(found, before, strict=True)
            ]
            assert [len(s) for s in states] == [5, 8] and len({*states[0], *states[1]}) == 1
            flipped.append(states[0][0])
        seen.add(tuple(flipped))
    assert len(seen) > 3


def test_real_batches_are_of_the_class_without_repeats_and_end_with_the_class(source):
    for batch, size in ((5, 5), (8, 8), (100, 8)):
        pairs = pairs_of(source, batch=batch)
        for label in range(3):
            real, _ = pairs.pair(torch.zeros(1, *source.train.shape), pairs.drawn(iteration=0)[label])
            own = source.train.x[source.train.y == label]
            where = [next(i for i, x in enumerate(own) if torch.equal(x, image)) for image in real]
            assert len(set(where)) == len(where) == size
    pairs, own = pairs_of(source), torch.zeros(1, *source.train.shape)
    one, two = (pairs.pair(own, pairs.drawn(iteration=i)[0])[0] for i in (0, 1))
    assert not torch.equal(one, two)


def test_batch_norms_take_the_statistics_of_a_mixed_real_batch():
    model = double(convnet(norm="batch"))
    source = source_of(model, 3 * MIXED, torch.float64)  # so that the mixed batch is all of it
    state = uneven(model)
    found = pairs_of(source).settled(model, state, iteration=0)
    assert state["1.running_mean"].abs().max() > 0 and set(found) == set(state)
    before = torch.nn.functional.conv2d(source.train.x, state["0.weight"], state["0.bias"], padding=1)
    torch.testing.assert_close(found["1.running_mean"], before.mean((0, 2, 3)))
    torch.testing.assert_close(found["1.running_var"], before.var((0, 2, 3)))
    assert all(torch.equal(found[n], state[n]) for n in model.parameters)
    assert pairs_of(source).images(model, 6) == 3 * 5 + 6 + 3 * MIXED


# -- distribution matching


@pytest.mark.parametrize(
    ("augment", "factor", "depth", "norm"), [("none", 1, 1, "instance"), (DSA, 2, 2, "none"), ("crop+flip", 1, 1, "batch")]
)
def test_distribution_gradient_equals_a_loop_over_classes(augment, factor, depth, norm):
    model = double(convnet(depth, norm))
    source, state = source_of(model, dtype=torch.float64), uneven(model)
    pairs = pairs_of(source, augment, factor)
    state = pairs.settled(model, state, iteration=3)
    pixels = torch.randn(6, *model.shape, generator=stream(0, "pixels"), dtype=torch.float64)
    loss, found = pairs.gradient(pixels, lambda r, s, c: distribution.feature_distance(model, state, r, s, c), iteration=3)

    def embedded(x):
        if norm == "batch":
            x = torch.nn.functional.conv2d(x, state["0.weight"], state["0.bias"], padding=1)
            mean, var, scale, shift = (
                state[f"1.{n}"].view(1, -1, 1, 1) for n in ("running_mean", "running_var", "weight", "bias")
            )
            x = (x - mean) / (var + 1e-5).sqrt() * scale + shift
            return torch.nn.functional.avg_pool2d(x.relu(), 2).flatten(1)
        eye = torch.eye(state[last].shape[1], dtype=torch.float64)  # a last layer that hands its input on
        return logits({**state, last: eye, last.replace("weight", "bias"): 0 * eye[0]}, x, depth, norm)

    last = f"{distribution.last_linear(model)}.weight"
    leaf, total = pixels.clone().requires_grad_(), 0.0
    for label in range(3):
        real, synthetic = pairs.pair(leaf[2 * label : 2 * label + 2], pairs.drawn(iteration=3)[label])
        mean_real = sum(embedded(x[None])[0] for x in real) / len(real)
        mean_synthetic = sum(embedded(x[None])[0] for x in synthetic) / len(synthetic)
        total = total + sum((a - b) ** 2 for a, b in zip(mean_real, mean_synthetic, strict=True))
    torch.testing.assert_close(loss, total.detach())
    torch.testing.assert_close(found, torch.autograd.grad(total, leaf)[0])


def test_distribution_matching_on_flat_pixels_has_a_closed_form():
    model = double(build_model(LeNet(hidden=()), (1, 4, 4), 3))
    source = source_of(model, dtype=torch.float64)
    pixels = torch.randn(6, 1, 4, 4, generator=stream(0, "pixels"), dtype=torch.float64)
    state = model.fresh(0, "any")
    loss, found = pairs_of(source, batch=8).gradient(
        pixels, lambda *a: distribution.feature_distance(model, state, *a), iteration=0
    )
    gaps = torch.stack([pixels[2 * c : 2 * c + 2].mean(0) - source.train.x[source.train.y == c].mean(0) for c in range(3)])
    torch.testing.assert_close(loss, gaps.square().sum())
    torch.testing.assert_close(found, 2 * gaps.repeat_interleave(2, 0) / 2)


def test_distribution_steps_are_momentum_sgd_with_a_new_network_each():
    model = double(convnet())
    source = source_of(model, dtype=torch.float64)
    settings = distribution.Settings(ipc=2, iterations=4, batch_real=5, lr_pixels=0.3, momentum=0.5, augment="flip")
    found = distribution.distill(settings, source, STREAMS, "cpu", SILENT)
    pixels, _ = initial(source, 2, 1, "real", STREAMS)
    pairs, velocity, losses = pairs_of(source, "flip"), 0, []
    for i in range(4):
        state = model.fresh(0, "distill", "network", iteration=i)
        loss, slope = pairs.gradient(pixels, lambda *a, s=state: distribution.feature_distance(model, s, *a), iteration=i)
        losses.append(float(loss))
        velocity = 0.5 * velocity + slope
        pixels = pixels - 0.3 * velocity
    torch.testing.assert_close(found.set.images, pixels)
    assert found.record == {"iteration": [4], "loss": [pytest.approx(sum(losses) / 4)], "rollbacks": 0}


def test_distribution_needs_a_linear_layer(source):
    class Headless(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Conv2d(1, 3, 4)

    model = Model(Headless, (1, 4, 4), 3, "headless")
    with pytest.raises(ConfigError, match=r"(?s)by its last linear layer, and this network has none.*ends in a linear layer"):
        run(distribution, replace(source, model=model))


def test_no_hook_is_left_behind(source):
    run(distribution, source, iterations=1)
    assert source.model is not None
    assert not any(layer._forward_pre_hooks for layer in source.model.module.modules())
