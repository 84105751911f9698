"""What distribution and gradient matching have in common, and where they begin."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from pydantic import ValidationError
from reference import interrupted
from reference_methods import CLASSES, DSA, METHODS, PLAIN, STREAMS, TINY, made_source, run

from distill_prune.artifacts import Examples, decode
from distill_prune.data import digits, prepare
from distill_prune.distill import METHODS as TABLE
from distill_prune.distill import Source, distribution, gradient, needs_model
from distill_prune.distill.classes import class_rows
from distill_prune.distill.formation import assembled, initial
from distill_prune.distill.outer import KEEP_EVERY, TRIES
from distill_prune.distill.siamese import Siamese
from distill_prune.distill.subset import real_images
from distill_prune.errors import ConfigError, DataError, NonFiniteError
from distill_prune.models import build_model
from distill_prune.models.convnet import Settings as ConvNet
from distill_prune.progress import SILENT
from distill_prune.rng import stream

source = pytest.fixture(scope="module")(made_source)


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
    assert needs_model(method, method.Settings()) and not method.NEEDS_EXPERTS
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
        DataError, match=r"(?s)12 examples per class are more than class 'a' has.*at most 8.*smaller ipc or factor"
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


@pytest.mark.parametrize(
    ("name", "experts", "model", "real", "kinds"),
    [
        ("trajectory", True, True, False, ("images",)),
        ("gradient", False, True, False, ("images",)),
        ("embedding", False, True, False, ("text",)),
        ("subset", False, False, True, ("images", "text")),
    ],
)
def test_what_an_entry_leaves_out_has_a_default(name, experts, model, real, kinds):
    entry = TABLE[name]
    reads = needs_model(entry, entry.Settings())
    assert (entry.NEEDS_EXPERTS, reads, entry.REAL_IMAGES, entry.KINDS) == (experts, model, real, kinds)


def test_a_network_that_is_not_asked_for_is_refused():
    source = Source(Examples(torch.zeros(2, 1, 4, 4), torch.tensor([0, 1])), ("a", "b"), PLAIN)
    with pytest.raises(ConfigError, match=r"(?s)reads a network unasked.*NEEDS_MODEL = True"):
        distribution.distill(distribution.Settings(ipc=1), source, STREAMS, "cpu", SILENT)
