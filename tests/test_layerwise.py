from __future__ import annotations

import copy

import pytest
import torch
from reference_analyze import examples_of, mask_of, state_of, tiny
from reference_lines import STREAMS, at, bowl, measured, norm_batches, of_class_0, weights, wells, written
from torch import nn

from distill_prune.analyze.layerwise import layers_of
from distill_prune.analyze.line import CURVES, barrier, excess
from distill_prune.models import Model, build_model
from distill_prune.models.convnet import Settings as ConvNet
from distill_prune.progress import Progress


def run(model, copies, train, test, **settings):
    return measured("layerwise", model, copies, train, test, **settings)


def moved(a, b, layer, alpha):
    """a with one layer's tensors mixed with b's, key by key."""
    state = copy.deepcopy(a)
    for name in a:
        if name.startswith(layer + ".") and a[name].is_floating_point():
            state[name] = (1 - alpha) * a[name] + alpha * b[name]
    return state


@pytest.mark.parametrize("kind", ["instance", "batch", "none"])
def test_every_line_equals_one_example_at_a_time(kind):
    model = tiny(kind)
    a, b = state_of(model, 0), state_of(model, 1)
    train, test = examples_of(model, 30, 1), examples_of(model, 13, 2)
    numbers = run(model, [a, b], train, test, points=3, norm_rows=20, norm_batch=10)
    batches = norm_batches(train, 20, 10) if kind == "batch" else None
    assert numbers["alphas"] == [0, 0.5, 1]
    (pair,) = numbers["pairs"]
    names = {"instance": ["0", "1", "5"], "batch": ["0", "1", "5"], "none": ["0", "4"]}[kind]
    assert list(numbers["layers"]) == list(pair["layers"]) == names
    for layer, found in pair["layers"].items():
        assert [end["at"] for end in found["ends"]] == [0, 1]
        slow = {}
        for end, (this, other) in zip(found["ends"], ((a, b), (b, a)), strict=True):
            scores = [at(model, moved(this, other, layer, alpha), test, batches) for alpha in (0, 0.5, 1)]
            for k, curve in enumerate(("test_error", "test_loss")):
                values = [s[k] for s in scores]
                assert end["curves"][curve] == pytest.approx(values)
                assert end["barrier"][curve] == pytest.approx(barrier(values))
                slow.setdefault(curve, []).append((barrier(values), excess(values, (0, 0.5, 1))))
        for curve, values in slow.items():
            held = numbers["layers"][layer]
            assert held["barrier"][curve]["mean"] == pytest.approx(sum(v[0] for v in values) / 2)
            assert held["excess"][curve]["mean"] == pytest.approx(sum(v[1] for v in values) / 2, abs=1e-12)
        assert found["ends"][0]["curves"]["test_loss"][0] == pytest.approx(at(model, a, test, batches)[1])


def test_where_one_layer_differs_its_line_is_that_of_the_whole():
    model = tiny("batch")
    a, other = state_of(model, 0), state_of(model, 1)
    b = a | {n: t for n, t in other.items() if n.startswith("0.")}
    data = examples_of(model, 30, 1), examples_of(model, 25, 2)
    options = {"points": 7, "norm_rows": 20, "norm_batch": 10}
    numbers, whole = run(model, [a, b], *data, **options), measured("connectivity", model, [a, b], *data, **options)
    (pair,), (line,) = numbers["pairs"], whole["pairs"]
    forth, back = pair["layers"]["0"]["ends"]
    for curve in CURVES:
        assert forth["curves"][curve] == pytest.approx(line["curves"][curve])
        assert back["curves"][curve] == pytest.approx(line["curves"][curve][::-1])
        assert numbers["layers"]["0"]["barrier"][curve]["mean"] == pytest.approx(whole["barrier"][curve]["mean"])
        assert numbers["layers"]["0"]["excess"][curve]["mean"] == pytest.approx(whole["excess"][curve]["mean"], abs=1e-12)
        for still in ("1", "5"):
            assert numbers["layers"][still]["barrier"][curve]["mean"] == 0
            assert numbers["layers"][still]["excess"][curve]["mean"] == 0
    assert pair["layers"]["0"]["distance"] == pytest.approx(line["distance"]) and pair["layers"]["5"]["distance"] == 0


def two(loss) -> Model:
    """A loss of two modules' weights."""

    class Net(nn.Module):
        prunable = ("left.weight", "right.weight")

        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            odds = torch.log(torch.expm1(loss(self.left.weight[0, 0], self.right.weight[0, 0]) + 1))
            return torch.stack([torch.zeros_like(odds), odds]).expand(len(x), 2)

    return Model(Net, (1, 1, 1), 2, "two")


def both(left, right):
    return {n: torch.tensor([[v]], dtype=torch.float64) for n, v in (("left.weight", left), ("right.weight", right))}


def test_layers_that_must_fit_together_have_barriers_that_the_whole_has_not():
    """(l - r)^2 is zero on the whole line from (0, 0) to (1, 1); moving one alone climbs to 1 at the far end: barrier
    1 - (0 + 1) / 2, and no excess, for a parabola is convex."""
    numbers = run(
        two(lambda left, right: (left - right) ** 2), [both(0.0, 0.0), both(1.0, 1.0)], of_class_0(), of_class_0(), points=11
    )
    for layer in ("left", "right"):
        assert numbers["layers"][layer]["barrier"]["test_loss"]["mean"] == pytest.approx(0.5)
        assert numbers["layers"][layer]["excess"]["test_loss"]["mean"] == 0
    whole = measured(
        "connectivity",
        two(lambda left, right: (left - right) ** 2),
        [both(0.0, 0.0), both(1.0, 1.0)],
        of_class_0(),
        of_class_0(),
    )
    assert whole["barrier"]["test_loss"]["mean"] == pytest.approx(0, abs=1e-14)


def test_the_two_ends_are_averaged():
    """(l^2 - 1)^2 (1 + r): the well between l = -1 and 1 is 1 high at r = 0 and 3 high at r = 2."""
    model = two(lambda left, right: (left**2 - 1) ** 2 * (1 + right))
    numbers = run(model, [both(-1.0, 0.0), both(1.0, 2.0)], of_class_0(), of_class_0(), points=11)
    ends = numbers["pairs"][0]["layers"]["left"]["ends"]
    assert [end["barrier"]["test_loss"] for end in ends] == pytest.approx([1, 3])
    left = numbers["layers"]["left"]["barrier"]["test_loss"]
    assert left["mean"] == pytest.approx(2) and left["n"] == 1, "two lines of one pair are one value"
    assert numbers["layers"]["right"]["barrier"]["test_loss"]["mean"] == pytest.approx(0, abs=1e-14)
    assert numbers["layers"]["left"]["distance"]["mean"] == 2


def test_pairs_give_a_spread_and_no_interval():
    model = tiny("none")
    copies = [state_of(model, s) for s in range(3)]
    numbers = run(model, copies, examples_of(model, 12), examples_of(model, 12), points=3)
    assert [p["copies"] for p in numbers["pairs"]] == [[0, 1], [0, 2], [1, 2]]
    for held in numbers["layers"].values():
        for one in (*held["barrier"].values(), *held["excess"].values(), held["distance"]):
            assert one["n"] == 3 and one["sd"] is not None and one["se"] is None and one["low"] is None
    flat = [torch.cat([c[n].flatten() for n in ("0.weight", "0.bias")]) for c in copies]
    apart = [float((flat[i] - flat[j]).norm()) for i, j in ((0, 1), (0, 2), (1, 2))]
    assert numbers["layers"]["0"]["distance"]["mean"] == pytest.approx(sum(apart) / 3)


def test_layers_are_modules_with_all_their_tensors():
    model = build_model(ConvNet(depth=2, width=4, norm="batch"), (1, 8, 8), 3)
    layers = layers_of(model)
    assert sorted(n for names in layers.values() for n in names) == sorted(model.module.state_dict())
    norm = next(names for names in layers.values() if any(n.endswith("running_var") for n in names))
    assert {n.rpartition(".")[2] for n in norm} == {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}
    assert layers_of(written(wells, 2)) == {"weight": ["weight"]}, "a parameter of the network itself has its own name"


def test_a_network_of_one_layer_is_its_own_line():
    arguments = written(bowl(3), 3), [weights(1.0, 0.0, 2.0), weights(-1.0, 3.0, 0.0)], of_class_0(), of_class_0()
    one, whole = run(*arguments, points=9)["layers"]["weight"], measured("connectivity", *arguments, points=9)
    assert one["barrier"]["test_loss"]["mean"] == pytest.approx(whole["barrier"]["test_loss"]["mean"])


def test_rows_are_recorded_and_those_of_train_are_connectivitys():
    model = tiny("batch")
    copies = [state_of(model, s) for s in range(2)]
    data = examples_of(model, 30), examples_of(model, 20, 1)
    options = {"points": 2, "train_rows": 7, "norm_rows": 20, "norm_batch": 10}
    numbers = run(model, copies, *data, **options, test_rows=9)
    whole = measured("connectivity", model, copies, *data, **options)
    assert numbers["rows"]["train"] == whole["rows"]["train"] and numbers["rows"]["norm"] == whole["rows"]["norm"]
    assert numbers["rows"]["test"]["count"] == 9
    index = torch.randperm(20, generator=STREAMS("connectivity", "test"))[:9]
    mine = at(model, copies[0], data[1].take(index), norm_batches(data[0], 20, 10))
    assert numbers["pairs"][0]["layers"]["0"]["ends"][0]["curves"]["test_loss"][0] == pytest.approx(mine[1])


def test_copies_are_left_as_they_were_and_the_numbers_are_the_same_again():
    model = tiny("batch")
    copies = [mask_of(model, state_of(model, 0), 1).apply(state_of(model, s)) for s in range(2)]
    before = copy.deepcopy(copies)
    first = run(model, copies, examples_of(model, 12), examples_of(model, 12), points=3)
    assert run(model, copies, examples_of(model, 12), examples_of(model, 12), points=3) == first
    assert all(torch.equal(t, b[n]) for c, b in zip(copies, before, strict=True) for n, t in c.items())


def test_progress_reaches_its_end():
    seen = []

    class Ticks(Progress):
        def tick(self, done, total, note=""):
            seen.append((done, total))

    model = tiny("none")
    run(model, [state_of(model, s) for s in range(3)], examples_of(model, 5), examples_of(model, 5), points=2, progress=Ticks())
    assert seen == [(i, 24) for i in range(1, 25)]  # three pairs, two layers, two ends, two points
