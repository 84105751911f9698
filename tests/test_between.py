from __future__ import annotations

import pytest
import torch
from reference_analyze import error_on_line, examples_of, mask_of, state_of, tiny
from reference_inputs import copies_of
from reference_lines import STREAMS, bowl, norm_batches, of_class_0, weights, wells, written

from distill_prune.analyze import between, connectivity
from distill_prune.analyze.inputs import Retrained, Tickets
from distill_prune.analyze.line import CURVES
from distill_prune.artifacts import Mask
from distill_prune.progress import SILENT, Progress


def run(model, copies_a, copies_b, mask_a, mask_b, train, test, progress=SILENT, **settings):
    sides = Retrained(copies_a, mask_a), Retrained(copies_b, mask_b)
    return between.measure(between.Settings(**settings), Tickets(model, *sides, train, test, STREAMS, progress)).numbers


def scene(kind="none", copies=2):
    """Two tickets of other masks, with copies of each."""
    model = tiny(kind)
    masks = [mask_of(model, state_of(model, 0), s) for s in (5, 6)]
    tickets = [[m.apply(state_of(model, 10 * k + s)) for s in range(copies)] for k, m in enumerate(masks)]
    return model, *tickets, *masks


@pytest.mark.parametrize("kind", ["instance", "batch", "none"])
def test_curves_equal_one_example_at_a_time(kind):
    model, a, b, *masks = scene(kind)
    train, test = examples_of(model, 30, 1), examples_of(model, 17, 2)
    numbers = run(model, a, b, *masks, train, test, points=3, norm_rows=20, norm_batch=10)
    batches = norm_batches(train, 20, 10) if kind == "batch" else None
    assert [p["copies"] for p in numbers["pairs"]] == [[0, 0], [0, 1], [1, 0], [1, 1]]
    for pair in numbers["pairs"]:
        i, j = pair["copies"]
        for part, examples in (("train", train), ("test", test)):
            slow = [error_on_line(model, a[i], b[j], alpha, examples, batches) for alpha in (0, 0.5, 1)]
            assert pair["curves"][f"{part}_error"] == pytest.approx([s[0] for s in slow])
            assert pair["curves"][f"{part}_loss"] == pytest.approx([s[1] for s in slow])
            losses = [s[1] for s in slow]
            assert pair["barrier"][f"{part}_loss"] == pytest.approx(max(losses) - (losses[0] + losses[2]) / 2)
        flat = [torch.cat([c[n].flatten() for n in model.parameters]) for c in (a[i], b[j])]
        assert pair["distance"] == pytest.approx(float((flat[0] - flat[1]).norm()))
        classes = [model(c, test.x).argmax(1) for c in (a[i], b[j])]
        assert pair["disagreement"] == float((classes[0] != classes[1]).double().mean())
    for curve in CURVES:
        for key in ("barrier", "excess"):
            values = [p[key][curve] for p in numbers["pairs"]]
            held = numbers[key][curve]
            assert held["mean"] == pytest.approx(sum(values) / 4, abs=1e-15)
            assert held["n"] == 4 and held["sd"] is not None and held["se"] is None
        middle = [p["curves"][curve][1] for p in numbers["pairs"]]
        assert numbers["curves"][curve][1] == pytest.approx(sum(middle) / 4)
    apart = [p["disagreement"] for p in numbers["pairs"]]
    assert len(set(apart)) > 1 and numbers["disagreement"]["mean"] == pytest.approx(sum(apart) / 4)
    assert numbers["disagreement"]["se"] is None and numbers["disagreement"]["n"] == 4


def test_of_one_ticket_it_is_connectivity():
    model = tiny("batch")
    a, b = state_of(model, 0), state_of(model, 1)
    mask = Mask.dense(a, model.prunable)
    data = examples_of(model, 30, 1), examples_of(model, 25, 2)
    options = {"points": 5, "norm_rows": 20, "norm_batch": 10, "train_rows": 11}
    one = run(model, [a], [b], mask, mask, *data, **options)
    given = copies_of(model, [a, b], [mask] * 2, data[0], STREAMS, test=data[1])
    other = connectivity.measure(connectivity.Settings(**options), given).numbers
    assert one["shared"] == 1
    for key in ("alphas", "barrier", "excess", "curves", "distance", "rows"):
        assert one[key] == other[key]


def test_networks_between_live_on_the_union():
    """One weight of each ticket alone: at (1, 0) and (0, 1), the middle has both. The product w_0 w_1 is seen there only."""
    model = written(lambda w: w[0] * w[1] + 1, 2)
    masks = [Mask({"weight": torch.tensor([kept])}) for kept in ([True, False], [False, True])]
    numbers = run(model, [weights(1.0, 0.0)], [weights(0.0, 1.0)], *masks, of_class_0(), of_class_0(), points=3)
    assert numbers["curves"]["test_loss"] == pytest.approx([2, 2.25, 2])
    assert numbers["barrier"]["test_loss"]["mean"] == pytest.approx(0.25)
    assert numbers["shared"] == 0


def test_closed_forms():
    loss, a, b = bowl(2), (1.0, 2.0), (-2.0, 0.5)
    dense = Mask.dense(weights(*a), ("weight",))
    numbers = run(written(loss, 2), [weights(*a)], [weights(*b)], dense, dense, of_class_0(), of_class_0())
    ends = [float(loss(torch.tensor(w, dtype=torch.float64))) for w in (a, b)]
    assert len(numbers["alphas"]) == 30
    assert numbers["barrier"]["test_loss"]["mean"] == pytest.approx(abs(ends[0] - ends[1]) / 2)
    well = run(written(wells, 2), [weights(-1.0, 0.0)], [weights(1.0, 0.0)], dense, dense, of_class_0(), of_class_0())
    assert well["barrier"]["train_loss"]["mean"] == pytest.approx((1 - 1 / 29**2) ** 2)


def test_shared_survivors_are_those_of_both_of_those_of_either():
    masks = [Mask({"a": torch.tensor(a), "b": torch.tensor(b)}) for a, b in (
        ([True, True, False, False], [True]),
        ([True, False, True, False], [True]),
    )]  # fmt: skip
    assert between.shared(*masks) == 2 / 4
    assert between.shared(masks[0], masks[0]) == 1
    nested = Mask({"a": torch.tensor([True, False, False, False]), "b": torch.tensor([False])})
    assert between.shared(masks[0], nested) == 1 / 3


def test_tickets_may_have_other_numbers_of_copies():
    model, a, b, *masks = scene(copies=3)
    numbers = run(model, a[:1], b, *masks, examples_of(model, 5), examples_of(model, 5), points=2)
    assert [p["copies"] for p in numbers["pairs"]] == [[0, 0], [0, 1], [0, 2]]
    single = run(model, a[:1], b[:1], *masks, examples_of(model, 5), examples_of(model, 5), points=2)
    assert single["distance"]["n"] == 1 and single["distance"]["sd"] is None


def test_progress_reaches_its_end():
    seen = []

    class Ticks(Progress):
        def tick(self, done, total, note=""):
            seen.append((done, total))

    model, a, b, *masks = scene()
    run(model, a, b, *masks, examples_of(model, 5), examples_of(model, 5), points=2, progress=Ticks())
    assert seen == [(i, 8) for i in range(1, 9)]
