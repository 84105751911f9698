"""Means over 2x2 pixels are torch's own, to the bit, with their gradients of first and second order."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from distill_prune.models import MODELS, build_model, pooling
from distill_prune.models.chain import Chain
from distill_prune.models.pooling import HalvingPool
from distill_prune.rng import stream
from distill_prune.training import CountFlops

SHAPES = [(64, 16, 8, 8), (3, 7, 30, 64), (40, 33, 2, 14), (1, 4, 128, 66)]


def numbers(*shape: int, kind: torch.dtype = torch.float32) -> Tensor:
    x = torch.randn(shape, generator=stream(0, "pooling")) * torch.rand(shape, generator=stream(1, "pooling")).exp()
    return x.to(kind).requires_grad_()


def derivatives(x: Tensor, means: Tensor) -> list[Tensor]:
    """The means, their gradient, and the gradient of that: the outputs' weights depend on the outputs."""
    (first,) = torch.autograd.grad(means.square().sum(), x, create_graph=True)
    (second,) = torch.autograd.grad((first * x.detach().cos()).sum(), x)
    return [means, first, second]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("piece", [1, pooling.PIECE])
def test_bits_are_those_of_torch(
    piece: int, shape: tuple[int, ...], kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pooling, "PIECE", piece)
    x = numbers(*shape, kind=kind)
    assert x.numel() > pooling.LARGE
    ours, torchs = derivatives(x, HalvingPool()(x)), derivatives(x, F.avg_pool2d(x, 2))
    assert all(torch.equal(a, b) for a, b in zip(ours, torchs, strict=True))
    by_row = x.detach().to(memory_format=torch.channels_last)
    assert torch.equal(HalvingPool()(by_row), torchs[0])


def test_derivatives_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "LARGE", 0)
    x = numbers(2, 3, 4, 6, kind=torch.float64)
    assert "_Means" in str(HalvingPool()(x).grad_fn)
    torch.autograd.gradcheck(HalvingPool(), (x,))
    torch.autograd.gradgradcheck(HalvingPool(), (x,))


def test_odd_sides_transforms_and_counters_see_torchs_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pooling, "LARGE", 0)
    odd, x = numbers(2, 3, 5, 7), numbers(4, 2, 3, 4, 6)
    assert torch.equal(HalvingPool()(odd), F.avg_pool2d(odd, 2))
    assert torch.equal(torch.func.vmap(HalvingPool())(x), torch.stack([F.avg_pool2d(part, 2) for part in x]))
    with CountFlops() as counter:
        HalvingPool()(x[0]).sum().backward()
    assert not counter.total


def test_convolutional_networks_stay_chains_with_closed_forms() -> None:
    model = build_model(MODELS["convnet"].Settings.model_validate({"depth": 2, "width": 4}), (1, 8, 8), 3)
    assert any(isinstance(layer, HalvingPool) for layer in model.module)
    assert Chain.of(model.module, model.shape) is not None
