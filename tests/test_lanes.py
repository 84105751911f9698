"""Lanes: trainings that share their steps become what each becomes alone, to rounding; and their bits are their own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from distill_prune.artifacts import Examples, Mask
from distill_prune.errors import NonFiniteError, UserError
from distill_prune.models import MODELS, Model, build_model
from distill_prune.models.lanes import laned, network, outputs, side_by_side
from distill_prune.progress import Progress, Snapshot
from distill_prune.recipe import Recipe
from distill_prune.rng import Streams, stream
from distill_prune.run.worker import conditions
from distill_prune.training import Trained, Training, train, train_group

NETWORKS: dict[str, tuple[dict[str, Any], tuple[int, int, int]]] = {
    **{
        f"convnet-{n}": ({"width": 8, "depth": 2, "norm": n}, (2, 8, 8))
        for n in ("instance", "batch", "layer", "group", "none")
    },
    "lenet": ({"hidden": [7]}, (1, 6, 6)),
    "lenet5": ({}, (1, 12, 12)),
    "cifar_resnet": ({"depth": 8, "width": 8}, (3, 8, 8)),
    "resnet": ({"depth": 10, "width": 4}, (3, 16, 16)),
    "vgg": ({"depth": 11, "width": 4}, (3, 16, 16)),
    "alexnet": ({}, (3, 12, 12)),
}
SMALL = Recipe(length="2ep", batch=4, lr=0.05, momentum=0.9, weight_decay=1e-2, schedule="cosine")
RECIPES = {
    "sgd": SMALL,
    "nesterov": SMALL.model_copy(update={"nesterov": True}),
    "adam": Recipe(length="2ep", batch=4, lr=0.01, optimizer="adam"),
    "adamw, clipped": Recipe(length="2ep", batch=4, lr=0.01, optimizer="adamw", weight_decay=0.1, clip=0.5),
    "clipped": SMALL.model_copy(update={"clip": 0.1}),
    "sam": SMALL.model_copy(update={"optimizer": "sam", "rho": 0.2}),
    "sam, clipped": SMALL.model_copy(update={"optimizer": "sam", "clip": 0.1}),
    "smoothed": SMALL.model_copy(update={"label_smoothing": 0.2}),
    "cutmix": SMALL.model_copy(update={"cutmix": 0.7}),
    "one of six": SMALL.model_copy(update={"augment": "color_crop_cutout_flip_scale_rotate"}),
    "all, cutmix": SMALL.model_copy(update={"augment": "flip+color+crop_scale_rotate", "cutmix": 0.5}),
}


def model_of(name: str, classes: int = 3) -> Model:
    settings, shape = NETWORKS[name]
    return build_model(
        MODELS[name.partition("-")[0]].Settings.model_validate({"name": name.partition("-")[0], **settings}), shape, classes
    )


def examples_of(model: Model, seed: int, kind: torch.dtype, count: int = 10) -> Examples:
    draws = stream(seed, "lanes")
    x = torch.randn(count, *model.shape, generator=draws, dtype=torch.float64).to(kind)
    return Examples(x, torch.randint(model.classes, (count,), generator=draws))


def training(
    model: Model, seed: int, recipe: Recipe, kind: torch.dtype = torch.float64, *, masked: bool = True, **more: Any
) -> Training:
    start = {n: t.to(kind) if t.is_floating_point() else t for n, t in model.fresh(seed, "start").items()}
    draws = stream(seed, "mask")
    mask = Mask({n: torch.rand(start[n].shape, generator=draws) < 0.6 for n in model.prunable}) if masked else None
    return Training(model, start, examples_of(model, seed, kind), recipe, Streams(seed), mask, **more)


def alone(one: Training) -> Trained:
    return train(
        one.model, one.start, one.examples, one.recipe, one.noise,
        mask=one.mask, first=one.first, last=one.last, keep_epochs=one.keep_epochs,
    )  # fmt: skip


def furthest(a: Trained, b: Trained) -> float:
    """The largest distance between two results, relative to the size of the tensor."""
    distances = [float((t - b.state[n]).abs().max() / t.abs().max().clamp(min=1)) for n, t in a.state.items() if t.numel()]
    return max(*distances, *(abs(x - y) for x, y in zip(a.losses, b.losses, strict=True)))


def checked(outcomes: list[Trained | NonFiniteError]) -> list[Trained]:
    assert all(isinstance(o, Trained) for o in outcomes)
    return [o for o in outcomes if isinstance(o, Trained)]


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_of_the_tables_trains_as_it_does_alone(name: str) -> None:
    model = model_of(name)
    group = [training(model, seed, SMALL) for seed in range(3)]
    for one, together in zip(group, checked(train_group(group, 4)), strict=True):
        single = alone(one)
        assert furthest(single, together) < 1e-10 and together.cost == single.cost
        assert one.mask is not None
        assert all(bool((together.state[n][~kept] == 0).all()) for n, kept in one.mask.kept.items())


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_trains_as_it_does_alone(name: str) -> None:
    # No norm: Adam would take the gradient of a bias before one, which is rounding alone, for a direction.
    model = model_of("convnet-none")
    group = [training(model, seed, RECIPES[name]) for seed in range(4)]
    for one, together in zip(group, checked(train_group(group, 4)), strict=True):
        assert furthest(alone(one), together) < 1e-10


def test_dense_networks_trajectories_and_parts_of_a_schedule() -> None:
    model = model_of("convnet-instance")
    group = [training(model, seed, SMALL, masked=False, keep_epochs=True, first=3) for seed in range(2)]
    for one, together in zip(group, checked(train_group(group, 4)), strict=True):
        single = alone(one)
        assert furthest(single, together) < 1e-10
        assert single.checkpoints is not None and together.checkpoints is not None
        assert torch.allclose(single.checkpoints, together.checkpoints, rtol=1e-10, atol=1e-12)


def test_soft_labels_and_shared_examples() -> None:
    model = model_of("lenet")
    examples = examples_of(model, 0, torch.float64)
    soft = replace(examples, y=torch.rand(10, 3, generator=stream(1, "soft"), dtype=torch.float64).softmax(1))
    for shared in (examples, soft):
        group = [replace(training(model, seed, RECIPES["cutmix"]), examples=shared) for seed in range(3)]
        for one, together in zip(group, checked(train_group(group, 4)), strict=True):
            assert furthest(alone(one), together) < 1e-10


@pytest.mark.parametrize("lanes", [4, 8, 16])
@pytest.mark.parametrize("batch", [4, 64])
@pytest.mark.parametrize("name", ["convnet-instance", "convnet-batch", "lenet", "cifar_resnet"])
def test_bits_depend_on_neither_place_nor_neighbours(name: str, batch: int, lanes: int) -> None:
    """In the type and under the conditions of runs; products of few and of many examples have other kernels. A training that
    shares its step with copies of itself, too."""
    model = model_of(name, 10)
    recipe = (RECIPES["all, cutmix"] if name != "lenet" else SMALL).model_copy(update={"batch": batch})

    def of(seed: int) -> Training:
        examples = examples_of(model, seed, torch.float32, 2 * batch + 2)
        return replace(training(model, seed, recipe, torch.float32), examples=examples)

    one = of(0)
    with conditions(1):
        groups = [[of(100 * p + i) for i in range(lanes)] for p in range(3)]
        for place, group in zip((0, lanes // 2, lanes - 1), groups, strict=True):
            group[place] = one
        results = [checked(train_group(g, lanes))[p] for p, g in zip((0, lanes // 2, lanes - 1), groups, strict=True)]
        results.append(checked(train_group([one], lanes))[0])
    for other in results[1:]:
        assert other.losses == results[0].losses
        assert all(torch.equal(t, other.state[n]) for n, t in results[0].state.items())


def test_one_that_diverges_fails_alone() -> None:
    model = model_of("convnet-none")
    group = [training(model, seed, SMALL, torch.float32) for seed in range(3)]
    poisoned = replace(group[1], start={n: t * 1e30 for n, t in group[1].start.items()})
    first, second, third = train_group([group[0], poisoned, group[2]], 4)
    assert isinstance(second, NonFiniteError) and "not finite in epoch 1" in str(second)
    calm = checked(train_group(group, 4))
    for outcome, expected in ((first, calm[0]), (third, calm[2])):
        assert isinstance(outcome, Trained) and outcome.losses == expected.losses
        assert all(torch.equal(t, outcome.state[n]) for n, t in expected.state.items())
    with pytest.raises(NonFiniteError):
        alone(poisoned)


class Kept(Progress):
    """Keeps the snapshot of one step."""

    def __init__(self, at: int, snapshot: Snapshot | None = None) -> None:
        self.at, self.snapshot, self.calls = at, snapshot, 0

    def due(self) -> bool:
        self.calls += 1
        return self.calls == self.at

    def save(self, tensors: Any, numbers: Any) -> None:
        self.snapshot = Snapshot({n: t.clone() for n, t in tensors.items()}, json.loads(json.dumps(numbers)))

    def load(self) -> Snapshot | None:
        return self.snapshot


@pytest.mark.parametrize("recipe", ["sgd", "adam", "sam"])
def test_a_group_goes_on_from_snapshots_in_other_company(recipe: str) -> None:
    """Snapshots are of one training each: some were kept later than others, and one training has none."""
    model = model_of("convnet-batch")
    group = [training(model, seed, RECIPES[recipe], torch.float32, keep_epochs=True) for seed in range(3)]
    with conditions(1):
        whole = checked(train_group(group, 4))
        keepers = [Kept(2), Kept(4), Kept(0)]
        train_group(group, 4, progress=keepers)
        assert [k.snapshot is not None for k in keepers] == [True, True, False]
        again = checked(train_group(group[::-1], 4, progress=[Kept(0, k.snapshot) for k in keepers[::-1]]))[::-1]
    for one, other in zip(whole, again, strict=True):
        assert one.losses == other.losses and all(torch.equal(t, other.state[n]) for n, t in one.state.items())
        assert one.checkpoints is not None and other.checkpoints is not None and torch.equal(one.checkpoints, other.checkpoints)


def test_a_layer_without_a_laned_form_is_refused() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.scale

    with pytest.raises(UserError, match=r"(?s)the layer '1' of the network has no form.*got: +Scaled.*Conv2d.*fix: +lanes: 1"):
        laned(nn.Sequential(nn.Conv2d(1, 1, 1), Scaled()), 4)


def test_outputs_are_those_of_each_replica() -> None:
    model = model_of("resnet")
    starts = [{n: t.double() if t.is_floating_point() else t for n, t in model.fresh(s).items()} for s in range(2)]
    x = torch.randn(2, 3, *model.shape, dtype=torch.float64, generator=stream(0, "x"))
    together = outputs(network(model, starts).eval()(side_by_side(x)), 2)
    for index, start in enumerate(starts):
        assert torch.allclose(together[index], model(start, x[index]), rtol=1e-10, atol=1e-12)


def test_trainings_that_are_not_alike_are_refused() -> None:
    model = model_of("lenet")
    one, other = training(model, 0, SMALL), training(model, 1, RECIPES["nesterov"])
    with pytest.raises(UserError, match=r"(?s)must be alike\n  got: +2 trainings of 2 signatures\n  expected: at most 4 of"):
        train_group([one, other], 4)
    with pytest.raises(UserError, match=r"got: +5 trainings of 1 signatures"):
        train_group([one] * 5, 4)


@pytest.mark.parametrize(("count", "lanes", "sizes"), [(5, 8, [8]), (3, 16, [4]), (6, 4, [4, 4]), (1, 8, [1]), (0, 8, [])])
def test_several_are_trained_with_the_fewest_lanes_that_hold_them(
    count: int, lanes: int, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    from distill_prune.training import several

    asked: list[int] = []
    group = several.train_group

    def counted(trainings: Any, lanes: int, *more: Any) -> Any:
        asked.append(lanes)
        return group(trainings, lanes, *more)

    monkeypatch.setattr(several, "train_group", counted)
    model = model_of("convnet-instance")
    trainings = [training(model, seed, SMALL) for seed in range(count)]
    results = several.train_several(trainings, lanes)
    assert asked == sizes and len(results) == count
    assert all(furthest(alone(one), result) < 1e-9 for one, result in zip(trainings, results, strict=True))
