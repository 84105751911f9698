"""HLR, IOR and the label-robust score."""

from __future__ import annotations

import math

import pytest
import torch
from reference import convnet

from distill_prune.analyze import ranking
from distill_prune.analyze.inputs import SetInput
from distill_prune.analyze.ranking import label_robust_score
from distill_prune.artifacts import Examples, SyntheticSet, Transform
from distill_prune.errors import UserError
from distill_prune.rng import Streams, stream

SPACE = Transform("normalize", {"mean": torch.zeros(1), "std": torch.ones(1)})
QUICK = ranking.Settings(nets=2, length="30it", real_length="2ep", rates=(0.05, 0.2), batch=8, lr=0.1)


def parts_of(model, noise=0.5):
    """A task that a small network learns in seconds: three patterns under noise."""
    patterns = torch.randn(3, *model.shape, generator=stream(0, "patterns"))
    made = {}
    for name, n in (("train", 90), ("validation", 30), ("test", 60)):
        y = torch.arange(n) % 3
        made[name] = Examples(patterns[y] + noise * torch.randn(n, *model.shape, generator=stream(0, name)), y)
    return made, patterns


@pytest.mark.parametrize(("hlr", "ior", "score"), [(1.0, -1.0, 0.0), (-1.0, 1.0, 1.0)])
def test_the_score_lies_between_nothing_and_one(hlr, ior, score):
    assert label_robust_score(hlr, ior) == pytest.approx(score)


def test_the_score_by_hand():
    alpha = 0.3 * 0.2 - 0.7 * 0.1
    expected = (math.exp(alpha) - 1 / math.e) / (math.e - 1 / math.e)
    assert label_robust_score(0.1, 0.2, 0.3) == pytest.approx(expected)
    assert label_robust_score(0.1, 0.3) > label_robust_score(0.1, 0.2) > label_robust_score(0.2, 0.2)


def measured(labels, kind, settings=QUICK):
    model = convnet()
    parts, patterns = parts_of(model)
    held = SyntheticSet(patterns.clone(), labels, ("a", "b", "c"), SPACE, "x", 0.1, "none", 1, kind)
    return ranking.measure(settings, SetInput(model, held, parts, SPACE, Streams(0), network="tiny")).numbers


def test_scores_are_differences_of_accuracies():
    numbers = measured(torch.arange(3), "classes")
    means = {k: v["mean"] for k, v in numbers["accuracy"].items()}
    assert numbers["hlr"]["mean"] == pytest.approx(means["real_hard"] - means["synthetic_hard"])
    assert numbers["ior"]["mean"] == pytest.approx(means["synthetic_own"] - means["random_own"])
    assert numbers["hlr"]["n"] == 2 and set(numbers["rates"]) == {"real_hard", "synthetic_hard"}
    assert all(rate in QUICK.rates for rate in numbers["rates"].values())
    assert numbers == measured(torch.arange(3), "classes")
    assert means["synthetic_own"] > 0.8, "the patterns themselves are the best set there is"


def test_hard_labels_replace_soft_ones_where_labels_must_not_help():
    """Soft labels that are all but wrong spoil the set's own recipe; with hard labels they name the likeliest class."""
    values = torch.full((3, 3), 0.33)
    values[torch.arange(3), torch.arange(3)] = 0.34
    numbers = measured(values, "probabilities")
    assert numbers["accuracy"]["synthetic_hard"]["mean"] > numbers["accuracy"]["synthetic_own"]["mean"] - 0.1
    assert numbers["accuracy"]["synthetic_hard"] == measured(torch.arange(3), "classes")["accuracy"]["synthetic_hard"]


def test_several_rates_need_a_validation_part():
    model = convnet()
    parts, patterns = parts_of(model)
    parts["validation"] = Examples(patterns[:0], torch.arange(0))
    held = SyntheticSet(patterns, torch.arange(3), ("a", "b", "c"), SPACE, "x")
    with pytest.raises(UserError, match=r"(?s)have no validation part.*a single rate"):
        ranking.measure(QUICK, SetInput(model, held, parts, SPACE, Streams(0)))
    single = QUICK.model_copy(update={"rates": (0.1,)})
    assert ranking.measure(single, SetInput(model, held, parts, SPACE, Streams(0))).numbers["rates"]["real_hard"] == 0.1
