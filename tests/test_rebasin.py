"""The analysis `rebasin`: barriers before and after alignment, against networks interpolated one by one."""

from __future__ import annotations

import pytest
import tiny
import tiny_text
import torch
from reference import convnet, examples_of, uneven
from reference_analyze import error_on_line
from reference_lines import measured, norm_batches

from distill_prune.analyze import between
from distill_prune.analyze.line import CURVES
from distill_prune.artifacts import Examples, Mask
from distill_prune.errors import UserError
from distill_prune.models.permutations import permuted, specification, weight_matching
from distill_prune.plan.config import parse
from distill_prune.plan.foresight import foresee
from distill_prune.plan.graph import build
from distill_prune.rng import Streams
from distill_prune.settings import canonical
from distill_prune.store.store import Store
from distill_prune.tree import clone

OPTIONS = {"points": 3, "norm_rows": 20, "norm_batch": 10}


def scene(norm, copies=2):
    """Copies of one ticket of four fifths of its weights, the data, and the specification."""
    model = convnet(depth=2, norm=norm, width=4, side=6)
    states = [uneven(model, s) for s in range(copies)]
    mask = Mask({n: torch.rand(states[0][n].shape, generator=torch.Generator().manual_seed(9)) < 0.8 for n in model.prunable})
    data = examples_of(model, 30, 1), examples_of(model, 17, 2)
    return model, [mask.apply(s) for s in states], mask, data, specification(model, "a test")


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_curves_equal_one_network_at_a_time(norm):
    model, states, mask, (train, test), spec = scene(norm, copies=3)
    numbers = measured("rebasin", model, states, train, test, masks=[mask] * 3, **OPTIONS)
    batches = norm_batches(train, 20, 10) if norm == "batch" else None
    assert [p["copies"] for p in numbers["pairs"]] == [[0, 1], [0, 2], [1, 2]] and numbers["copies"] == 3
    for pair in numbers["pairs"]:
        i, j = pair["copies"]
        orders = weight_matching(spec, states[i], states[j], Streams(0, ("compare",))("rebasin", "turns", a=i, b=j))
        moved = permuted(spec, orders, states[j])
        for key, other in (("before", states[j]), ("after", moved)):
            for part, examples in (("train", train), ("test", test)):
                slow = [error_on_line(model, states[i], other, alpha, examples, batches) for alpha in (0, 0.5, 1)]
                assert pair[key]["curves"][f"{part}_error"] == pytest.approx([s[0] for s in slow])
                assert pair[key]["curves"][f"{part}_loss"] == pytest.approx([s[1] for s in slow])
                losses = [s[1] for s in slow]
                assert pair[key]["barrier"][f"{part}_loss"] == pytest.approx(max(losses) - (losses[0] + losses[2]) / 2)
            squares = sum(float((states[i][n] - other[n]).square().sum()) for n in model.parameters)
            assert pair[key]["distance"] == pytest.approx(squares**0.5)
        assert (
            pair["after"]["removed"] == pytest.approx(1 - pair["after"]["distance"] / pair["before"]["distance"])
            and pair["after"]["removed"] >= 0
        )
        turned = {n: moved[n] != 0 for n in mask.kept}
        both = sum(int((mask.kept[n] & turned[n]).sum()) for n in turned)
        assert pair["shared"] == both / sum(int((mask.kept[n] | turned[n]).sum()) for n in turned)
        assert (pair["shared"] < 1) == (pair["after"]["fixed"] < 1) == (pair["after"]["removed"] > 0)
    assert sum(p["after"]["fixed"] < 1 for p in numbers["pairs"]) >= 2
    for name in ("removed", "fixed", "shared"):
        of = [numbers, *numbers["pairs"]] if name == "shared" else [n["after"] for n in (numbers, *numbers["pairs"])]
        mean, *values = (n[name] for n in of)
        assert mean["mean"] == pytest.approx(sum(values) / 3) and mean["n"] == 3 and mean["se"] is None
    for key in ("before", "after"):
        for curve in CURVES:
            values = [p[key]["barrier"][curve] for p in numbers["pairs"]]
            assert numbers[key]["barrier"][curve]["mean"] == pytest.approx(sum(values) / 3, abs=1e-15)


def test_before_alignment_it_is_connectivity():
    model, states, mask, data, _ = scene("batch", copies=3)
    both = {name: measured(name, model, states, *data, masks=[mask] * 3, **OPTIONS) for name in ("rebasin", "connectivity")}
    assert both["rebasin"]["rows"] == both["connectivity"]["rows"]
    for key, value in both["rebasin"]["before"].items():
        assert value == both["connectivity"][key]


@pytest.mark.parametrize("norm", ["batch", "instance", "none"])
def test_a_copy_in_another_order_has_a_barrier_that_goes_away_as_a_whole(norm):
    model, (state, _), _, data, spec = scene(norm)
    state |= {n: torch.randn(state[n].shape, generator=torch.Generator().manual_seed(2)).double() for n in model.prunable}
    orders = {group: torch.arange(size).roll(1) for group, size in spec.sizes.items()}
    # Its own answers, so that it is right, whatever the statistics.
    train, test = (Examples(e.x, model(clone(state), e.x, train=True).argmax(1)) for e in data)
    numbers = measured("rebasin", model, [state, permuted(spec, orders, state)], train, test, **OPTIONS)
    assert numbers["before"]["barrier"]["train_error"]["mean"] > 0.03 and numbers["before"]["distance"]["mean"] > 1
    assert (
        numbers["after"]["distance"]["mean"] == 0
        and numbers["after"]["removed"]["mean"] == 1
        and numbers["after"]["fixed"]["mean"] == 0
    )
    assert all(numbers["after"][key][c]["mean"] == 0 for key in ("barrier", "excess") for c in CURVES)
    ends = numbers["before"]["curves"]["test_loss"]
    assert ends[0] == pytest.approx(ends[2], rel=1e-12), "the same function in another order"


def test_equal_copies_stay_and_have_nothing_to_remove():
    model, (state, _), mask, data, _ = scene("batch")
    numbers = measured("rebasin", model, [state, {n: t.clone() for n, t in state.items()}], *data, masks=[mask] * 2, **OPTIONS)
    assert [numbers["after"][name]["mean"] for name in ("removed", "fixed")] == [0, 1] and numbers["shared"]["mean"] == 1
    assert all(numbers[k]["barrier"][c]["mean"] == 0 for k in ("before", "after") for c in CURVES)


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_between_aligns_the_second_ticket_s_copies_beside_what_it_measures_anyway(norm):
    model, states, mask, data, _ = scene(norm, copies=3)
    plain, both = (measured("between", model, states, *data, masks=[mask] * 3, align=a, **OPTIONS) for a in (False, True))
    assert {n: v for n, v in both.items() if n not in ("aligned", "pairs")} == {n: v for n, v in plain.items() if n != "pairs"}
    for pair, other in zip(both["pairs"], plain["pairs"], strict=True):
        found = pair.pop("aligned")
        assert (
            pair == other and found["removed"] == pytest.approx(1 - found["distance"] / pair["distance"]) and "barrier" in found
        )
    assert both["aligned"]["removed"]["mean"] > 0 and both["aligned"]["fixed"]["mean"] < 1 and both["aligned"]["barrier"]
    assert canonical(between.Settings()).keys() == canonical(between.Settings(align=False)).keys() == {
        "name", "points", "train_rows", "norm_rows", "norm_batch"
    }  # fmt: skip


# -- in a study

PERMUTED = "arms.moved={control: {of: real, kind: permuted}}"


@pytest.mark.parametrize(
    ("assignment", "what"),
    [
        ("compare.rebasin={}", "rebasin"),
        ("compare.between={align: true}", "between"),
        (PERMUTED, "the control 'permuted'"),
    ],
    ids=["rebasin", "between", "permuted"],
)
def test_networks_without_a_specification_are_refused_before_anything_is_made(empty, assignment, what):
    teacher = "experts.model={name: convnet, depth: 2, width: 4}"
    graph = build(tiny.pipeline(assignment, "model={name: convnet, depth: 2, width: 8, norm: group}", teacher), empty)
    with pytest.raises(
        UserError, match=rf"(?s){what} has no specification for this network.*GroupNorm of 4 groups.*or leave {what} out"
    ):
        foresee(graph, empty, graph.nodes)
    assert not list(empty.all())


def test_text_has_no_specification(empty, tmp_path):
    values = tiny_text.raw(tiny_text.places(tmp_path))
    values["compare"]["rebasin"] = {}
    graph = build(parse(values, "text.yaml"), empty)
    with pytest.raises(UserError, match=r"(?s)rebasin has no specification.*a network for text"):
        foresee(graph, empty, graph.nodes)


def test_a_study_has_the_barrier_after_alignment_in_its_summary(tmp_path):
    store = Store(tmp_path / "s", create=True)
    compare = "compare={accuracy: {}, rebasin: {points: 3, train_rows: 50}}"
    arms = ("arms={real: {}, moved: {control: {of: real, kind: permuted}}}", "distill={}", "model.width=8", "seeds=[1]")
    graph, _ = tiny.execute(store, compare, *arms)
    rows = store.read("compare", graph.summary).numbers["rows"]
    assert all(row["barrier_aligned"]["mean"] is not None and 0 <= row["units_fixed"]["mean"] <= 1 for row in rows)
    moved, real = (store.noun("prune", graph.chains[arm, 1][2], Mask.of) for arm in ("moved", "real"))
    assert {n: c["remaining"] for n, c in moved.layers().items()} == {n: c["remaining"] for n, c in real.layers().items()}
    assert any(not torch.equal(t, real.kept[n]) for n, t in moved.kept.items())
