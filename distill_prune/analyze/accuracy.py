"""Accuracy and mean cross-entropy of retrained copies on every part of the data.

accuracy = share of examples whose largest logit is their class; loss = mean cross-entropy; both in evaluation mode.
"""

from __future__ import annotations

from typing import Literal

from distill_prune.analyze.copies import check_filled
from distill_prune.analyze.estimate import estimate
from distill_prune.analyze.inputs import Copies
from distill_prune.analyze.metric import ACCURACY, IS_ACCURATE, Metric
from distill_prune.artifacts import Measurements
from distill_prune.errors import UserError
from distill_prune.settings import Entry as Base
from distill_prune.training import evaluate
from distill_prune.tree import to

TAKES: Literal["copies"] = "copies"


class Settings(Base):
    name: Literal["accuracy"] = "accuracy"


METRICS = (
    Metric(
        ACCURACY,
        "Test accuracy",
        "%",
        100,
        at=("accuracy", "test"),
        group="accuracy",
        words="accuracy",
        tested=True,
        question=IS_ACCURATE,
    ),
    Metric(
        "train_accuracy",
        "Train accuracy",
        "%",
        100,
        at=("accuracy", "train"),
        group="accuracy",
        column=None,
        beside="accuracy_train",
    ),
)


def measure(settings: Settings, copies: Copies) -> Measurements:
    """Accuracy (a fraction) and loss of each copy on each part that has examples, and their estimates over copies.

    Numbers: `copies` [{part: {accuracy, loss, count}}], `accuracy` {part: estimate}, `loss` {part: estimate}.

    Raises:
        UserError: no copy is given, or train or test has no examples.
    """
    if not copies.states:
        raise UserError("accuracy of no copies", got=0, expected="at least one retrained copy")
    # A split may do without validation.
    check_filled("accuracy", {name: examples for name, examples in copies.parts.items() if name != "validation"})
    filled = {name: examples for name, examples in copies.parts.items() if len(examples)}
    scored = []
    for state in copies.states:
        scores = {name: evaluate(copies.model, to(state, examples.x.device), examples) for name, examples in filled.items()}
        scored.append({n: {"accuracy": 1 - s.error, "loss": s.loss, "count": s.count} for n, s in scores.items()})
    over = {key: {name: estimate([s[name][key] for s in scored]) for name in filled} for key in ("accuracy", "loss")}
    return Measurements("accuracy", {"copies": scored, **over})
