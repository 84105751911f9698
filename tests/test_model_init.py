"""How weights are drawn: their spread, their reach and their orthogonality, and the weights of norms."""

from __future__ import annotations

import math

import pytest
import torch
from reference_models import NORMED, TINY, built

STD = {
    "kaiming_normal": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "kaiming_uniform": lambda fan_in, fan_out: math.sqrt(2 / fan_in),
    "xavier_normal": lambda fan_in, fan_out: math.sqrt(2 / (fan_in + fan_out)),
    "default": lambda fan_in, fan_out: math.sqrt(1 / (3 * fan_in)),
}
WIDE = {"convnet": {"width": 24}, "lenet": {"hidden": (90, 60)}, "cifar_resnet": {"width": 12}, "resnet": {"width": 8}}


@pytest.mark.parametrize("init", ["default", "kaiming_normal", "kaiming_uniform", "xavier_normal", "orthogonal"])
@pytest.mark.parametrize("name", sorted(set(TINY) - {"alexnet"}))
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
