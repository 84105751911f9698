from __future__ import annotations

import copy
import json
import math
from itertools import pairwise

import pytest
import torch
from reference_analyze import examples_of, mask_of, state_of, tiny
from reference_lines import STREAMS, at, bowl, measured, norm_batches, of_class_0, weights, written

from distill_prune.analyze.landscape import Plane, around, direction, through
from distill_prune.artifacts import Examples, Mask
from distill_prune.models import build_model
from distill_prune.models.convnet import Settings as ConvNet
from distill_prune.progress import Progress

SURFACES = ["train_error", "train_loss", "test_error", "test_loss"]


def run(model, copies, train, test, **more):
    return measured("landscape", model, copies, train, test, **more)


def scene(kind="instance", copies=3, dtype=torch.float64):
    model = tiny(kind)
    mask = mask_of(model, state_of(model, 0), 4, keep=0.7)
    states = [mask.apply(state_of(model, s)) for s in range(copies)]
    return model, [{n: t.to(dtype) if t.is_floating_point() else t for n, t in s.items()} for s in states], mask


def flat(model, state):
    return torch.cat([state[n].flatten().double() for n in model.parameters])


# the plane through the copies


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_copies_lie_on_their_marks_to_the_last_bit(dtype):
    model, copies, _ = scene("batch", dtype=dtype)
    plane = through(copies, model.parameters, 5, 0.25)
    assert isinstance(plane, Plane) and [m[2] for m in plane.marks] == ["copy 0", "copy 1", "copy 2"]
    for (x, y, _), state in zip(plane.marks, copies, strict=True):
        found = plane.point(x, y)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[n], t) and found[n].dtype == t.dtype for n, t in state.items())
    assert plane.marks[0][:2] == (0, 0) and plane.marks[1][1] == 0 and plane.marks[2][1] > 0


def test_the_plane_is_drawn_to_scale():
    """Any two points of it are as far apart as their coordinates say; slow twin by orthonormal vectors."""
    model, copies, _ = scene()
    plane = through(copies, model.parameters, 5, 0.25)
    zero, one, two = (flat(model, c) for c in copies)
    e1 = (one - zero) / (one - zero).norm()
    rest = (two - zero) - ((two - zero) @ e1) * e1
    e2 = rest / rest.norm()
    places = [(0.0, 0.0), (1.0, 0.0), (-0.7, 2.0), (3.0, -1.5), plane.marks[1][:2], plane.marks[2][:2]]
    for x, y in places:
        assert torch.allclose(flat(model, plane.point(x, y)), zero + x * e1 + y * e2, atol=1e-12)
        for v, w in places:
            apart = float((flat(model, plane.point(x, y)) - flat(model, plane.point(v, w))).norm())
            assert apart == pytest.approx(math.dist((x, y), (v, w)), abs=1e-12)


def test_the_grid_has_room_around_the_marks():
    model, copies, _ = scene()
    plane = through(copies, model.parameters, 9, 0.5)
    for axis, grid in enumerate((plane.x, plane.y)):
        low, high = min(m[axis] for m in plane.marks), max(m[axis] for m in plane.marks)
        assert len(grid) == 9 and grid[0] == pytest.approx(low - 0.5 * (high - low))
        assert grid[-1] == pytest.approx(high + 0.5 * (high - low))
        steps = [b - a for a, b in pairwise(grid)]
        assert steps == pytest.approx([steps[0]] * 8)


@pytest.mark.parametrize("kind", ["instance", "batch", "none"])
def test_every_value_equals_one_example_at_a_time(kind):
    model, copies, mask = scene(kind)
    train, test, distilled = examples_of(model, 30, 1), examples_of(model, 12, 2), examples_of(model, 6, 3)
    options = {"points": 3, "train_rows": 9, "test_rows": 7, "norm_rows": 20, "norm_batch": 10, "span": 0.5}
    numbers = run(model, copies, train, test, masks=[mask] * 3, distilled=distilled, **options)
    batches = norm_batches(train, 20, 10) if kind == "batch" else None
    looked = {
        "train": train.take(torch.randperm(30, generator=STREAMS("connectivity", "rows"))[:9]),
        "test": test.take(torch.randperm(12, generator=STREAMS("connectivity", "test"))[:7]),
        "distilled": distilled,
    }
    assert {n: r["count"] for n, r in numbers["rows"].items() if n != "norm"} == {"train": 9, "test": 7, "distilled": 6}
    planes = {
        "copies": through(copies, model.parameters, 3, 0.25),
        "directions": around(model, copies[0], mask, STREAMS, 3, 0.5),
    }
    for name, plane in planes.items():
        found = numbers["planes"][name]
        assert found["x"] == plane.x and found["y"] == plane.y and found["marks"] == [list(m) for m in plane.marks]
        assert sorted(found["surfaces"]) == sorted([*SURFACES, "distilled_error", "distilled_loss"])
        for row, y in enumerate(plane.y):
            for column, x in enumerate(plane.x):
                for part, examples in looked.items():
                    error, loss = at(model, plane.point(x, y), examples, batches)
                    assert found["surfaces"][f"{part}_error"][row][column] == pytest.approx(error)
                    assert found["surfaces"][f"{part}_loss"][row][column] == pytest.approx(loss)


@pytest.mark.parametrize("kind", ["batch", "instance"])
def test_the_surface_at_a_mark_is_the_copys_own(kind):
    model, copies, mask = scene(kind)
    train, test = examples_of(model, 30, 1), examples_of(model, 12, 2)
    numbers = run(model, copies, train, test, masks=[mask] * 3, points=2, norm_rows=20, norm_batch=10)
    line = measured("connectivity", model, copies, train, test, points=2, train_rows=1000, norm_rows=20, norm_batch=10)
    own = [line["pairs"][0]["curves"], line["pairs"][0]["curves"], line["pairs"][1]["curves"]]
    for k, end in enumerate((0, -1, -1)):
        # The same train rows in the same order: equal to the last bit. Test rows are drawn, so in another order.
        assert numbers["planes"]["copies"]["at_marks"]["train_loss"][k] == own[k]["train_loss"][end]
        assert numbers["planes"]["copies"]["at_marks"]["test_loss"][k] == pytest.approx(own[k]["test_loss"][end])
        assert numbers["planes"]["copies"]["at_marks"]["test_error"][k] == own[k]["test_error"][end]
    assert numbers["planes"]["directions"]["at_marks"]["train_loss"] == [own[0]["train_loss"][0]]
    assert numbers["planes"]["directions"]["marks"] == [[0, 0, "copy 0"]]


def test_a_bowl_in_closed_form():
    loss, corners = bowl(3), [(0.0, 0.0, 1.0), (3.0, 0.0, 1.0), (1.0, 2.0, 1.0)]
    numbers = run(written(loss, 3), [weights(*c) for c in corners], of_class_0(), of_class_0(), points=4, margin=0.5)
    plane = numbers["planes"]["copies"]
    assert plane["marks"] == [[0, 0, "copy 0"], [3, 0, "copy 1"], [pytest.approx(1), pytest.approx(2), "copy 2"]]
    assert plane["x"] == pytest.approx([-1.5, 0.5, 2.5, 4.5]) and plane["y"] == pytest.approx([-1, 1 / 3, 5 / 3, 3])
    for y, row in zip(plane["y"], plane["surfaces"]["test_loss"], strict=True):
        truly = [float(loss(torch.tensor([x, y, 1.0], dtype=torch.float64))) + 1 for x in plane["x"]]
        assert row == pytest.approx(truly)
    assert "to scale" in plane["about"] and plane["unit"] == "Euclidean distance over all parameters"
    assert numbers["about"]["copies"] == plane["about"]


def test_pruned_weights_stay_zero_on_both_planes():
    model, copies, mask = scene()
    for plane in (through(copies, model.parameters, 3, 0.25), around(model, copies[0], mask, STREAMS, 3, 1.0)):
        found = plane.point(0.37, -1.9)
        assert all(bool((found[n][~kept] == 0).all()) for n, kept in mask.kept.items())
        assert any(bool((found[n][kept] != copies[0][n][kept]).all()) for n, kept in mask.kept.items())


def test_where_no_plane_goes_through_the_copies_it_says_why():
    model, (a, b, _), _ = scene()
    data = examples_of(model, 6), examples_of(model, 6)
    middle = {n: (t + b[n]) / 2 if t.is_floating_point() else t for n, t in a.items()}
    for copies, why in (
        ([a, b], "takes three, and there are 2"),
        ([a, dict(a), b], "copies 0 and 1 are the same network"),
        ([a, b, middle], "the three lie on one line"),
        ([a, b, dict(b)], "the three lie on one line"),
    ):
        numbers = run(model, copies, *data, points=2)
        assert numbers["planes"]["copies"] is None and why in numbers["about"]["copies"]
        assert numbers["planes"]["directions"]["about"] == numbers["about"]["directions"]


# random directions


def test_filters_of_directions_are_as_long_as_those_of_the_weights():
    model = build_model(ConvNet(depth=2, width=4, norm="instance"), (1, 8, 8), 3)
    mask = mask_of(model, model.fresh(0, "x"), 1, keep=0.5)
    first = model.prunable[0]
    mask.kept[first][2] = False  # a filter without survivors
    state = mask.apply({n: t.double() for n, t in model.fresh(0, "x").items()})
    drawn = direction(model, state, mask, STREAMS("d"))
    assert list(drawn) == list(model.prunable), "biases and norms have no direction"
    for name in model.prunable:
        assert bool((drawn[name][~mask.kept[name]] == 0).all()) and bool((drawn[name][mask.kept[name]] != 0).all())
        for filter_, own in zip(drawn[name], state[name], strict=True):
            assert float(filter_.norm()) == pytest.approx(float(own.norm()), rel=1e-12)
    assert float(drawn[first][2].norm()) == 0
    unpruned = {n: t + 1 for n, t in state.items()}
    lengths = [float(f.norm()) for f in direction(model, unpruned, mask, STREAMS("d"))[first]]
    assert lengths == pytest.approx([float(f.norm()) for f in mask.apply(unpruned)[first]]), "survivors alone count"


def test_directions_are_normal_draws_before_they_are_scaled():
    """Within a filter of the dense network the draw is kept up to its length, in the order of the flat stream."""
    model = tiny("none")
    state = state_of(model, 0)
    drawn = direction(model, state, Mask.dense(state, model.prunable), STREAMS("d"))
    raw = torch.randn(sum(state[n].numel() for n in model.prunable), generator=STREAMS("d"), dtype=torch.float64)
    begin = 0
    for name in model.prunable:
        for filter_ in drawn[name]:
            expected = raw[begin : begin + filter_.numel()].view_as(filter_)
            begin += filter_.numel()
            assert torch.allclose(filter_ / filter_.norm(), expected / expected.norm(), atol=1e-14)


def test_the_second_direction_is_another_and_both_are_axes():
    model, copies, mask = scene()
    plane = around(model, copies[0], mask, STREAMS, 21, 1.0)
    assert plane.x == plane.y and plane.x[0] == -1 and plane.x[-1] == 1 and plane.x[10] == 0 and len(plane.x) == 21
    zero = flat(model, copies[0])
    one, two = flat(model, plane.point(1.0, 0.0)) - zero, flat(model, plane.point(0.0, 1.0)) - zero
    assert abs(float(torch.cosine_similarity(one, two, dim=0))) < 0.5
    for index, axis in enumerate((one, two)):
        drawn = direction(model, copies[0], mask, STREAMS("landscape", "direction", index=index))
        assert torch.allclose(
            axis, torch.cat([drawn.get(n, torch.zeros_like(copies[0][n])).flatten() for n in model.parameters])
        )
    assert torch.allclose(flat(model, plane.point(-0.3, 2.0)), zero - 0.3 * one + 2 * two, atol=1e-14)
    weights_alone = torch.cat([copies[0][n].flatten() for n in model.prunable])
    assert float(one.norm()) == pytest.approx(float(weights_alone.norm())) == float(two.norm())
    unmoved = [n for n in copies[0] if n not in model.prunable]
    assert unmoved and all(torch.equal(plane.point(1.0, 1.0)[n], copies[0][n]) for n in unmoved)


def test_a_layers_scale_does_not_change_the_surface():
    """Under ReLU, (2 W_1, W_2 / 2) is the same network; filter by filter its directions are, too."""

    def build():
        nn = torch.nn
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 5, bias=False), nn.ReLU(), nn.Linear(5, 3, bias=False))

    model = type(tiny())(build, (1, 4, 4), 3, "relu")
    state = state_of(model, 0)
    other = {n: t * (4 if n == "1.weight" else 0.25) for n, t in state.items()}
    data = examples_of(model, 30, 1), examples_of(model, 20, 2)
    one, two = (run(model, [s, state_of(model, 1)], *data, points=3)["planes"]["directions"] for s in (state, other))
    for a, b in zip(one["surfaces"]["test_loss"], two["surfaces"]["test_loss"], strict=True):
        assert a == pytest.approx(b)


def test_masks_in_another_order_give_the_same_directions():
    model, (a, *_), mask = scene()
    turned = Mask(dict(reversed(mask.kept.items())))
    one, two = (direction(model, a, m, STREAMS("d")) for m in (mask, turned))
    assert all(torch.equal(t, two[n]) for n, t in one.items())


# the rest


def test_soft_labels_of_distilled_images():
    model, copies, _ = scene("none")
    x, generator = examples_of(model, 7, 3).x, torch.Generator().manual_seed(1)
    soft = torch.rand(7, 3, generator=generator, dtype=torch.float64).softmax(1)
    numbers = run(model, copies, examples_of(model, 5), examples_of(model, 5), points=2, distilled=Examples(x, soft))
    logs = model(copies[0], x).log_softmax(1)
    held = numbers["planes"]["directions"]["at_marks"]
    assert held["distilled_loss"] == pytest.approx([float(-(soft * logs).sum(1).mean())])
    assert held["distilled_error"] == pytest.approx([float((logs.argmax(1) != soft.argmax(1)).double().mean())])
    hard = run(model, copies, examples_of(model, 5), examples_of(model, 5), points=2)
    assert sorted(hard["planes"]["directions"]["surfaces"]) == sorted(SURFACES), "no distilled images, no surface of them"


def test_what_is_not_finite_is_none():
    model, copies, _ = scene("none")
    data = examples_of(model, 5), examples_of(model, 5)
    numbers = run(model, copies, *data, points=3, span=8e307)
    surface = numbers["planes"]["directions"]["surfaces"]["test_loss"]
    assert surface[0][0] is None and surface[1][1] is not None
    json.dumps(numbers, allow_nan=False)


def test_copies_are_left_as_they_were_and_the_numbers_are_the_same_again():
    model, copies, mask = scene("batch")
    before = copy.deepcopy(copies)
    data = examples_of(model, 12), examples_of(model, 12)
    first = run(model, copies, *data, masks=[mask] * 3, points=2)
    assert run(model, copies, *data, masks=[mask] * 3, points=2) == first
    assert all(torch.equal(t, b[n]) for c, b in zip(copies, before, strict=True) for n, t in c.items())


@pytest.mark.parametrize(("copies", "states"), [(3, 4 + 3 + 4 + 1), (2, 4 + 1)])
def test_progress_reaches_its_end(copies, states):
    seen = []

    class Ticks(Progress):
        def tick(self, done, total, note=""):
            seen.append((done, total))

    model, held, _ = scene(copies=copies)
    run(model, held, examples_of(model, 5), examples_of(model, 5), points=2, progress=Ticks())
    assert seen == [(i, states) for i in range(1, states + 1)]
