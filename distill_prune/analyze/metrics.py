"""Scores of GLUE's tasks on the whole test part: F1 and Matthews' correlation of classes, Pearson and Spearman of numbers; of
word pieces that are asked the accuracy alone.

    F1 = 2 TP / (2 TP + FP + FN), of the class `positive`
    Matthews = cov(y, p) / sqrt(cov(y, y) cov(p, p)), over the indicators of all classes

They are of the whole set, never means over batches, and 0 where the outputs are constant.

References:
    | GLUE: A Multi-Task Benchmark and Analysis Platform for Natural Language Understanding (Wang et al., 2019),
      https://arxiv.org/abs/1804.07461
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field
from torch import Tensor

from distill_prune.analyze.copies import check_filled
from distill_prune.analyze.estimate import estimate
from distill_prune.analyze.inputs import Copies
from distill_prune.analyze.metric import Metric
from distill_prune.artifacts import Measurements
from distill_prune.errors import UserError
from distill_prune.objective import is_asked, is_regression, pearson
from distill_prune.settings import Entry as Base
from distill_prune.training import evaluate, outputs
from distill_prune.tree import State, to

TAKES: Literal["copies"] = "copies"


class Settings(Base):
    name: Literal["metrics"] = "metrics"
    positive: int = Field(1, ge=0, description="the class that F1 is of")


METRICS = (
    Metric("f1", "F1 score", "%", 100, group="scores", beside=None, some_tasks=True),
    Metric(
        "matthews",
        "Matthews correlation",
        "× 100",
        100,
        group="scores",
        beside=None,
        some_tasks=True,
    ),
    Metric(
        "spearman",
        "Spearman correlation",
        "× 100",
        100,
        group="scores",
        beside=None,
        some_tasks=True,
    ),
)


def measure(settings: Settings, copies: Copies) -> Measurements:
    """The scores of each copy on the test part, and their estimates over copies.

    Numbers: `copies` [{metric: value}] and {metric: estimate}: of classes accuracy, f1, matthews; of numbers pearson, spearman;
    of word pieces accuracy.

    Raises:
        UserError: no copy is given, the test part has no examples, or no class `positive`.
    """
    model, test = copies.model, copies.test
    if not copies.states:
        raise UserError("metrics of no copies", got=0, expected="at least one retrained copy")
    check_filled("metrics", {"test": test})
    asked = is_asked(test.y)
    if not asked and not is_regression(test.y) and settings.positive >= model.classes:
        raise UserError("metrics.positive is no class", got=settings.positive, expected=f"0..{model.classes - 1}")

    def scored_of(copy: State) -> dict[str, float]:
        if asked:
            return {"accuracy": 1 - evaluate(model, copy, test).error}
        return scores(outputs(model, copy, test), test.y, settings.positive)

    scored = [scored_of(to(copy, test.x.device)) for copy in copies.states]
    return Measurements("metrics", {"copies": scored, **{name: estimate([s[name] for s in scored]) for name in scored[0]}})


def scores(found: Tensor, y: Tensor, positive: int = 1) -> dict[str, float]:
    """The scores of outputs (N, K) for labels `y` (N,)."""
    if is_regression(y):
        value = found.squeeze(1)
        return {"pearson": pearson(value, y), "spearman": pearson(_ranks(value), _ranks(y))}
    from sklearn.metrics import f1_score, matthews_corrcoef

    said, truth = found.argmax(1).cpu().numpy(), y.cpu().numpy()
    return {
        "accuracy": float((said == truth).mean()),
        "f1": float(f1_score(truth, said, labels=[positive], average="micro", zero_division=0.0)),
        "matthews": float(matthews_corrcoef(truth, said)),
    }


def _ranks(values: Tensor) -> Tensor:
    """Ranks (N,), means of ranks among equals."""
    import torch
    from scipy.stats import rankdata

    return torch.from_numpy(rankdata(values.double().cpu().numpy()))
