"""Networks: their sizes against the published ones, their functions against networks written out, their initialisation."""

from __future__ import annotations

import math
import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from pydantic import ValidationError
from reference import uneven, unrolled
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector

from distill_prune.distill.inner_adam import unrolled_gradient
from distill_prune.distill.unroll import Batch, Inner, matching_gradient
from distill_prune.errors import RunError
from distill_prune.models import MODELS, Model, build_model, prunable_names
from distill_prune.rng import seed_of, seeded
from distill_prune.training import flops_of_step
from distill_prune.tree import flatten, select, shapes, unflatten

CIFAR, MNIST, DIGITS = (3, 32, 32), (1, 28, 28), (1, 8, 8)
NORMS = ("batch", "instance", "layer", "group", "none")
NORMED = ("convnet", "cifar_resnet", "resnet", "vgg")
TINY: dict[str, dict[str, Any]] = {
    "convnet": {"depth": 2, "width": 4},
    "alexnet": {},
    "lenet": {"hidden": (7, 5)},
    "lenet5": {},
    "cifar_resnet": {"depth": 8, "width": 4},
    "resnet": {"depth": 10, "width": 4},
    "vgg": {"depth": 11, "width": 4},
}


def built(name: str, shape: tuple[int, ...] = DIGITS, classes: int = 3, **changes: Any) -> Model:
    return build_model(MODELS[name].Settings(**{**TINY[name], **changes}), shape, classes)


def on_meta(name: str, shape: tuple[int, ...], classes: int = 10, **settings: Any) -> nn.Module:
    with torch.device("meta"):
        return MODELS[name].build(MODELS[name].Settings(**settings), shape, classes)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_every_network_is_tested_here() -> None:
    assert set(TINY) == set(MODELS)


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


@pytest.mark.parametrize("name", MODELS)
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
        ("resnet", {"norm": "instance"}, DIGITS, "instance norm over a single value.*mend: .*another norm"),
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
    with pytest.raises(RunError, match=f"(?s){message}"):
        built(name, shape, **changes)


@pytest.mark.parametrize("least", [("alexnet", 2, 8), ("alexnet", 0, 12), ("lenet5", 2, 4), ("lenet5", 0, 8)])
def test_the_least_image_is_enough(least):
    name, padding, side = least
    assert built(name, (1, side, side), first_padding=padding).shape == (1, side, side)


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("cifar_resnet", {"depth": 18}, r"6n \+ 2 layers \(8, 14, 20, .*\), not 18"),
        ("convnet", {"norm": "group", "width": 6}, "norm: group makes 4 groups, so width must be a multiple of 4, not 6"),
        ("vgg", {"norm": "none", "norm_init": "uniform"}, "norm_init: uniform draws the weights of norms, and norm: none"),
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


# -- functions, against networks written out


def normalised(w: dict[str, Tensor], name: str, x: Tensor, kind: str, train: bool) -> Tensor:
    if kind == "none":
        return x
    n, c, _, _ = x.shape
    if kind == "batch":
        mean, var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        if not train:
            mean, var = w[f"{name}.running_mean"], w[f"{name}.running_var"]
        x = (x - mean.view(1, c, 1, 1)) / (var.view(1, c, 1, 1) + 1e-5).sqrt()
    else:
        groups = x.reshape(n, {"instance": c, "layer": 1, "group": 4}[kind], -1)
        centred = groups - groups.mean(2, keepdim=True)
        x = (centred / (centred.square().mean(2, keepdim=True) + 1e-5).sqrt()).view_as(x)
    return x * w[f"{name}.weight"].view(1, c, 1, 1) + w[f"{name}.bias"].view(1, c, 1, 1)


def residual_logits(w: dict[str, Tensor], x: Tensor, strides: list[int], kind: str, train: bool) -> Tensor:
    """A residual network from its state alone: every layer's weight, in the order of its names."""

    def convolved(x: Tensor, conv: str, bn: str, stride: int = 1) -> Tensor:
        weight = w[f"{conv}.weight"]
        x = F.conv2d(x, weight, w.get(f"{conv}.bias"), stride, padding=weight.shape[-1] // 2)
        return normalised(w, bn, x, kind, train)

    x = convolved(x, "conv", "bn").clamp(min=0)
    for i, stride in enumerate(strides):
        at = f"blocks.{i}."
        inner = convolved(x, f"{at}conv1", f"{at}bn1", stride).clamp(min=0)
        inner = convolved(inner, f"{at}conv2", f"{at}bn2")
        if f"{at}shortcut.0.weight" in w:
            x = convolved(x, f"{at}shortcut.0", f"{at}shortcut.1", stride)
        x = (inner + x).clamp(min=0)
    return x.flatten(2).mean(2) @ w["fc.weight"].T + w["fc.bias"]


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize(
    ("name", "depth", "strides"),
    [("cifar_resnet", 14, [1, 1, 2, 1, 2, 1]), ("resnet", 10, [1, 2, 2, 2]), ("resnet", 18, [1, 1, 2, 1, 2, 1, 2, 1])],
)
def test_residual_networks_are_what_their_state_says(name, depth, strides, kind, train):
    model = built(name, (2, 13, 16), depth=depth, norm=kind)
    state, x = uneven(model), noise(4, 2, 13, 16)
    assert (model.batch_norms, any(n.startswith("blocks.0.shortcut") for n in state)) == (kind == "batch", False)
    expected = residual_logits(dict(state), x, strides, kind, train)
    torch.testing.assert_close(model(dict(state), x, train=train), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("kind", "shape", "pooled"), [*((k, (2, 34, 33), 4) for k in NORMS), ("batch", (1, 8, 8), 3), ("group", (1, 3, 9), 1)]
)
def test_vgg_is_what_its_state_says(kind, shape, pooled):
    model = built("vgg", shape, depth=11, norm=kind)
    w, x = uneven(model), noise(3, *shape)
    out = model(dict(w), x)
    h = x
    for number in (0, 2, 4, 5, 7, 8, 10, 11):
        h = F.conv2d(h, w[f"layers.{number}.conv.weight"], w[f"layers.{number}.conv.bias"], padding=1)
        h = normalised(w, f"layers.{number}.bn", h, kind, False).clamp(min=0)
        if number in (0, 2, 5, 8)[:pooled]:
            even = h[:, :, : h.shape[2] // 2 * 2, : h.shape[3] // 2 * 2]
            h = even.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).amax((3, 5))
    torch.testing.assert_close(out, h.mean((2, 3)) @ w["fc.weight"].T + w["fc.bias"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("kind", NORMS)
def test_convnet_is_what_its_state_says(kind):
    model = built("convnet", norm=kind)
    w, h = uneven(model), noise(3, *DIGITS)
    out, step = model(dict(w), h), 3 if kind == "none" else 4
    for layer in (0, step):
        h = F.conv2d(h, w[f"{layer}.weight"], w[f"{layer}.bias"], padding=1)
        h = F.avg_pool2d(normalised(w, str(layer + 1), h, kind, False).clamp(min=0), 2)
    last = 2 * step + 1
    torch.testing.assert_close(out, h.flatten(1) @ w[f"{last}.weight"].T + w[f"{last}.bias"], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("name", "layers", "shape"),
    [
        # of each convolution its number, its padding and whether pooling follows; then the linear layers
        ("alexnet", ([(0, 2, True), (3, 2, True), (6, 1, False), (8, 1, False), (10, 1, True)], [14]), (3, 17, 16)),
        ("lenet5", ([(0, 2, True), (3, 0, True)], [7, 9, 11]), (1, 28, 28)),
        ("lenet5", ([(0, 2, True), (3, 2, True)], [7, 9, 11]), (1, 8, 8)),
    ],
)
def test_plain_networks_are_what_their_state_says(name, layers, shape):
    model = built(name, shape)
    w, h = uneven(model), noise(2, *shape)
    out = model(dict(w), h)
    for number, padding, pooled in layers[0]:
        h = F.conv2d(h, w[f"{number}.weight"], w[f"{number}.bias"], padding=padding).clamp(min=0)
        h = F.max_pool2d(h, 2) if pooled else h
    h = h.flatten(1)
    for number in layers[1]:
        h = (h if number == layers[1][0] else h.clamp(min=0)) @ w[f"{number}.weight"].T + w[f"{number}.bias"]
    torch.testing.assert_close(out, h, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", MODELS)
def test_evaluation_is_deterministic_and_per_example(name):
    """In evaluation the state is left alone, and an image's logits do not depend on the images beside it."""
    model = built(name)
    state, x = uneven(model), noise(4, *DIGITS)
    before = {n: t.clone() for n, t in state.items()}
    out = model(state, x)
    assert torch.equal(out, model(state, x)) and all(torch.equal(t, before[n]) for n, t in state.items())
    torch.testing.assert_close(out[1:2], model(state, x[1:2]), rtol=1e-10, atol=1e-10)
    assert not model.module.training


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("kind", NORMS)
def test_training_mode_is_batch_statistics_and_nothing_else(name, kind):
    model = built(name, (1, 32, 32), norm=kind)
    state, x = uneven(model), noise(4, 1, 32, 32)
    evaluated, before = model(state, x), {n: t.clone() for n, t in state.items()}
    trained = model(state, x, train=True)
    moved = {n for n, t in state.items() if not torch.equal(t, before[n])}
    assert moved == set(state) - set(model.parameters) and bool(moved) == (kind == "batch")
    assert torch.equal(trained, evaluated) != (kind == "batch")


# -- initialisation

STD = {
    "kaiming_normal": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "kaiming_uniform": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "xavier_normal": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "default": lambda fan_in, fan_out: math.sqrt(1 / (3 * fan_in)),
}
WIDE = {"convnet": {"width": 24}, "lenet": {"hidden": (90, 60)}, "cifar_resnet": {"width": 12}, "resnet": {"width": 8}}


@pytest.mark.parametrize("init", ["default", "kaiming_normal", "kaiming_uniform", "xavier_normal", "orthogonal"])
@pytest.mark.parametrize("name", sorted(set(MODELS) - {"alexnet"}))
def test_weights_are_drawn_as_asked(name, init):
    wide = WIDE.get(name, {})
    state, plain = built(name, init=init, **wide).fresh(0, "init"), built(name, **wide).fresh(0, "init")
    model = built(name, **wide)
    assert all(torch.equal(t, plain[n]) == (init == "default" or n not in model.prunable) for n, t in state.items())
    for n in model.prunable:
        w = state[n].double()
        rows = w.flatten(1)
        if init == "orthogonal":
            small = rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows
            torch.testing.assert_close(small, torch.eye(len(small), dtype=torch.float64), rtol=0, atol=1e-5)
            continue
        area = w[0, 0].numel()
        expected = STD[init](rows.shape[1], w.shape[0] * area)
        # five standard errors of a normal's standard deviation, at least
        assert float(w.square().mean().sqrt()) == pytest.approx(expected, rel=5 / math.sqrt(2 * w.numel()))
        # a uniform draw ends at sqrt(3) standard deviations, a normal one does not
        reach = float(w.abs().max()) / expected / math.sqrt(3)
        assert reach <= 1 + 1e-6 if init in ("default", "kaiming_uniform") else reach > 1 or w.numel() < 100
    again = built(name, init=init, **wide).fresh(0, "init")
    assert all(torch.equal(t, again[n]) for n, t in state.items())


def test_alexnet_is_drawn_as_asked() -> None:
    plain, other = built("alexnet").fresh(0, "init"), built("alexnet", init="kaiming_normal").fresh(0, "init")
    assert float(plain["3.weight"].std()) == pytest.approx(math.sqrt(1 / (3 * 128 * 25)), rel=0.01)
    assert float(other["3.weight"].std()) == pytest.approx(math.sqrt(2 / (128 * 25)), rel=0.01)


@pytest.mark.parametrize("name", NORMED)
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_weights_of_norms_are_ones_or_uniform(name, kind):
    plain = built(name, norm=kind, width=16).fresh(0, "init")
    drawn = built(name, norm=kind, width=16, norm_init="uniform").fresh(0, "init")
    changed = [n for n, t in drawn.items() if not torch.equal(t, plain[n])]
    assert changed and all(torch.equal(plain[n], torch.ones_like(plain[n])) for n in changed)
    assert set(changed) == {n for n, t in plain.items() if n.endswith("weight") and t.dim() == 1}
    assert all(torch.equal(drawn[n.replace("weight", "bias")], torch.zeros(len(drawn[n]))) for n in changed)
    values = torch.cat([drawn[n] for n in changed])
    assert 0 <= float(values.min()) < 0.1 and 0.9 < float(values.max()) < 1
    assert float(values.mean()) == pytest.approx(0.5, abs=5 / math.sqrt(12 * len(values)))


# -- what training, distillation and accounting ask of a network


@pytest.mark.parametrize("name", MODELS)
def test_building_is_silent_and_leaves_the_global_generator(name):
    before = torch.random.get_rng_state()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = built(name)
        model(model.fresh(0, "init"), torch.randn(2, *DIGITS, generator=torch.Generator()))
        assert flops_of_step(model, 2, torch.Size(DIGITS)) > 0
    assert torch.equal(before, torch.random.get_rng_state())


def flat(model: Model, state: dict[str, Tensor]):
    """The network as trajectory matching sees it: a function of one vector, buffers apart."""
    layout = shapes(select(state, model.parameters))
    buffers = {n: t.clone() for n, t in state.items() if n not in layout}
    return lambda theta, x: model({**buffers, **unflatten(theta, layout)}, x, train=True)


def roomy(name: str, changes: dict[str, Any]) -> tuple[int, int, int]:
    """Small images, with more than one pixel in the last map where instance norm needs it."""
    side = {"vgg": 32, "resnet": 9}.get(name, 8) if changes.get("norm") == "instance" else 8
    return (1, side, side)


CASES = [(name, {}) for name in ("alexnet", "lenet", "lenet5")] + [(n, {"norm": k}) for n in NORMED for k in NORMS]
MATCHED = [c for c in CASES if c[0] != "alexnet" and c[1].get("norm") not in ("layer", "none")]


@pytest.mark.parametrize(("name", "changes"), CASES, ids=str)
def test_second_derivatives(name, changes):
    """d/dx of the squared norm of the weights' gradient, along a line, against differences."""
    model = built(name, roomy(name, changes), **changes)
    state = uneven(model)
    theta, forward = flatten(state, model.parameters).requires_grad_(), flat(model, state)
    x, along, y = noise(3, *model.shape), noise(3, *model.shape, seed=1), torch.tensor([0, 1, 2])

    def squared(x: Tensor, graph: bool) -> Tensor:
        (g,) = torch.autograd.grad(F.cross_entropy(forward(theta, x), y), theta, create_graph=graph)
        return g.square().sum()

    at = x.clone().requires_grad_()
    (found,) = torch.autograd.grad(squared(at, True), at)
    step = 1e-7
    slope = (squared(x + step * along, False) - squared(x - step * along, False)) / (2 * step)
    assert float((found * along).sum()) == pytest.approx(float(slope), rel=2e-4, abs=1e-6) and bool(found.abs().sum() > 0)


@pytest.mark.parametrize(("name", "changes"), MATCHED, ids=str)
def test_trajectory_matching_takes_the_network(name, changes):
    """Parameters as one vector in the module's order; the adjoint, the library and the written-out unroll agree."""
    model = built(name, shape := roomy(name, changes), **changes)
    state, target = uneven(model, 0), uneven(model, 1)
    assert model.parameters == tuple(n for n, _ in model.module.named_parameters())
    ordered = parameters_to_vector(model.module.parameters())
    assert torch.equal(flatten(model.module.state_dict(), model.parameters), ordered)
    start, end = (flatten(s, model.parameters) for s in (state, target))
    pixels, labels, log_lr = noise(3, *shape), torch.tensor([0, 1, 2]), torch.tensor(-4.0, dtype=torch.float64)
    batches = [Batch(None, None), Batch(torch.tensor([2, 0]), None)]
    inner = Inner(flat(model, state), pixels, labels, log_lr, batches)
    parts = select(state, model.parameters)
    buffers = {n: t.clone() for n, t in state.items() if n not in parts}
    expected = unrolled(lambda w, x: model({**buffers, **w}, x, train=True), parts, target, pixels, labels, log_lr, batches)
    found = matching_gradient(inner, start, end, segment=1)
    library = unrolled_gradient(model, inner, start, end, adam=False)
    for matched in (found, library):
        for a, b in zip((matched.loss, matched.pixels, matched.log_lr), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-10)
