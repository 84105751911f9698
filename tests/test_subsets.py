"""Herding and k-centre."""

from __future__ import annotations

import pytest
import torch
from reference_methods import STREAMS, made_source

from distill_prune.artifacts import Cost
from distill_prune.distill import herding, kcenter, needs_model
from distill_prune.errors import DataError
from distill_prune.progress import SILENT
from distill_prune.rng import stream

source = pytest.fixture(scope="module")(made_source)


# -- herding and k-centre


def herded(x, count):
    """For every place try every free row, and take the first of the best."""
    chosen = []
    for k in range(1, count + 1):
        gaps = {}
        for i in range(len(x)):
            if i not in chosen:
                mean = sum((x[j] for j in [*chosen, i]), torch.zeros_like(x[0])) / k
                gaps[i] = float(((mean - x.mean(0)) ** 2).sum())
        chosen.append(min(gaps, key=gaps.get))
    return chosen


def spread_out(x, count):
    distance = lambda i, y: float(((x[i] - y) ** 2).sum())  # noqa: E731
    chosen = [min(range(len(x)), key=lambda i: distance(i, x.mean(0)))]
    while len(chosen) < count:
        free = [i for i in range(len(x)) if i not in chosen]
        chosen.append(max(free, key=lambda i: min(distance(i, x[j]) for j in chosen)))
    return chosen


@pytest.mark.parametrize(("choose", "twin"), [(herding.herd, herded), (kcenter.spread, spread_out)])
@pytest.mark.parametrize("seed", range(4))
def test_choices_equal_brute_force(choose, twin, seed):
    x = torch.randn(17, 5, generator=stream(seed, "x"), dtype=torch.float64)
    assert choose(x, 17) == twin(x, 17) and choose(x, 4) == twin(x, 4)
    assert sorted(choose(x, 17)) == list(range(17))


@pytest.mark.parametrize("choose", [herding.herd, kcenter.spread])
def test_of_equal_images_the_first_is_taken_and_none_twice(choose):
    assert choose(torch.ones(5, 3, dtype=torch.float64), 5) == [0, 1, 2, 3, 4]


def test_herding_and_kcenter_keep_their_promises():
    x = torch.randn(200, 6, generator=stream(0, "x"), dtype=torch.float64)
    gap = lambda rows: float((x[rows].mean(0) - x.mean(0)).norm())  # noqa: E731
    reach = lambda rows: float(torch.cdist(x, x[rows]).amin(1).max())  # noqa: E731
    random = [torch.randperm(200, generator=stream(s, "random"))[:10].tolist() for s in range(20)]
    assert gap(herding.herd(x, 10)) < min(gap(rows) for rows in random)
    assert reach(kcenter.spread(x, 10)) <= 2 * min(reach(rows) for rows in random)
    clusters = (torch.arange(200) % 10).sort().values
    assert len(set(clusters[kcenter.spread(x + 100 * clusters.unsqueeze(1), 10)].tolist())) == 10


@pytest.mark.parametrize(("method", "choose"), [(herding, herding.herd), (kcenter, kcenter.spread)])
def test_chosen_sets_are_real_images_by_class(source, method, choose):
    found = method.distill(method.Settings(ipc=3, augment="flip"), source, STREAMS, "cpu", SILENT)
    for label in range(3):
        own = source.train.x[source.train.y == label]
        assert torch.equal(found.set.images[3 * label : 3 * label + 3], own[choose(own.flatten(1).double(), 3)])
    assert found.set.labels.tolist() == [0] * 3 + [1] * 3 + [2] * 3 and found.set.lr is None and found.set.augment == "flip"
    assert found.cost == Cost() and method.REAL_IMAGES and not needs_model(method, method.Settings())
    with pytest.raises(DataError, match=r"(?s)9 examples per class are more than class 'a' has.*at most 8.*smaller ipc"):
        method.distill(method.Settings(ipc=9), source, STREAMS, "cpu", SILENT)
