from __future__ import annotations

import json
import math

import pytest
import torch

from distill_prune.artifacts import (
    Cost,
    Examples,
    Images,
    Mask,
    Measurements,
    Parts,
    SyntheticSet,
    Ticket,
    Trajectory,
    Transform,
    Weights,
)
from distill_prune.errors import DataError, NonFiniteError, RunError
from distill_prune.rng import stream

NAN = float("nan")
NORMALIZE = Transform("normalize", {"mean": torch.tensor([0.25]), "std": torch.tensor([0.5])})


def images(**changes) -> Images:
    whole = {
        "pixels": torch.arange(6 * 4).view(6, 1, 2, 2).to(torch.uint8),
        "labels": torch.tensor([0, 1, 0, 1, 0, 1]),
        "split": torch.tensor([0, 0, 0, 1, 2, 2]),
        "classes": ("a", "b"),
        "transform": NORMALIZE,
        "scale": 16.0,
        "title": "tiny",
    }
    return Images(**{**whole, **changes})


def synthetic(**changes) -> SyntheticSet:
    whole = {
        "images": torch.ones(2, 1, 2, 2),
        "labels": torch.tensor([0, 1]),
        "classes": ("a", "b"),
        "transform": NORMALIZE,
        "method": "trajectory",
        "lr": 0.02,
        "augment": "flip",
    }
    return SyntheticSet(**{**whole, **changes})


def mask(*kept) -> Mask:
    return Mask({"w": torch.tensor(kept, dtype=torch.bool)})


# -- nouns refuse to be wrong


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Transform("whiten", {}), DataError, "transform 'whiten'"),
        (
            lambda: Transform("normalize", {"mean": torch.zeros(1)}),
            DataError,
            "expected: normalize or zca or pixels or text, whole",
        ),
        (
            lambda: Transform("normalize", {"mean": torch.zeros(1), "std": torch.tensor([NAN])}),
            NonFiniteError,
            r"'transform\.std' is not finite",
        ),
        (lambda: Examples(torch.zeros(3, 1, 2, 2), torch.zeros(2)), DataError, "differ in number\n  got:      3 and 2"),
        (
            lambda: images(pixels=torch.zeros(6, 2, 2)),
            DataError,
            r"data 'tiny' has the wrong shape\n  got:      pixels \(6, 2, 2\)",
        ),
        (lambda: images(labels=torch.zeros(5, dtype=torch.int64)), DataError, r"labels \(5,\)"),
        (lambda: images(split=torch.zeros(5)), DataError, "has the wrong shape"),
        (
            lambda: images(labels=torch.tensor([0, 1, 2, 0, 1, 0])),
            DataError,
            r"outside its classes\n  got:      labels 0\.\.2\n  expected: 0\.\.1",
        ),
        (lambda: images(labels=torch.tensor([0, 1, -1, 0, 1, 0])), DataError, r"labels -1\.\.1"),
        (
            lambda: images(pixels=torch.full((6, 1, 2, 2), NAN)),
            NonFiniteError,
            "'pixels' is not finite\n  got:      24 bad values",
        ),
        (lambda: images(split=torch.tensor([0, 0, 0, 1, 1, 1])), DataError, "data 'tiny' has no test examples"),
        (lambda: images(split=torch.tensor([1, 1, 1, 1, 2, 2])), DataError, "data 'tiny' has no train examples"),
        (
            lambda: Trajectory(torch.zeros(1, 4), {"w": torch.Size((4,))}),
            RunError,
            r"1 checkpoints of \(4,\)\n  expected: at least 2 of \(4,\)",
        ),
        (
            lambda: Trajectory(torch.zeros(3, 5), {"w": torch.Size((2, 2))}),
            RunError,
            r"3 checkpoints of \(5,\)\n  expected: at least 2 of \(4,\)",
        ),
        (lambda: synthetic(images=torch.ones(2, 4)), RunError, "a synthetic set of the wrong shape"),
        (lambda: synthetic(labels=torch.tensor([0])), RunError, r"labels \(1,\)"),
        (lambda: synthetic(images=torch.full((2, 1, 2, 2), math.inf)), NonFiniteError, "'images' is not finite"),
        (lambda: synthetic(lr=0.0), NonFiniteError, "the learned learning rate is not a positive number\n  got:      0.0"),
        (lambda: synthetic(lr=math.inf), NonFiniteError, "not a positive number"),
        (lambda: synthetic(lr=NAN), NonFiniteError, "not a positive number"),
        (lambda: Mask({"w": torch.ones(3)}), RunError, "mask 'w' is not binary\n  got:      torch.float32"),
        (lambda: mask(0, 0), RunError, "a mask that keeps no weight\n  got:      0 of 2\n  fix:      prune fewer levels"),
        (lambda: Mask({}), RunError, "keeps no weight"),
        (lambda: Weights({"w": torch.tensor([1.0, NAN])}), NonFiniteError, "'w' is not finite\n  got:      1 bad values"),
        (lambda: Ticket(mask(1, 0), {"v": torch.zeros(2)}, 1), RunError, "the mask of 'w' does not fit the network"),
        (lambda: Ticket(mask(1, 0), {"w": torch.zeros(3)}, 1), RunError, "the mask of 'w' does not fit the network"),
        (lambda: Ticket(mask(1, 0), {"w": torch.ones(2)}, 1), RunError, "pruned weights of 'w' are not zero"),
    ],
)
def test_what_cannot_be_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_examples_are_the_rows_of_their_part_in_network_space():
    data = images()
    train, test = data.examples("train"), data.examples("test")
    assert (len(train), len(data.examples("validation")), len(test)) == (3, 1, 2) and train.shape == (1, 2, 2)
    assert test.inputs(slice(None))[0].flatten().tolist() == [(p / 16 - 0.25) / 0.5 for p in (16, 17, 18, 19)]
    assert test.y.tolist() == [0, 1] and train.take(torch.tensor([2])).y.tolist() == [0]
    ready = test.ready()
    assert ready.transform is None and ready.ready() is ready
    assert torch.equal(ready.inputs(slice(None)), test.inputs(slice(None)))
    torch.testing.assert_close(NORMALIZE.invert(NORMALIZE.apply(ready.x)), ready.x)
    floats = images(pixels=torch.rand(6, 1, 2, 2), scale=1.0)
    assert floats.examples("train").transform is None


def test_whitening_turns_back_and_spaces_are_told_apart():
    matrix = torch.randn(4, 4, generator=stream(0), dtype=torch.float64) + 3 * torch.eye(4)
    zca = Transform(
        "zca", {"mean_vector": torch.ones(1, 4).double(), "transform_matrix": matrix, "transform_inv": matrix.inverse()}
    )
    x = torch.randn(3, 1, 2, 2, generator=stream(1), dtype=torch.float64)
    torch.testing.assert_close(zca.apply(x)[1].flatten(), (x[1].flatten() - 1) @ matrix)
    torch.testing.assert_close(zca.invert(zca.apply(x)), x)
    assert zca.same_space(zca) and not zca.same_space(NORMALIZE)
    assert not NORMALIZE.same_space(Transform("normalize", {"mean": torch.tensor([0.25]), "std": torch.tensor([0.5001])}))


def test_masks_count_nest_and_apply():
    big, small = mask(1, 1, 0, 1), mask(0, 1, 0, 1)
    assert (big.total, big.remaining, big.sparsity) == (4, 3, 0.25) and big.layers() == {"w": {"remaining": 3, "total": 4}}
    assert small.inside(big) and big.inside(big) and not big.inside(small)
    state = {"w": torch.tensor([1.0, NAN, math.inf, 2.0]), "b": torch.ones(1)}
    applied = big.apply(state)
    assert applied["w"].nan_to_num(7).tolist() == [1, 7, 0, 2] and applied["b"] is state["b"]  # zero, even of infinity
    dense = Mask.dense(state, ["w"])
    assert dense.sparsity == 0 and list(dense.kept) == ["w"] and dense.kept["w"].dtype == torch.bool


def test_costs_add_up():
    cost = Cost(3, 2, 10) + Cost(1, 1, 1)
    assert cost.times(2) == Cost(8, 6, 22) and cost.times(2).json() == {"images": 8, "steps": 6, "flops": 22}


@pytest.mark.parametrize(
    "noun",
    [
        images(),
        synthetic(),
        synthetic(lr=None),
        Trajectory(torch.rand(3, 6), {"b": torch.Size((2,)), "a": torch.Size((2, 2))}, ({"epoch": 1.0}, {"epoch": 2.0})),
        Weights({"w": torch.rand(2), "n": torch.tensor(3)}, {"cost": {"steps": 1}}),
        Measurements("accuracy", {"mean": {"test": 0.5}}),
    ],
    ids=lambda noun: type(noun).__name__,
)
def test_parts_hold_the_whole_noun(noun):
    parts = noun.parts()
    again = type(noun).of(Parts(parts.tensors, json.loads(json.dumps(parts.numbers)))).parts()
    assert again.numbers == json.loads(json.dumps(parts.numbers)) and set(again.tensors) == set(parts.tensors)
    assert all(torch.equal(t, again.tensors[n]) and t.dtype == again.tensors[n].dtype for n, t in parts.tensors.items())


def test_a_row_of_a_trajectory_is_laid_out_in_the_order_of_its_names():
    made = Trajectory(torch.arange(12.0).view(2, 6), {"b": torch.Size((2,)), "a": torch.Size((2, 2))})
    assert {n: t.tolist() for n, t in made.state(1).items()} == {"b": [6, 7], "a": [[8, 9], [10, 11]]}
