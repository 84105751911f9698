"""How good is a synthetic set: fresh networks trained on it alone, scored on real data.

The protocol of trajectory matching: a new initialisation each time, SGD at the set's learned rate, momentum 0.9,
weight decay 5e-4, batch 256, 1000 epochs, the rate times 0.1 half-way, the set's own augmentation; accuracy at the end,
not the best over time. There the optimizer is new at the half-way mark; here its momentum is kept.

References:
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), https://arxiv.org/abs/2203.11932
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from distill_prune.analyze.estimate import estimate
from distill_prune.analyze.inputs import SetInput
from distill_prune.analyze.metric import Metric
from distill_prune.artifacts import Cost, Examples, Measurements, SyntheticSet
from distill_prune.data.augment import Augment
from distill_prune.duration import Duration
from distill_prune.errors import UserError
from distill_prune.models import Model
from distill_prune.rng import Streams, seed_of
from distill_prune.settings import Entry as Base
from distill_prune.settings import Later
from distill_prune.training import Recipe, Training, evaluate, train_several
from distill_prune.tree import to

TAKES: Literal["set"] = "set"
LANES = True
SCORED = ("validation", "test")


class Protocol(Base):
    """Training of fresh networks on a set; what is left open is the set's own."""

    nets: int = Field(5, ge=1, description="fresh networks that are trained on the set")
    length: Duration = Field(Duration(1000, "ep"), description="length of each training")
    batch: int = Field(256, ge=1, description="examples in a batch")
    lr: float | None = Field(None, gt=0, description="default: the set's learned rate, else 0.01")
    momentum: float = Field(0.9, ge=0, lt=1, description="of the optimizer")
    weight_decay: float = Field(5e-4, ge=0, description="of the optimizer")
    milestone: float = Field(0.5, gt=0, le=1, description="where the rate falls, as a share of the length")
    gamma: float = Field(0.1, gt=0, le=1, description="what the rate is multiplied by there")
    augment: Augment | None = Field(None, description="default: the set's own")
    optimizer: Literal["sgd", "adamw"] = Later("sgd", description="sgd, or adamw for text")

    def recipe(self, synthetic: SyntheticSet) -> Recipe:
        """The recipe, with what is left open taken from the set."""
        return Recipe(
            length=self.length,
            batch=self.batch,
            lr=self.lr or synthetic.lr or 0.01,
            optimizer=self.optimizer,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            schedule="step",
            milestones=(self.milestone,),
            gamma=self.gamma,
            augment=synthetic.augment if self.augment is None else self.augment,
        )


class Settings(Protocol):
    name: Literal["evaluation"] = "evaluation"


METRICS = (Metric("accuracy_of_set", "Test accuracy of the set", "%", 100, at=("accuracy", "test")),)


def check_fits(given: SetInput) -> None:
    """Refuse a set that the network cannot take, or that lives in another space than the data beside it.

    Raises:
        UserError: so it is.
    """
    synthetic, shape = given.synthetic, given.model.shape
    if synthetic.transform.kind != "text" and tuple(synthetic.images.shape[1:]) != shape:
        raise UserError(
            f"the synthetic images do not fit network '{given.network}'", got=tuple(synthetic.images.shape[1:]), expected=shape
        )
    if not synthetic.fits(given.transform):
        raise UserError(
            "the synthetic set lives in another input space than the data it would be tested on",
            got=f"{synthetic.transform.kind} and {given.transform.kind}, fitted separately",
            fix="evaluate on the data set, split and transform that the set was distilled from",
        )


def fresh(model: Model, examples: Examples, recipe: Recipe, noise: Streams) -> Training:
    """The training of a fresh network, which has its initialisation and SGD noise from the streams."""
    start = model.fresh(seed_of(noise.seed, *noise.names, "init", **dict(noise.parts)))
    return Training(model, start, examples, recipe, noise)


def measure(settings: Settings, given: SetInput) -> Measurements:
    """Accuracies, on the validation and test parts, of `nets` fresh networks trained on the set.

    Numbers: `network`, `recipe` (as used), `accuracy` and `loss` {part: estimate over nets, for this one set},
    `nets` [{part: {accuracy, loss, count}}], and the `cost` of all trainings together.

    Raises:
        UserError: the set's images do not fit the network, or live in another input space than the parts.
    """
    check_fits(given)
    model, device = given.model, given.device
    trains_on = given.synthetic.examples(given.transform)
    filled = {name: e for name, e in given.parts.items() if len(e) and name in SCORED}
    recipe, cost = settings.recipe(given.synthetic), Cost()
    ready = {name: e.to(device).ready() for name, e in filled.items()}
    nets: list[dict[str, dict[str, Any]]] = []
    trainings = [fresh(model, trains_on, recipe, given.streams.under("evaluation", net=i)) for i in range(settings.nets)]
    for trained in train_several(trainings, given.lanes, device, given.progress):
        cost += trained.cost
        scores = {name: evaluate(model, to(trained.state, device), e) for name, e in ready.items()}
        nets.append({n: {"accuracy": 1 - s.error, "loss": s.loss, "count": s.count} for n, s in scores.items()})
    over = {key: {name: estimate([n[name][key] for n in nets]) for name in ready} for key in ("accuracy", "loss")}
    return Measurements(
        "evaluation", {"network": given.network, "recipe": recipe.model_dump(), **over, "nets": nets, "cost": cost.json()}
    )
