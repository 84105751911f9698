"""Distribution and gradient matching, herding, k-centre, and where multi-formation images begin."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from reference import convnet, cross_entropy, examples_of, interrupted, logits, trained_by_hand, uneven

from distill_prune import training
from distill_prune.artifacts import Cost, Examples, Transform, decode
from distill_prune.data import digits, prepare
from distill_prune.data.augment import FAMILIES, apply, draw
from distill_prune.distill import Source, distribution, gradient, herding, kcenter, needs_model
from distill_prune.distill.classes import class_rows
from distill_prune.distill.formation import assembled, initial
from distill_prune.distill.outer import KEEP_EVERY, TRIES
from distill_prune.distill.siamese import MIXED, Siamese, shared
from distill_prune.distill.subset import real_images
from distill_prune.errors import ConfigError, DataError, NonFiniteError
from distill_prune.models import Model, build_model
from distill_prune.models.convnet import Settings as ConvNet
from distill_prune.models.lenet import Settings as LeNet
from distill_prune.progress import SILENT
from distill_prune.rng import Streams, stream
from distill_prune.training import training_cost

STREAMS = Streams(0, ("distill",))
CLASSES = ("a", "b", "c")
PLAIN = Transform("normalize", {"mean": torch.zeros(1), "std": torch.ones(1)})
DSA = "color_crop_cutout_flip_scale_rotate"
TINY = {
    distribution: distribution.Settings(ipc=2, iterations=24, batch_real=5, augment=DSA),
    gradient: gradient.Settings(ipc=2, iterations=24, inner_loop=2, net_steps=2, net_batch=4, batch_real=5, augment=DSA),
}
METHODS = pytest.mark.parametrize("method", [distribution, gradient])


def double(model: Model) -> Model:
    return Model(lambda: model.build().double(), model.shape, model.classes, model.identity)


def source_of(model: Model, n: int = 24, dtype: torch.dtype = torch.float32) -> Source:
    return Source(examples_of(model, n, dtype=dtype), CLASSES, PLAIN, model)


@pytest.fixture(scope="module")
def source() -> Source:
    return source_of(convnet())


def run(method, source, progress=SILENT, **changes):
    return method.distill(TINY[method].model_copy(update=changes), source, STREAMS, "cpu", progress)


def pairs_of(source: Source, augment: str = "none", factor: int = 1, batch: int = 5) -> Siamese:
    return Siamese.of(source, "cpu", batch, augment, factor, STREAMS)


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
            found, before = pairs.pair(label, own, iteration=step), plain.pair(label, own, iteration=step)
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
            real, _ = pairs.pair(label, torch.zeros(1, *source.train.shape), iteration=0)
            own = source.train.x[source.train.y == label]
            where = [next(i for i, x in enumerate(own) if torch.equal(x, image)) for image in real]
            assert len(set(where)) == len(where) == size
    one, two = (pairs_of(source).pair(0, torch.zeros(1, *source.train.shape), iteration=i)[0] for i in (0, 1))
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
        real, synthetic = pairs.pair(label, leaf[2 * label : 2 * label + 2], iteration=3)
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
        for x in pairs.pair(label, leaf[ipc * label : ipc * (label + 1)], **step):
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
    with pytest.raises(ConfigError, match=r"(?s)leaves out the last linear layer.*mend: *metric cosine"):
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
    for module in (gradient, training):
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


# -- what distribution and gradient matching have in common


@pytest.fixture(scope="module")
def whole(source):
    return {method: run(method, source) for method in TINY}


@METHODS
@pytest.mark.parametrize("at", [7, 20])
def test_interrupted_and_resumed_is_bit_equal(source, whole, method, at):
    whole, parts = whole[method], interrupted("iteration", at, lambda progress: run(method, source, progress))
    assert torch.equal(whole.set.images, parts.set.images) and whole.record == parts.record and whole.cost == parts.cost


@METHODS
@pytest.mark.parametrize(("changes", "stored"), [({}, 1), ({"factor": 2}, 2), ({"init": "noise", "augment": "none"}, 1)])
def test_what_comes_out(source, method, changes, stored):
    made = run(method, source, iterations=3, **changes)
    assert made.set.images.shape == (6, 1, 4, 4) and made.set.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert made.set.factor == stored and made.set.count == 6 * stored**2 and made.set.lr is None
    assert made.set.augment == changes.get("augment", DSA) and made.set.method == method.Settings().name
    assert made.set.examples(PLAIN).y.tolist() == [0, 0, 1, 1, 2, 2] * stored**2
    assert made.set.images.dtype == torch.float32 and not made.set.images.requires_grad
    assert needs_model(method) and not method.NEEDS_EXPERTS
    start = initial(source, 2, changes.get("factor", 1), changes.get("init", "real"), STREAMS)[0]
    near = run(method, source, iterations=1, **(changes | {"lr_pixels": 1e-12})).set.images
    torch.testing.assert_close(near, start, rtol=0, atol=1e-6)
    assert not torch.equal(made.set.images, start)


@METHODS
def test_a_bad_gradient_goes_back_with_half_the_step_and_then_fails_by_name(source, method, monkeypatch):
    true, seen = Siamese.gradient, []

    def spoiled(self, pixels, distance, **step):
        loss, slope = true(self, pixels, distance, **step)
        seen.append((step["iteration"], step.get("inner", 0)))
        bad = step["iteration"] == where and (always or seen.count(seen[-1]) == 1) and seen[-1][1] == last
        return loss, slope * float("nan") if bad else slope

    monkeypatch.setattr(Siamese, "gradient", spoiled)
    always, where, last = False, KEEP_EVERY + 1, TINY[method].inner_loop - 1 if method is gradient else 0
    made = run(method, source)
    assert made.record["rollbacks"] == 1 and seen.count((KEEP_EVERY, 0)) == 2 and seen.count((KEEP_EVERY - 1, 0)) == 1
    assert torch.isfinite(made.set.images).all() and made.record["iteration"] == [10, 20, 24]
    always, where = True, 1
    with pytest.raises(
        NonFiniteError, match=rf"(?s)the pixel gradient is not finite at iteration 1, after {TRIES}.*smaller lr_pixels"
    ):
        run(method, source)


def test_a_network_that_explodes_fails_by_name(source):
    with pytest.raises(NonFiniteError, match=r"(?s)the training loss of the network is not finite.*net_lr 1e\+30.*or net_lr"):
        run(gradient, source, net_lr=1e30, net_steps=4)


@METHODS
def test_the_loss_falls_on_digits(method):
    images = prepare(digits.Settings())
    model = build_model(ConvNet(depth=1, width=4), (1, 8, 8), 10)
    source = Source(images.examples("train"), images.classes, images.transform, model)
    common = {"ipc": 1, "init": "noise", "batch_real": 16, "augment": "none"}
    own = (
        {"iterations": 20, "lr_pixels": 1.0} if method is distribution else {"iterations": 20, "inner_loop": 2, "net_steps": 5}
    )
    loss = method.distill(method.Settings(**common, **own), source, STREAMS, "cpu", SILENT).record["loss"]
    assert loss[1] < 0.9 * loss[0], loss


@METHODS
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": "mean"}, "'real' or 'noise'"),
        ({"factor": 0}, "greater than or equal to 1"),
        ({"momentum": 1.0}, "less than 1"),
    ],
)
def test_settings_are_refused(method, changes, message):
    with pytest.raises(ValidationError, match=message):
        method.Settings(**changes)


# -- where they begin


def test_factor_one_begins_at_the_very_real_images_of_subset(source):
    found, labels = initial(source, 3, 1, "real", STREAMS)
    images, expected = real_images(source.train, CLASSES, 3, STREAMS.under("init"))
    assert torch.equal(found, images) and torch.equal(labels, expected)


def test_noise_is_standard_and_class_major(source):
    found, labels = initial(source, 2, 1, "noise", STREAMS)
    assert torch.equal(found, torch.randn(6, 1, 4, 4, generator=STREAMS("init", "noise")))
    assert labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert abs(float(initial(source, 500, 2, "noise", STREAMS)[0].std()) - 1) < 0.02


@pytest.mark.parametrize(("shape", "factor"), [((1, 8, 8), 2), ((3, 9, 6), 3), ((2, 7, 5), 2), ((1, 8, 8), 4)])
def test_assembled_patches_are_shrunk_real_images(shape, factor):
    n, patches = 3, factor**2
    images = torch.randn(n * patches, *shape, generator=stream(0, "images"), dtype=torch.float64)
    found = assembled(images, factor)
    assert found.shape == (n, *shape)
    rows, columns = math.ceil(shape[1] / factor), math.ceil(shape[2] / factor)
    for i in range(n):
        for p in range(patches):
            whole, top, left = images[p * n + i], p // factor * rows, p % factor * columns
            for r in range(min(rows, shape[1] - top)):
                for c in range(min(columns, shape[2] - left)):
                    up, down = r * shape[1] // rows, math.ceil((r + 1) * shape[1] / rows)
                    one, two = c * shape[2] // columns, math.ceil((c + 1) * shape[2] / columns)
                    torch.testing.assert_close(found[i, :, top + r, left + c], whole[:, up:down, one:two].mean((1, 2)))


def test_what_is_decoded_at_the_start_is_of_the_class():
    y = torch.arange(24) % 3
    flat = Examples((y + 1.0).view(-1, 1, 1, 1).expand(-1, 1, 4, 4).clone(), y)
    images, labels = initial(Source(flat, CLASSES, PLAIN), 2, 2, "real", STREAMS)
    shown = decode(images, 2)
    assert shown.shape == (24, 1, 4, 4)
    torch.testing.assert_close(shown, (labels.repeat(4) + 1.0).view(-1, 1, 1, 1).expand_as(shown))


def test_starts_that_cannot_be_had(source):
    with pytest.raises(
        DataError, match=r"(?s)12 images per class are more than class 'a' has.*at most 8.*smaller ipc or factor"
    ):
        initial(source, 3, 2, "real", STREAMS)
    for kind in ("real", "noise"):
        with pytest.raises(ConfigError, match=r"(?s)factor 3 leaves patches without a pixel.*of 4x4 pixels.*a smaller factor"):
            initial(source, 1, 3, kind, STREAMS)
    assert initial(source, 1, 4, "noise", STREAMS)[0].shape == (3, 1, 4, 4)


def test_a_class_without_examples(source):
    lacking = replace(source, train=source.train.take((source.train.y != 1).nonzero().squeeze(1)))
    with pytest.raises(DataError, match=r"class 'b' has"):
        run(distribution, lacking, init="noise")
    assert [len(rows) for rows in class_rows(lacking.train.y, CLASSES, 0)] == [8, 0, 8]


# -- herding and k-centre


def herded(x, count):
    """For every place try every free row, and take the first of the best."""
    chosen = []
    for k in range(1, count + 1):
        gaps = {}
        for i in range(len(x)):
            if i not in chosen:
                mean = sum((x[j] for j in [*chosen, i]), torch.zeros_like(x[0])) / k
                gaps[i] = float(((mean - x.mean(0)) ** 2).sum())
        chosen.append(min(gaps, key=gaps.get))
    return chosen


def spread_out(x, count):
    distance = lambda i, y: float(((x[i] - y) ** 2).sum())  # noqa: E731
    chosen = [min(range(len(x)), key=lambda i: distance(i, x.mean(0)))]
    while len(chosen) < count:
        free = [i for i in range(len(x)) if i not in chosen]
        chosen.append(max(free, key=lambda i: min(distance(i, x[j]) for j in chosen)))
    return chosen


@pytest.mark.parametrize(("choose", "twin"), [(herding.herd, herded), (kcenter.spread, spread_out)])
@pytest.mark.parametrize("seed", range(4))
def test_choices_equal_brute_force(choose, twin, seed):
    x = torch.randn(17, 5, generator=stream(seed, "x"), dtype=torch.float64)
    assert choose(x, 17) == twin(x, 17) and choose(x, 4) == twin(x, 4)
    assert sorted(choose(x, 17)) == list(range(17))


@pytest.mark.parametrize("choose", [herding.herd, kcenter.spread])
def test_of_equal_images_the_first_is_taken_and_none_twice(choose):
    assert choose(torch.ones(5, 3, dtype=torch.float64), 5) == [0, 1, 2, 3, 4]


def test_herding_and_kcenter_keep_their_promises():
    x = torch.randn(200, 6, generator=stream(0, "x"), dtype=torch.float64)
    gap = lambda rows: float((x[rows].mean(0) - x.mean(0)).norm())  # noqa: E731
    reach = lambda rows: float(torch.cdist(x, x[rows]).amin(1).max())  # noqa: E731
    random = [torch.randperm(200, generator=stream(s, "random"))[:10].tolist() for s in range(20)]
    assert gap(herding.herd(x, 10)) < min(gap(rows) for rows in random)
    assert reach(kcenter.spread(x, 10)) <= 2 * min(reach(rows) for rows in random)
    clusters = (torch.arange(200) % 10).sort().values
    assert len(set(clusters[kcenter.spread(x + 100 * clusters.unsqueeze(1), 10)].tolist())) == 10


@pytest.mark.parametrize(("method", "choose"), [(herding, herding.herd), (kcenter, kcenter.spread)])
def test_chosen_sets_are_real_images_by_class(source, method, choose):
    found = method.distill(method.Settings(ipc=3, augment="flip"), source, STREAMS, "cpu", SILENT)
    for label in range(3):
        own = source.train.x[source.train.y == label]
        assert torch.equal(found.set.images[3 * label : 3 * label + 3], own[choose(own.flatten(1).double(), 3)])
    assert found.set.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 and found.set.lr is None and found.set.augment == "flip"
    assert found.cost == Cost() and method.REAL_IMAGES and not needs_model(method)
    with pytest.raises(DataError, match=r"(?s)9 images per class are more than class 'a' has.*at most 8.*smaller ipc"):
        method.distill(method.Settings(ipc=9), source, STREAMS, "cpu", SILENT)
