"""Interchangeable units: a network in another order is the same function; weight matching finds an order that was hidden."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from reference import uneven
from reference_models import NORMED, NORMS, TINY, built
from torch import nn

from distill_prune.errors import NonFiniteError, RunError, UserError
from distill_prune.models import Model
from distill_prune.models.permutations import (
    Axis,
    check_same_function,
    fixed,
    permuted,
    specification,
    weight_matching,
)

WHAT = "rebasin"
SHAPES = {"alexnet": (1, 12, 12), "convnet": (2, 9, 10), "lenet5": (1, 12, 12), "resnet": (1, 16, 16), "vgg": (1, 32, 32)}
"""Inputs whose last map has several pixels."""
CASES = [(name, norm) for name in TINY for norm in (NORMS if name in NORMED else (None,)) if norm != "group"]


def network(name, norm=None):
    return built(name, SHAPES.get(name, (1, 8, 8)), **({"norm": norm} if norm else {}))


def drawn(seed=0):
    return torch.Generator().manual_seed(seed)


def lively(model, seed=0):
    """A state with running statistics and counters that are not at their defaults."""
    state = uneven(model, seed)
    return {n: t + 7 if n.endswith("num_batches_tracked") else t for n, t in state.items()}


def shuffled(spec, seed=3):
    generator = drawn(seed)
    return {group: torch.randperm(size, generator=generator) for group, size in spec.sizes.items()}


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_a_network_in_another_order_gives_equal_outputs(name, norm):
    model = network(name, norm)
    spec, state = specification(model, WHAT), lively(model)
    orders = shuffled(spec)
    moved = permuted(spec, orders, state)
    x = torch.randn(5, *model.shape, generator=drawn(9), dtype=torch.float64)
    for train in (False, True):  # with the statistics of the batch, too
        first, second = (model({n: t.clone() for n, t in s.items()}, x, train=train).detach() for s in (state, moved))
        assert float(first.std()) > 1e-6
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-10)
    check_same_function(model, state, moved, drawn())
    # Every hidden layer is permuted, and one group alone moves its own tensors.
    assert all(not torch.equal(moved[n], state[n]) for n in model.prunable)
    for group, size in spec.sizes.items():
        if size > 1:
            one = permuted(spec, {group: orders[group].roll(1)}, state)
            assert {n for n, t in one.items() if not torch.equal(t, state[n])} == {axis.tensor for axis in spec.axes[group]}


@pytest.mark.parametrize(("name", "norm"), CASES)
def test_a_specification_that_lacks_one_tensor_is_found_out(name, norm):
    model = network(name, norm)
    spec, state = specification(model, WHAT), lively(model)
    for group in list(spec.axes)[:2]:
        for lost in spec.axes[group]:
            if norm == "instance" and lost.tensor == f"{group}.bias":
                continue  # what the norm takes away again
            axes = {**spec.axes, group: tuple(axis for axis in spec.axes[group] if axis != lost)}
            wrong = type(spec)(spec.sizes, axes, spec.parameters)
            swapped = {group: torch.arange(spec.sizes[group]).roll(1)}
            with pytest.raises(RunError, match=r"(?s)in another order is another function.*outputs differ by.*`units`"):
                check_same_function(model, state, permuted(wrong, swapped, state), drawn())


def test_one_order_goes_along_the_skip_path_of_a_stage():
    model = network("cifar_resnet", "batch")
    spec = specification(model, WHAT)
    assert list(spec.sizes) == ["conv", *(f"blocks.{i}.conv{j}" for i, j in ((0, 1), (1, 1), (1, 2), (2, 1), (2, 2)))]
    stem = {axis for axis in spec.axes["conv"] if axis.tensor.endswith("weight")}
    assert stem >= {
        Axis("conv.weight", 0), Axis("blocks.0.conv1.weight", 1), Axis("blocks.0.conv2.weight", 0),
        Axis("blocks.1.conv1.weight", 1), Axis("blocks.1.shortcut.0.weight", 1),
    }  # fmt: skip
    assert Axis("blocks.1.shortcut.0.weight", 0) in spec.axes["blocks.1.conv2"]


def test_an_order_of_channels_moves_blocks_of_columns_behind_flatten():
    model = network("convnet", "none")
    spec, state = specification(model, WHAT), lively(model)
    head = model.prunable[-1]
    order = torch.tensor([2, 0, 3, 1])
    moved = permuted(spec, {list(spec.sizes)[-1]: order}, state)[head]
    pixels = state[head].shape[1] // 4
    for place, unit in enumerate(order.tolist()):
        assert torch.equal(moved[:, place * pixels : (place + 1) * pixels], state[head][:, unit * pixels : (unit + 1) * pixels])
    assert pixels > 1


# -- weight matching


@pytest.mark.parametrize(
    ("name", "norm"), [("lenet", None), ("convnet", "instance"), ("cifar_resnet", "batch"), ("vgg", "none")]
)
def test_a_hidden_order_is_found_again(name, norm):
    model = network(name, norm)
    spec, a = specification(model, WHAT), lively(model)
    hidden = shuffled(spec)
    orders = weight_matching(spec, a, permuted(spec, hidden, a), drawn())
    for group, order in orders.items():
        assert torch.equal(hidden[group][order], torch.arange(spec.sizes[group])), group
    back = permuted(spec, orders, permuted(spec, hidden, a))
    assert all(torch.equal(t, back[n]) for n, t in a.items())


def apart(spec, a, b, orders):
    moved = permuted(spec, orders, b)
    return sum(float((a[n] - moved[n]).square().sum()) for n in spec.parameters)


def test_no_order_of_one_layer_is_better():
    """Every order of each layer is tried, the others as they were chosen: a local optimum."""
    model = built("lenet", (1, 2, 2), hidden=(5, 4))
    spec, a, b = specification(model, WHAT), uneven(model, 0), uneven(model, 1)
    orders = weight_matching(spec, a, b, drawn())
    least = apart(spec, a, b, orders)
    assert least < apart(spec, a, b, {g: torch.arange(n) for g, n in spec.sizes.items()})
    for group, size in spec.sizes.items():
        tried = [apart(spec, a, b, {**orders, group: torch.tensor(p)}) for p in permutations(range(size))]
        assert min(tried) == pytest.approx(least, rel=1e-12)


@pytest.mark.parametrize(("name", "norm", "settings"), [("lenet", None, {"hidden": (5,)}), ("convnet", "batch", {"depth": 1})])
def test_of_one_hidden_layer_it_is_the_nearest_of_all_orders(name, norm, settings):
    model = built(name, (1, 4, 4), **settings, **({"norm": norm} if norm else {}))
    spec, a, b = specification(model, WHAT), lively(model, 0), lively(model, 1)
    ((group, size),) = spec.sizes.items()
    orders = weight_matching(spec, a, b, drawn())
    tried = {p: apart(spec, a, b, {group: torch.tensor(p)}) for p in permutations(range(size))}
    assert tuple(orders[group].tolist()) == min(tried, key=tried.__getitem__)


def test_the_nearest_is_the_first_s_order_and_equal_networks_stay():
    model = network("cifar_resnet", "batch")
    spec, a = specification(model, WHAT), lively(model)
    orders = weight_matching(spec, a, {n: t.clone() for n, t in a.items()}, drawn())
    assert fixed(orders) == 1 and fixed(shuffled(spec)) < 0.6
    assert fixed({}) == 1 and fixed({"0": torch.tensor([0, 2, 1, 3])}) == 0.5
    again, other = (weight_matching(spec, a, lively(model, 1), drawn(5)) for _ in range(2))
    assert all(torch.equal(order, other[g]) for g, order in again.items())
    silent = {n: torch.zeros_like(t) for n, t in a.items()}
    assert fixed(weight_matching(spec, a, silent, drawn())) == 1, "where nothing is gained nothing moves"


def test_a_mask_moves_with_its_weights():
    model = network("vgg", "batch")
    spec, state = specification(model, WHAT), lively(model)
    kept = {n: torch.rand(state[n].shape, generator=drawn(2)) < 0.3 for n in model.prunable}
    orders = shuffled(spec)
    masked = {n: t * kept[n] if n in kept else t for n, t in state.items()}
    moved, mask = permuted(spec, orders, masked), permuted(spec, orders, kept)
    assert all(torch.equal(moved[n] != 0, mask[n]) and mask[n].dtype == torch.bool for n in kept) and list(mask) == list(kept)


def test_weights_that_are_not_finite_are_refused():
    model = network("lenet")
    spec, state = specification(model, WHAT), uneven(model)
    state["1.weight"][0, 0] = float("nan")
    with pytest.raises(NonFiniteError, match="weights that are matched at '1' are not finite"):
        weight_matching(spec, uneven(model), state, drawn())


# -- what has no specification


def plain(*layers, shape=(2, 4, 4)):
    return Model(lambda: nn.Sequential(*layers), shape, 3, "plain")


class Subclass(nn.Sequential):
    pass


SHARED = nn.Linear(4, 4)


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((nn.Conv2d(2, 4, 3, groups=2), nn.Flatten(), nn.Linear(16, 3)), "Conv2d, '0'"),
        ((nn.ConvTranspose2d(2, 4, 1), nn.Flatten(), nn.Linear(64, 3)), "ConvTranspose2d, '0'"),
        ((nn.Conv2d(2, 4, 3), nn.GroupNorm(2, 4), nn.Flatten(), nn.Linear(16, 3)), "GroupNorm of 2 groups, '1'"),
        ((nn.Conv2d(2, 4, 3), nn.LayerNorm([4, 2, 2]), nn.Flatten(), nn.Linear(16, 3)), "LayerNorm, '1'"),
        ((nn.Conv2d(2, 4, 3), nn.Softmax(1), nn.Flatten(), nn.Linear(16, 3)), "Softmax, '1'"),
        ((nn.Conv2d(2, 4, 3), nn.Linear(2, 2), nn.Flatten(), nn.Linear(16, 3)), "Linear, '1'"),
        ((nn.Flatten(), nn.Linear(32, 4), SHARED, nn.ReLU(), SHARED), "network Sequential"),
        ((nn.Conv2d(2, 3, 4), nn.ReLU()), "network Sequential"),
        ((nn.Flatten(2), nn.Linear(16, 3)), "Flatten, '0'"),
    ],
)
def test_layers_that_are_no_exact_symmetry_are_refused(layers, said):
    with pytest.raises(UserError, match=rf"(?s)rebasin has no specification for this network.*{said}.*leave rebasin out"):
        specification(plain(*layers), WHAT)


@pytest.mark.parametrize("name", NORMED)
def test_norms_of_several_channels_a_group_are_refused(name):
    with pytest.raises(
        UserError, match=r"(?s)rebasin has no specification.*GroupNorm of 4 groups.*norm: batch, instance, layer"
    ):
        specification(built(name, norm="group", width=8), WHAT)


def test_other_networks_are_refused():
    for module in (Subclass(nn.Flatten(), nn.Linear(32, 3)), nn.Linear(3, 3)):
        with pytest.raises(UserError, match=f"(?s)rebasin has no specification.*a network {type(module).__name__}"):
            specification(Model(lambda module=module: module, (2, 4, 4), 3, "other"), WHAT)


def test_a_network_of_one_s_own_says_what_is_interchangeable():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.outer = nn.Linear(4, 5), nn.Linear(5, 3)

        def forward(self, x):
            return self.outer(torch.tanh(self.inner(x)))

        def units(self, groups):
            groups.layer("outer", groups.layer("inner", None), last=True)

    model = Model(Own, (4,), 3, "own")
    spec, state = specification(model, WHAT), uneven(model)
    assert spec.sizes == {"inner": 5}
    check_same_function(model, state, permuted(spec, shuffled(spec), state), drawn())
