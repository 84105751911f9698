from __future__ import annotations

import hashlib

import pytest
import torch
from reference_analyze import error_on_line, examples_of, linear, mask_of, state_of, tiny
from reference_inputs import copies_of

from distill_prune.analyze import connectivity
from distill_prune.analyze.connectivity import Settings
from distill_prune.analyze.line import CURVES, barrier, excess
from distill_prune.errors import UserError
from distill_prune.progress import SILENT, Progress
from distill_prune.rng import Streams


def run(model, copies, train, test, masks=None, progress=None, **settings):
    given = copies_of(model, copies, masks, train, progress=progress or SILENT, test=test)
    return connectivity.measure(Settings(**settings), given).numbers


@pytest.mark.parametrize("kind", ["instance", "none"])
def test_curves_equal_one_example_at_a_time(kind):
    model = tiny(kind)
    a, b = state_of(model, 0), state_of(model, 1)
    train, test = examples_of(model, 20, 1), examples_of(model, 17, 2)
    numbers = run(model, [a, b], train, test, points=5)
    assert numbers["alphas"] == [0, 0.25, 0.5, 0.75, 1]
    for part, examples in (("train", train), ("test", test)):
        slow = [error_on_line(model, a, b, alpha, examples) for alpha in numbers["alphas"]]
        assert numbers["curves"][f"{part}_error"] == pytest.approx([s[0] for s in slow])
        assert numbers["curves"][f"{part}_loss"] == pytest.approx([s[1] for s in slow])
        errors = [s[0] for s in slow]
        assert numbers["barrier"][f"{part}_error"]["mean"] == pytest.approx(max(errors) - (errors[0] + errors[-1]) / 2)


def test_convex_loss_has_a_barrier_of_half_the_endpoints_difference_and_no_excess():
    model = linear()
    a, b = state_of(model, 0), state_of(model, 1, scale=5.0)
    numbers = run(model, [a, b], examples_of(model, 50, 1), examples_of(model, 40, 2))
    assert len(numbers["alphas"]) == 30
    for curve in ("test_loss", "train_loss"):
        ends = numbers["curves"][curve][0], numbers["curves"][curve][-1]
        assert abs(ends[0] - ends[1]) > 0.1
        # A convex function on a segment is largest at an end.
        assert numbers["barrier"][curve]["mean"] == pytest.approx(abs(ends[0] - ends[1]) / 2)
        assert numbers["excess"][curve]["mean"] == pytest.approx(0, abs=1e-12)


def test_barrier_and_excess_of_a_known_curve():
    alphas = [i / 10 for i in range(11)]
    curve = [a * (1 - a) * 4 + 2 * a for a in alphas]  # ends 0 and 2; largest 2.24 at 0.7 and 0.8
    assert barrier(curve) == pytest.approx(2.24 - 1)
    assert excess(curve, alphas) == pytest.approx(1)
    assert excess([1.0, 0.0, 1.0], [0, 0.5, 1]) == 0


def test_equal_copies_have_no_barrier():
    model = tiny()
    a = state_of(model, 0)
    numbers = run(model, [a, a], examples_of(model, 20), examples_of(model, 20), points=4)
    assert numbers["distance"]["mean"] == 0
    assert all(numbers["barrier"][c]["mean"] == pytest.approx(0, abs=1e-12) for c in CURVES)


def test_batch_norm_statistics_are_measured_anew_at_every_alpha():
    model = tiny("batch")
    trained = {"1.num_batches_tracked": torch.tensor(50)}
    a, b = state_of(model, 0) | trained, state_of(model, 1) | trained
    train, test = examples_of(model, 30, 1), examples_of(model, 25, 2)
    before = {n: t.clone() for n, t in a.items()}
    numbers = run(model, [a, b], train, test, points=3, norm_rows=22, norm_batch=10)
    order = torch.randperm(30, generator=Streams(0, ("compare",))("connectivity", "norm"))[:20]
    batches = list(train.x[order].split(10))
    slow = [error_on_line(model, a, b, alpha, test, batches) for alpha in (0, 0.5, 1)]
    assert numbers["curves"]["test_loss"] == pytest.approx([s[1] for s in slow])
    stale = error_on_line(model, a, b, 0.5, test)
    assert stale[1] != pytest.approx(slow[1][1], rel=1e-3), "the test cannot tell old statistics from new"
    assert all(torch.equal(t, before[n]) for n, t in a.items()), "the copies were changed"
    sha = hashlib.sha256(order.numpy().astype("<i8").tobytes()).hexdigest()
    assert numbers["rows"]["norm"] == {"count": 20, "sha256": sha, "batch": 10}
    assert run(model, [a, b], train, test, points=3, norm_rows=22, norm_batch=10) == numbers


def test_all_pairs_are_averaged_without_a_false_interval():
    model = tiny("none")
    copies = [state_of(model, s) for s in range(3)]
    numbers = run(model, copies, examples_of(model, 20), examples_of(model, 20), points=3)
    assert [p["copies"] for p in numbers["pairs"]] == [[0, 1], [0, 2], [1, 2]]
    for curve in CURVES:
        values = [p["barrier"][curve] for p in numbers["pairs"]]
        held = numbers["barrier"][curve]
        assert held["mean"] == pytest.approx(sum(values) / 3)
        assert held["n"] == 3 and held["sd"] is not None and held["se"] is None and held["low"] is None
        middle = [p["curves"][curve][1] for p in numbers["pairs"]]
        assert numbers["curves"][curve][1] == pytest.approx(sum(middle) / 3)
    flat = [torch.cat([c[n].flatten() for n in model.parameters]) for c in copies]
    assert numbers["pairs"][1]["distance"] == pytest.approx(float((flat[0] - flat[2]).norm()))


def test_train_error_is_measured_on_recorded_rows():
    model = tiny("none")
    a, b = state_of(model, 0), state_of(model, 1)
    train = examples_of(model, 30)
    numbers = run(model, [a, b], train, examples_of(model, 10), points=2, train_rows=7)
    index = torch.randperm(30, generator=Streams(0, ("compare",))("connectivity", "rows"))[:7]
    assert numbers["rows"]["train"]["count"] == 7
    assert numbers["rows"]["train"]["sha256"] == hashlib.sha256(index.numpy().tobytes()).hexdigest()
    assert numbers["curves"]["train_loss"][0] == pytest.approx(error_on_line(model, a, b, 0, train.take(index))[1])


def test_progress_reaches_its_end():
    seen = []

    class Ticks(Progress):
        def tick(self, done, total, note=""):
            seen.append((done, total))

    model = tiny("none")
    copies = [state_of(model, s) for s in range(3)]
    run(model, copies, examples_of(model, 5), examples_of(model, 5), points=2, progress=Ticks())
    assert seen == [(i, 6) for i in range(1, 7)]


def test_one_copy_is_refused():
    model = tiny()
    with pytest.raises(UserError, match=r"(?s)needs two copies.*1 copies.*at least 2.*retrain\.copies"):
        run(model, [state_of(model, 0)], examples_of(model, 5), examples_of(model, 5))


def test_different_masks_are_refused_unless_asked_for():
    model = tiny("none")
    a, b = state_of(model, 0), state_of(model, 1)
    masks = [mask_of(model, a, 0), mask_of(model, a, 1)]
    arguments = model, [masks[0].apply(a), masks[1].apply(b)], examples_of(model, 5), examples_of(model, 5)
    with pytest.raises(UserError, match=r"(?s)copies 0 and 1 have different masks.*0\.weight.*allow_different_masks"):
        run(*arguments, masks=masks)
    assert run(*arguments, masks=masks, points=2, allow_different_masks=True)["copies"] == 2


def test_integer_buffers_that_differ_are_refused_but_not_counters_of_batch_norm():
    model = tiny("batch")
    a, b = state_of(model, 0), state_of(model, 1)
    b["1.num_batches_tracked"] = torch.tensor(7)
    run(model, [a, b], examples_of(model, 5), examples_of(model, 5), points=2)

    plain = tiny("none")
    plain.module.register_buffer("positions", torch.arange(3))
    a, b = state_of(plain, 0) | {"positions": torch.arange(3)}, state_of(plain, 1) | {"positions": torch.arange(3) + 1}
    with pytest.raises(UserError, match=r"(?s)buffer 'positions' holds torch\.int64.*cannot be interpolated"):
        run(plain, [a, b], examples_of(plain, 5), examples_of(plain, 5))
