from __future__ import annotations

import hashlib
import itertools

import pytest
import torch
from reference_analyze import examples_of, mask_of, state_of, tiny
from reference_lines import STREAMS, measured

from distill_prune.analyze.disagreement import disagreement, expected
from distill_prune.artifacts import Examples, Transform
from distill_prune.models import Model
from distill_prune.progress import Progress


def run(model, copies, train, test, **more):
    return measured("disagreement", model, copies, train, test, **more)


def slow_expected(a, b, truth):
    """Pair every answer of a with every answer of b to an example of the same class: the mean share that differs."""
    total = 0.0
    for y in set(truth):
        answers = [[s for s, t in zip(side, truth, strict=True) if t == y] for side in (a, b)]
        pairs = list(itertools.product(*answers))
        total += len(answers[0]) * sum(p != q for p, q in pairs) / len(pairs)
    return total / len(truth)


@pytest.mark.parametrize("seed", range(4))
def test_expected_equals_all_pairings_within_a_class(seed):
    generator = torch.Generator().manual_seed(seed)
    a, b, truth = (torch.randint(0, 4, (25,), generator=generator) for _ in range(3))
    truth[truth == 2] = 3  # a class without examples
    assert expected(a, b, truth, 4) == pytest.approx(slow_expected(a.tolist(), b.tolist(), truth.tolist()), rel=1e-12)


def test_expected_in_closed_form():
    truth = torch.tensor([0] * 10 + [1] * 10)
    right = truth.clone()
    assert expected(right, right, truth, 2) == 0, "who makes no errors cannot differ"
    third = right.clone()
    third[:3] = 1  # 3 of 10 of class 0 wrong
    # Class 0: 1 - (0.7 0.7 + 0.3 0.3) = 0.42 for two such networks, 0.3 beside a perfect one; class 1 adds nothing.
    assert expected(third, third, truth, 2) == pytest.approx(0.42 / 2)
    assert expected(third, right, truth, 2) == pytest.approx(0.3 / 2)
    assert expected(1 - right, 1 - right, truth, 2) == pytest.approx(0, abs=1e-15), "always wrong the same way"


def test_independent_answers_disagree_as_expected():
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 3, (60_000,), generator=generator)
    chances = torch.tensor([[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.3, 0.4]])
    a, b = (torch.multinomial(chances[truth], 1, generator=generator).squeeze(1) for _ in range(2))
    truly = 1 - float(chances.square().sum(1).mean())
    assert disagreement(a, b) == pytest.approx(truly, abs=0.01)
    assert expected(a, b, truth, 3) == pytest.approx(truly, abs=0.01)
    assert disagreement(a, a) == 0 and expected(a, a, truth, 3) == pytest.approx(truly, abs=0.01)


@pytest.mark.parametrize("kind", ["instance", "batch"])
def test_all_numbers_by_hand(kind):
    model = tiny(kind)
    mask = mask_of(model, state_of(model, 0), 3, keep=0.8)
    start, *copies = (mask.apply(state_of(model, s)) for s in (9, 0, 1, 2))
    train, test = examples_of(model, 40, 1), examples_of(model, 31, 2)
    numbers = run(model, copies, train, test, start=start, train_rows=12)
    index = torch.randperm(40, generator=STREAMS("connectivity", "rows"))[:12]
    sha = hashlib.sha256(index.numpy().astype("<i8").tobytes()).hexdigest()
    assert numbers["rows"] == {"train": {"count": 12, "sha256": sha}, "test": {"count": 31}}
    flat = [torch.cat([c[n].flatten() for n in model.parameters]) for c in (*copies, start)]
    far = [float((f - flat[3]).norm()) for f in flat[:3]]
    asked = {"test": test, "train": train.take(index)}
    classes = [{p: [int(model(c, x[None])[0].argmax()) for x in e.x] for p, e in asked.items()} for c in copies]
    assert [p["copies"] for p in numbers["pairs"]] == [[0, 1], [0, 2], [1, 2]]
    for pair in numbers["pairs"]:
        i, j = pair["copies"]
        for part in ("test", "train"):
            differing = [a != b for a, b in zip(classes[i][part], classes[j][part], strict=True)]
            assert pair[part] == pytest.approx(sum(differing) / len(differing))
        assert pair["expected_test"] == pytest.approx(slow_expected(classes[i]["test"], classes[j]["test"], test.y.tolist()))
        assert pair["distance"] == pytest.approx(float((flat[i] - flat[j]).norm()))
        assert pair["travelled"] == pytest.approx([far[i], far[j]])
        assert pair["relative_distance"] == pytest.approx(pair["distance"] / ((far[i] + far[j]) / 2))
    for key in ("test", "train", "expected_test", "distance", "relative_distance"):
        values = [p[key] for p in numbers["pairs"]]
        held = numbers[key]
        assert held["mean"] == pytest.approx(sum(values) / 3)
        assert held["n"] == 3 and held["sd"] is not None and held["se"] is None and held["low"] is None
    assert numbers["travelled"]["mean"] == pytest.approx(sum(far) / 3) and numbers["travelled"]["n"] == 3
    assert numbers["travelled"]["se"] is not None, "copies of one start have noise of their own"


def test_opposite_networks_differ_everywhere_and_are_twice_as_far_as_they_travelled():
    model = Model(lambda: torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2, bias=False)), (1, 2, 2), 2, "opposite")
    copy = state_of(model, 0)
    start = {n: torch.zeros_like(t) for n, t in copy.items()}
    other = {n: -t for n, t in copy.items()}
    numbers = run(model, [copy, other], examples_of(model, 20), examples_of(model, 20, 1), start=start)
    assert numbers["test"]["mean"] == numbers["train"]["mean"] == 1
    assert numbers["relative_distance"]["mean"] == pytest.approx(2)


def test_identical_copies_differ_nowhere():
    model = tiny()
    copy = state_of(model, 0)
    numbers = run(model, [copy, dict(copy)], examples_of(model, 20), examples_of(model, 20), start=state_of(model, 1))
    assert numbers["test"]["mean"] == numbers["train"]["mean"] == numbers["distance"]["mean"] == 0
    assert numbers["relative_distance"]["mean"] == 0 and numbers["expected_test"]["mean"] > 0


def test_copies_that_never_left_have_no_relative_distance():
    model = tiny()
    copy = state_of(model, 0)
    numbers = run(model, [copy, dict(copy)], examples_of(model, 9), examples_of(model, 9), start=copy)
    nothing = {"mean": None, "sd": None, "se": None, "low": None, "high": None, "n": 0}
    assert numbers["relative_distance"] == nothing and numbers["pairs"][0]["relative_distance"] is None
    assert numbers["travelled"]["mean"] == 0


def test_pixels_are_transformed_batch_by_batch_as_they_are_whole():
    """The analysis takes sets that are not ready; its answers are those of the set made ready."""
    model = tiny("none")
    copies = [{n: t.float() for n, t in state_of(model, s).items()} for s in range(2)]
    pixels = torch.randint(0, 256, (600, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    stored = Examples(
        pixels, torch.arange(600) % 3, Transform("normalize", {"mean": torch.ones(1) / 2, "std": torch.ones(1) / 4}), 255.0
    )
    assert run(model, copies, stored, stored) == run(model, copies, stored.ready(), stored.ready())


def test_progress_reaches_its_end():
    seen = []

    class Ticks(Progress):
        def tick(self, done, total, note=""):
            seen.append((done, total))

    model = tiny("none")
    run(model, [state_of(model, s) for s in range(3)], examples_of(model, 5), examples_of(model, 5), progress=Ticks())
    assert seen == [(1, 3), (2, 3), (3, 3)]
