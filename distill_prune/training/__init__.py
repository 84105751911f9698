"""Training, evaluation and their costs, and products with the Hessian of the loss. Experts, dense networks, tickets, controls
and retraining share one loop."""

from distill_prune.recipe import Recipe
from distill_prune.training.costs import CountFlops, flops_of_examples, flops_of_step, input_of, training_cost
from distill_prune.training.evaluation import Score, evaluate, outputs
from distill_prune.training.independence import check_independence
from distill_prune.training.loop import Trained, Training, train, train_alone, train_group
from distill_prune.training.order import epoch_order
from distill_prune.training.several import Lanes, train_several

__all__ = [
    "CountFlops",
    "Lanes",
    "Recipe",
    "Score",
    "Trained",
    "Training",
    "check_independence",
    "epoch_order",
    "evaluate",
    "flops_of_examples",
    "flops_of_step",
    "input_of",
    "outputs",
    "train",
    "train_alone",
    "train_group",
    "train_several",
    "training_cost",
]
