"""How much of a set's score is the set's own: HLR, IOR and the label-robust score of DD-Ranking, in fractions.

    HLR = acc(real, hard labels) - acc(synthetic, hard labels)      what is lost against real data, labels being equal
    IOR = acc(synthetic, its own recipe) - acc(random, that recipe) what is gained over as many random real images
    LRS = (e^a - e^-1) / (e - e^-1),   a = w IOR - (1 - w) HLR,  w = 1/2

acc is the test accuracy of a fresh network at the end of its training. With hard labels the learning rate is chosen among
`rates` by validation accuracy, once for each kind of data; the set's own recipe is that of `evaluation`: its labels, rate
and augmentation. The random images are drawn anew for every network and keep their hard labels. With fractions in place of
percentages a lies in [-1, 1] and LRS in [0, 1], as the paper has it. With `random_labels: as_set` the random images of a set
with soft labels get the probabilities of the network that the same number was trained on real images, as in the paper.

References:
    | DD-Ranking: Rethinking the Evaluation of Dataset Distillation (Li et al., 2025), https://arxiv.org/abs/2505.13300
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Literal

import torch
from pydantic import Field

from distill_prune.analyze import evaluation
from distill_prune.analyze.estimate import estimate
from distill_prune.analyze.inputs import SetInput
from distill_prune.artifacts import Cost, Examples, Measurements
from distill_prune.duration import Duration
from distill_prune.errors import UserError
from distill_prune.models import Model
from distill_prune.rng import Streams
from distill_prune.settings import Later
from distill_prune.training import Recipe, evaluate, train_several
from distill_prune.training.evaluation import outputs
from distill_prune.tree import State, to

TAKES: Literal["set"] = "set"
LANES = True
ARMS = ("real_hard", "synthetic_hard", "synthetic_own", "random_own")


class Settings(evaluation.Protocol):
    """The fields of `evaluation` are the set's own recipe; the others are the trainings with hard labels."""

    name: Literal["ranking"] = "ranking"
    real_length: Duration = Field(Duration(20, "ep"), description="training on all real images")
    rates: tuple[Annotated[float, Field(gt=0)], ...] = Field(
        (0.01, 0.03, 0.1), min_length=1, description="learning rates of which each training takes the best by validation"
    )
    weight: float = Field(0.5, ge=0, le=1, description="w in the label-robust score: of IOR, and 1 - w of HLR")
    random_labels: Literal["classes", "as_set"] = Later(
        "classes", description="labels of random images; as_set: soft where the set's are, by networks trained on real images"
    )


def measure(settings: Settings, given: SetInput) -> Measurements:
    """The scores of one set over `nets` fresh networks of each kind.

    Numbers: `accuracy` {real_hard, synthetic_hard, synthetic_own, random_own: estimate of test accuracy}, `hlr`, `ior`,
    `lrs` (estimates over networks, the i-th of each kind together), the `rates` chosen, and the `cost` of it all.

    Raises:
        UserError: the set does not fit the network or the data, or there is no validation part to choose rates by.
    """
    evaluation.check_fits(given)
    model, synthetic, parts, streams, device = given.model, given.synthetic, given.parts, given.streams, given.device
    if not len(parts["validation"]) and len(settings.rates) > 1:
        raise UserError(
            "ranking chooses among several rates by validation accuracy, and the data have no validation part",
            fix="data.validation: 0.1, or a single rate in compare.ranking.rates",
        )
    soft = synthetic.examples(given.transform)
    hard = Examples(soft.x, synthetic.hard.repeat(synthetic.factor**2))
    recipe = settings.recipe(synthetic)
    lengths = {"real_hard": settings.real_length, "synthetic_hard": settings.length}
    runs = len(settings.rates) * 2 + settings.nets * len(ARMS) - 2
    done, cost = 0, Cost()

    def trained(kind: str, examples: Sequence[Examples], how: Recipe, first: int = 0) -> list[State]:
        """Fresh networks from number `first` on, one for each of `examples`."""
        nonlocal done, cost
        trainings = [
            evaluation.fresh(model, e, how, streams.under(kind, net=net)) for net, e in enumerate(examples, start=first)
        ]
        outcomes = train_several(trainings, given.lanes, device)
        done, cost = done + len(outcomes), sum((outcome.cost for outcome in outcomes), cost)
        given.progress.tick(done, runs, kind)
        return [to(outcome.state, device) for outcome in outcomes]

    def score(state: State, part: str) -> float:
        return 1 - evaluate(model, state, parts[part].to(device)).error

    accuracy: dict[str, list[float]] = {}
    networks: dict[str, list[State]] = {}
    chosen: dict[str, float] = {}
    for kind, examples in (("real_hard", parts["train"]), ("synthetic_hard", hard)):
        tried = {
            rate: trained(kind, [examples], recipe.model_copy(update={"lr": rate, "length": lengths[kind]}))[0]
            for rate in settings.rates
        }
        by = {rate: score(state, "validation") for rate, state in tried.items()} if len(tried) > 1 else {}
        rate = chosen[kind] = max(tried, key=lambda r: by.get(r, 0.0))
        how = recipe.model_copy(update={"lr": rate, "length": lengths[kind]})
        later = trained(kind, [examples] * (settings.nets - 1), how, 1)
        networks[kind] = [tried[rate], *later]
        accuracy[kind] = [score(state, "test") for state in networks[kind]]
    random = [_random(parts["train"], hard, streams, net) for net in range(settings.nets)]
    if settings.random_labels == "as_set" and synthetic.label_kind != "classes":
        random = [_taught(model, state, e) for state, e in zip(networks["real_hard"], random, strict=True)]
    by_recipe = {"synthetic_own": [soft] * settings.nets, "random_own": random}
    accuracy |= {kind: [score(state, "test") for state in trained(kind, sets, recipe)] for kind, sets in by_recipe.items()}
    hlr = [a - b for a, b in zip(accuracy["real_hard"], accuracy["synthetic_hard"], strict=True)]
    ior = [a - b for a, b in zip(accuracy["synthetic_own"], accuracy["random_own"], strict=True)]
    lrs = [label_robust_score(h, i, settings.weight) for h, i in zip(hlr, ior, strict=True)]
    return Measurements(
        "ranking",
        {
            "network": given.network,
            "recipe": recipe.model_dump(),
            "rates": chosen,
            "accuracy": {kind: estimate(accuracy[kind]) for kind in ARMS},
            "hlr": estimate(hlr),
            "ior": estimate(ior),
            "lrs": estimate(lrs),
            "cost": cost.json(),
        },
    )


def label_robust_score(hlr: float, ior: float, weight: float = 0.5) -> float:
    """LRS of HLR and IOR in fractions; 0 at the worst (HLR 1, IOR -1), 1 at the best."""
    return (math.exp(weight * ior - (1 - weight) * hlr) - math.exp(-1)) / (math.e - math.exp(-1))


def _taught(model: Model, state: State, examples: Examples) -> Examples:
    """The examples with a network's probabilities (N, K) as labels."""
    x = examples.x.to(next(iter(state.values())).device)
    labels = outputs(model, state, replace(examples, x=x, y=examples.y.to(x.device))).softmax(1)
    return replace(examples, y=labels.to(examples.x.device))


def _random(train: Examples, like: Examples, streams: Streams, net: int) -> Examples:
    """As many random real images of every class as `like` has, with their classes."""
    rows = []
    for label in sorted(set(like.y.tolist())):
        of_class = (train.y == label).nonzero().squeeze(1).cpu()
        order = torch.randperm(len(of_class), generator=streams("random", net=net, label=label))
        rows.append(of_class[order[: int((like.y == label).sum())]])
    index = torch.cat(rows).to(train.x.device)
    return replace(train.take(index), x=train.inputs(index), transform=None)
