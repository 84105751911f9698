"""Functions of networks against networks written out from their state alone, in evaluation and in training mode."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from reference import uneven
from reference_models import DIGITS, NORMED, NORMS, TINY, built, noise
from torch import Tensor


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


@pytest.mark.parametrize("name", sorted(TINY))
def test_evaluation_is_deterministic_and_per_example(name):
    """In evaluation the state is left alone, and an image's logits do not depend on the images beside it."""
    model = built(name)
    state, x = uneven(model), noise(4, *DIGITS)
    before = {n: t.clone() for n, t in state.items()}
    out = model(state, x)
    assert torch.equal(out, model(state, x)) and all(torch.equal(t, before[n]) for n, t in state.items())
    torch.testing.assert_close(out[1:2], model(state, x[1:2]), rtol=1e-10, atol=1e-10)
    assert not model.module.training


@pytest.mark.parametrize("name", sorted(TINY))
def test_no_call_changes_the_mode_of_the_shared_module(name):
    model = built(name)
    state, x = uneven(model), noise(4, *DIGITS)
    modes = {n: layer.training for n, layer in model.module.named_modules()}
    for train in (True, False, True):
        model(dict(state), x, train=train)
        assert {n: layer.training for n, layer in model.module.named_modules()} == modes
    assert not model.instance(state).training


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
