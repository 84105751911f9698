"""Augmentation against per-sample twins, its gradients, its draws."""

from __future__ import annotations

import math

import pytest
import reference_data as reference
import torch
import torch.nn.functional as F
from pydantic import TypeAdapter, ValidationError
from torch.autograd import gradcheck, gradgradcheck

from distill_prune.data.augment import FAMILIES, Augment, apply, apply_lanes, draw, draw_lanes
from distill_prune.rng import stream

DSA = "color_crop_cutout_flip_scale_rotate"


def images(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=stream(seed, "images"))


@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (4, 1, 9, 6), (3, 2, 5, 12)])
@pytest.mark.parametrize("strategy", [*FAMILIES, "crop+flip", "rotate+cutout+color", "+".join(FAMILIES)])
def test_equals_the_twin(strategy: str, shape: tuple[int, ...]) -> None:
    x = images(*shape)
    for seed in range(3):
        drawn = draw(strategy, shape, stream(seed, "test"))
        expected = reference.augmented(x, drawn.families, drawn.parameters)
        torch.testing.assert_close(apply(x, drawn), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", ["scale", "rotate"])
def test_warps_equal_grid_sample(family: str) -> None:
    x = images(6, 3, 32, 32)
    drawn = draw(family, tuple(x.shape), stream(0, "test"))
    p = {k: t.double() for k, t in drawn.parameters[family].items()}
    theta = torch.zeros(6, 2, 3, dtype=torch.float64)
    if family == "scale":
        theta[:, 0, 0], theta[:, 1, 1] = p["horizontal"], p["vertical"]
    else:
        theta[:, 0, 0], theta[:, 0, 1] = p["angle"].cos(), -p["angle"].sin()
        theta[:, 1, 0], theta[:, 1, 1] = p["angle"].sin(), p["angle"].cos()
    grid = F.affine_grid(theta, list(x.shape), align_corners=True)
    expected = F.grid_sample(x, grid, mode="bilinear", padding_mode="zeros", align_corners=True)
    torch.testing.assert_close(apply(x, drawn), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients(family: str) -> None:
    x = images(3, 2, 5, 5).requires_grad_()
    drawn = draw(family, tuple(x.shape), stream(1, "test"))
    assert gradcheck(lambda t: apply(t, drawn), (x,))
    assert gradgradcheck(lambda t: apply(t, drawn).pow(3), (x,))


@pytest.mark.parametrize("strategy", [*FAMILIES, DSA, "crop+flip"])
def test_replay(strategy: str) -> None:
    x = images(8, 3, 8, 8).float()
    drawn = draw(strategy, tuple(x.shape), stream(2, "test"))
    once, again = apply(x, drawn), apply(x, drawn)
    assert torch.equal(once, again)
    assert once.shape == x.shape and once.dtype == x.dtype
    assert torch.equal(once, apply(x, draw(strategy, tuple(x.shape), stream(2, "test"))))
    assert not torch.equal(once, apply(x, draw(strategy, tuple(x.shape), stream(3, "test"))))
    torch.testing.assert_close(once.double(), apply(x.double(), drawn), rtol=0, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_parameters_differ_between_samples(family: str) -> None:
    for values in draw(family, (64, 3, 32, 32), stream(0, "test")).parameters[family].values():
        assert values.shape == (64,) and values.device.type == "cpu"
        assert len(values.unique()) >= (2 if family == "flip" else 9)


def test_one_family_a_call_uniformly() -> None:
    names = DSA.split("_")
    calls = 1800
    found = [draw(DSA, (1, 1, 8, 8), stream(0, "test", call=i)).families for i in range(calls)]
    assert all(len(f) == 1 for f in found)
    expected, sd = calls / 6, math.sqrt(calls * 5 / 36)
    for name in names:
        assert abs(found.count((name,)) - expected) < 4 * sd


def test_all_families_in_the_order_written() -> None:
    assert draw("crop+flip", (2, 1, 8, 8), stream(0, "test")).families == ("crop", "flip")
    assert draw("flip+crop", (2, 1, 8, 8), stream(0, "test")).families == ("flip", "crop")


def parameters(family: str, n: int = 20000) -> dict[str, torch.Tensor]:
    return dict(draw(family, (n, 3, 32, 32), stream(5, "test")).parameters[family])


def test_ranges_are_those_of_dsa() -> None:
    def check(values: torch.Tensor, low: float, high: float) -> None:
        assert low <= float(values.min()) and float(values.max()) <= high
        assert abs(float(values.double().mean()) - (low + high) / 2) < 0.02 * (high - low)
        assert float(values.max() - values.min()) > 0.99 * (high - low)

    p = parameters("color")
    check(p["brightness"], -0.5, 0.5)
    check(p["saturation"], 0, 2)
    check(p["contrast"], 0.5, 1.5)
    for values in parameters("scale").values():
        check(values, 1 / 1.2, 1.2)
    check(parameters("rotate")["angle"], -math.radians(15) - 1e-6, math.radians(15) + 1e-6)
    for values in parameters("crop").values():
        assert values.unique().tolist() == list(range(-4, 5))
    for values in parameters("cutout").values():  # a hole of 16 whose middle is 0..32
        assert values.unique().tolist() == list(range(-8, 25))
    assert abs(float(parameters("flip")["flip"].float().mean()) - 0.5) < 0.02


def test_none_returns_the_batch_itself() -> None:
    x = images(2, 1, 4, 4)
    assert apply(x, draw("none", tuple(x.shape), stream(0, "test"))) is x


@pytest.mark.parametrize("strategy", ["crop+rotate", DSA])
def test_lanes_are_augmented_as_each_alone(strategy: str) -> None:
    x = images(12, 4, 1, 8, 8)
    drawn = draw_lanes(strategy, tuple(x.shape[1:]), [stream(i, "test") for i in range(len(x))])
    assert sorted(i for members in drawn.members for i in members) == list(range(len(x)))
    assert len({draw.families for draw in drawn.draws}) == len(drawn.draws)
    for i, (batch, result) in enumerate(zip(x, apply_lanes(x, drawn), strict=True)):
        assert torch.equal(result, apply(batch, draw(strategy, tuple(batch.shape), stream(i, "test"))))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("flop", "unknown augmentation 'flop' in 'flop': did you mean 'flip'"),
        ("color_noise", "unknown augmentation 'noise' in 'color_noise'"),
        ("crop+rotat", "did you mean 'rotate'"),
        ("", "unknown augmentation ''"),
        ("crop_flip+crop", "a family is given twice"),
        ("crop_flip+", "unknown augmentation ''"),
        ("crop_crop", "a family is given twice"),
        ("none+crop", "unknown augmentation 'none' in 'none\\+crop': one of: color"),
    ],
)
def test_refused_strategies(text: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TypeAdapter(Augment).validate_python(text)
    with pytest.raises(ValueError, match=message):
        draw(text, (1, 1, 4, 4), stream(0, "test"))


def test_parts_with_a_choice_use_one_family_of_it() -> None:
    drawn = [draw("flip+color+crop_scale_rotate", (2, 3, 8, 8), stream(i, "test")).families for i in range(200)]
    assert {d[:2] for d in drawn} == {("flip", "color")} and all(len(d) == 3 for d in drawn)
    counts = {name: sum(d[2] == name for d in drawn) for name in ("crop", "scale", "rotate")}
    assert sum(counts.values()) == 200 and min(counts.values()) > 40


@pytest.mark.parametrize("text", ["none", "flip", DSA, "crop+flip", "flip+crop_scale"])
def test_accepted_strategies(text: str) -> None:
    assert TypeAdapter(Augment).validate_python(text) == text
