"""Networks: their sizes against the published ones, the images they take, their names, and what was released."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from reference import uneven
from reference_models import CIFAR, DIGITS, MNIST, TINY, built, noise, on_meta
from torch import nn

from distill_prune.errors import ConfigError
from distill_prune.models import MODELS, build_model, prunable_names
from distill_prune.rng import seed_of, seeded

IMAGES = set(MODELS) - {"bert", "minilm", "torchvision", "timm"}  # networks for text and of libraries have tests of their own


def test_every_network_is_tested_here() -> None:
    assert set(TINY) == IMAGES


# -- sizes


@pytest.mark.parametrize(
    ("name", "settings", "shape", "classes", "prunable", "total"),
    [
        # MTT's ConvNet-3; the 100-way head is the one of 2307.03364's code
        ("convnet", {}, CIFAR, 10, 318_848, 320_010),
        ("convnet", {}, CIFAR, 100, 503_168, 504_420),
        # MTT's AlexNet, in 2307.03364
        ("alexnet", {}, CIFAR, 10, 1_871_232, 1_872_202),
        ("alexnet", {}, CIFAR, 100, 2_147_712, 2_148_772),
        # 784 x 300 + 300 x 100 + 100 x 10: the 266K of Frankle et al.'s table
        ("lenet", {}, MNIST, 10, 266_200, 266_610),
        # 6 x 25 + 16 x 6 x 25 + 400 x 120 + 120 x 84 + 84 x 10, and the well-known total
        ("lenet5", {}, MNIST, 10, 61_470, 61_706),
        ("lenet5", {"first_padding": 0}, CIFAR, 10, 61_770, 62_006),
        # He et al.'s 269,722 and 853,018 with padded shortcuts, and two projections with norms: 2,752
        ("cifar_resnet", {}, CIFAR, 10, 270_896, 269_722 + 2_752),
        ("cifar_resnet", {"depth": 56}, CIFAR, 10, 851_504, 853_018 + 2_752),
        # IDC's narrow networks, in 2310.18769
        ("resnet", {"depth": 10, "width": 32}, CIFAR, 10, 1_226_080, 1_228_970),
        ("resnet", {"depth": 18, "width": 32}, CIFAR, 10, 2_792_800, 2_797_610),
        # the usual ResNet-18 of CIFAR
        ("resnet", {}, CIFAR, 10, 11_164_352, 11_173_962),
        # VGGs of CIFAR with batch norm and biases; 16 is the 14.7M of Frankle et al.'s table
        ("vgg", {"depth": 11}, CIFAR, 10, 9_222_848, 9_231_114),
        ("vgg", {"depth": 13}, CIFAR, 10, 9_407_168, 9_416_010),
        ("vgg", {}, CIFAR, 10, 14_715_584, 14_728_266),
        ("vgg", {"depth": 19}, CIFAR, 10, 20_024_000, 20_040_522),
    ],
)
def test_sizes_are_the_published_ones(name, settings, shape, classes, prunable, total):
    module = on_meta(name, shape, classes, **settings)
    names = set(prunable_names(module))
    assert sum(p.numel() for n, p in module.named_parameters() if n in names) == prunable
    assert sum(p.numel() for p in module.parameters()) == total


def test_resnet_20_has_274k_numbers_with_the_running_statistics() -> None:
    state = on_meta("cifar_resnet", CIFAR).state_dict()
    assert sum(t.numel() for t in state.values() if t.is_floating_point()) == 274_042


@pytest.mark.parametrize("name", sorted(IMAGES))
@pytest.mark.parametrize("shape", [DIGITS, MNIST, CIFAR, (3, 64, 64), (3, 10, 29)])
def test_any_image_gives_logits(name, shape):
    assert on_meta(name, shape)(torch.empty(5, *shape, device="meta")).shape == (5, 10)


def test_padding_makes_28_pixels_32() -> None:
    for name, padding in (("convnet", 3), ("alexnet", 4)):
        padded, larger = on_meta(name, MNIST, first_padding=padding), on_meta(name, (1, 32, 32))
        assert [p.shape for p in padded.parameters()] == [p.shape for p in larger.parameters()]
        assert padded(torch.empty(2, *MNIST, device="meta")).shape == (2, 10)
    # a border of zeros in the image is the same thing
    padded, larger = built("convnet", MNIST, first_padding=3), built("convnet", (1, 32, 32))
    state, x = uneven(larger), noise(2, *MNIST)
    torch.testing.assert_close(padded(state, x), larger(state, F.pad(x, (2, 2, 2, 2))), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("name", "changes", "shape", "message"),
    [
        ("convnet", {"depth": 4}, DIGITS, "model 'convnet' cannot take.*8x8 pixels cannot be halved 4 times.*larger images"),
        ("convnet", {"first_padding": 0}, (1, 5, 5), r"3x3 pixels cannot be halved 2 times"),
        ("alexnet", {}, (3, 32, 7), r"of shape \(3, 32, 7\).*32x7 pixels cannot be pooled 3 times: the least is 8x8"),
        ("alexnet", {"first_padding": 0}, (3, 11, 32), "the least is 12x12"),
        ("lenet5", {}, (1, 3, 9), "3x9 pixels cannot be pooled twice: the least is 4x4"),
        ("lenet5", {"first_padding": 0}, (1, 7, 7), "the least is 8x8"),
        ("resnet", {"norm": "instance"}, DIGITS, "instance norm over a single value.*fix: .*another norm"),
        ("resnet", {"norm": "instance"}, (3, 1, 64), None),
        ("cifar_resnet", {"norm": "instance"}, (1, 4, 4), "instance norm over a single value"),
        ("cifar_resnet", {"norm": "instance"}, (1, 5, 5), None),
        ("cifar_resnet", {"norm": "group"}, (1, 1, 1), "group norm over a single value"),
        ("cifar_resnet", {"norm": "layer"}, (1, 1, 1), None),
        ("vgg", {"norm": "instance"}, (3, 15, 15), "instance norm over a single value"),
        ("vgg", {"norm": "instance"}, (3, 32, 32), None),
    ],
)
def test_images_that_are_too_small_are_refused(name, changes, shape, message):
    if message is None:
        assert built(name, shape, **changes).shape == shape
        return
    with pytest.raises(ConfigError, match=f"(?s){message}"):
        built(name, shape, **changes)


@pytest.mark.parametrize("least", [("alexnet", 2, 8), ("alexnet", 0, 12), ("lenet5", 2, 4), ("lenet5", 0, 8)])
def test_the_least_image_is_enough(least):
    name, padding, side = least
    assert built(name, (1, side, side), first_padding=padding).shape == (1, side, side)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("cifar_resnet", {"depth": 18}, r"6n \+ 2 layers: got 18: 8, 14, 20, "),
        ("convnet", {"norm": "group", "width": 6}, "width: norm: group makes 4 groups: got 6: a multiple of 4"),
        ("vgg", {"norm": "none", "norm_init": "uniform"}, "norm_init: it draws the weights of norms, and norm: none"),
        ("resnet", {"depth": 20}, "Input should be 10 or 18"),
        ("vgg", {"norm": "batchnorm"}, "Input should be 'batch', 'instance', 'layer', 'group' or 'none'"),
        ("lenet", {"init": "he"}, "Input should be 'default', 'kaiming_normal'"),
    ],
)
def test_settings_that_cannot_be_are_refused(name, values, message):
    with pytest.raises(ValidationError, match=message):
        MODELS[name].Settings(**values)


# -- old keys and bits


def test_what_was_released_has_its_identity_and_bits() -> None:
    """Settings that were there before the options were keep the hash that keys are made from, and every drawn bit."""
    assert build_model(MODELS["convnet"].Settings(), CIFAR, 10).identity.startswith("d51d7fa76193c691")
    assert build_model(MODELS["convnet"].Settings(norm="batch"), CIFAR, 10).identity.startswith("3db79011a9957628")
    assert build_model(MODELS["lenet"].Settings(), MNIST, 10).identity.startswith("1b216949ccd926b3")
    for kind, made in (("instance", [nn.GroupNorm(5, 5)]), ("batch", [nn.BatchNorm2d(5)]), ("none", [])):
        with seeded(seed_of(3, "init")):
            plain = nn.Sequential(
                *(nn.Conv2d(1, 5, 3), *made, nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(5, 5, 3), *made, nn.ReLU()),
                *(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(20, 3)),
            ).state_dict()
        state = built("convnet", width=5, norm=kind).fresh(3, "init")
        assert list(state) == list(plain) and all(torch.equal(t, plain[n]) for n, t in state.items())
    with seeded(seed_of(3, "init")):
        plain = nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 3)).state_dict()
    state = built("lenet", hidden=(4,)).fresh(3, "init")
    assert list(state) == list(plain) and all(torch.equal(t, plain[n]) for n, t in state.items())


def test_names_and_order_are_those_of_openlth() -> None:
    resnet = on_meta("cifar_resnet", CIFAR, depth=8, norm_init="uniform", init="kaiming_normal")
    block = ("conv1", "bn1", "conv2", "bn2")
    expected = ["conv", "bn", *(f"blocks.0.{n}" for n in block)]
    expected += [f"blocks.{i}.{n}" for i in (1, 2) for n in (*block, "shortcut.0", "shortcut.1")]
    assert list(dict.fromkeys(n.rpartition(".")[0] for n in resnet.state_dict())) == [*expected, "fc"]
    assert {n for n, _ in resnet.named_parameters() if n.endswith("bias")} == {
        f"{n}.bias" for n in (*expected, "fc") if n.split(".")[-1] in ("bn", "bn1", "bn2", "1", "fc")
    }
    vgg = on_meta("vgg", CIFAR)
    numbers = (0, 1, 3, 4, 6, 7, 8, 10, 11, 12, 14, 15, 16)  # 2, 5, 9 and 13 are poolings
    assert prunable_names(vgg) == (*(f"layers.{i}.conv.weight" for i in numbers), "fc.weight")
    assert prunable_names(on_meta("vgg", DIGITS)) == prunable_names(vgg)  # also where a pooling is left out
    assert all(isinstance(layer, nn.MaxPool2d) for i, layer in enumerate(vgg.layers) if i not in numbers)
