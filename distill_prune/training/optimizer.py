"""The optimizer that a recipe asks for, and its state as tensors by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from distill_prune.errors import UserError
from distill_prune.models import Model
from distill_prune.recipe import Recipe

SLOTS = "optimizer/"
"""What the names of an optimizer's tensors begin with."""


def groups_of(recipe: Recipe, model: Model, module: nn.Module) -> list[tuple[float, list[nn.Parameter]]]:
    """The trained parameters of `module` in groups, each with its learning rate over the recipe's.

    Raises:
        UserError: the recipe has a rate for a head that the network does not name.
    """
    trained = {n: p for n, p in module.named_parameters() if p.requires_grad}
    if recipe.head_lr is None:
        return [(1.0, list(trained.values()))]
    if not model.head:
        raise UserError(
            "head_lr is a learning rate of the task's head, and this network names none",
            got=recipe.head_lr,
            fix="leave head_lr out of the recipe",
        )
    body, head = ([p for n, p in trained.items() if (n in model.head) is inside] for inside in (False, True))
    return [(1.0, body), (recipe.head_lr / recipe.lr, head)]


def optimizer_of(recipe: Recipe, parameters: Sequence[tuple[float, Sequence[nn.Parameter]]]) -> torch.optim.Optimizer:
    """The recipe's optimizer over groups of parameters; a group's learning rate is the recipe's times its first number."""
    lr, decay = recipe.lr, recipe.weight_decay
    groups: list[dict[str, object]] = [{"params": list(ps), "times": times} for times, ps in parameters]
    if recipe.optimizer in ("sgd", "sam"):
        momentum, nesterov = recipe.momentum, recipe.nesterov
        return torch.optim.SGD(groups, lr, momentum, weight_decay=decay, nesterov=nesterov, fused=True)
    kind = torch.optim.AdamW if recipe.optimizer == "adamw" else torch.optim.Adam
    return kind(groups, lr, weight_decay=decay, fused=True)


def lane_norms(gradients: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm (lanes,) of each lane's gradients together; each of `gradients` is (lanes, ...)."""
    norms: Tensor = torch.stack([g.flatten(1).norm(dim=1) for g in gradients]).norm(dim=0)
    return norms


def slots_of(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimizer's tensors (momenta, means, counters) by name, not copied: `optimizer/INDEX OF THE PARAMETER/SLOT`."""
    return {
        f"{SLOTS}{index}/{slot}": value
        for index, slots in optimizer.state_dict()["state"].items()
        for slot, value in slots.items()
        if isinstance(value, Tensor)
    }


def load_slots(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put the tensors that `slots_of` names back, whatever else `tensors` holds. The optimizer may go on to write to them."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        if name.startswith(SLOTS):
            index, slot = name.removeprefix(SLOTS).split("/")
            state.setdefault(int(index), {})[slot] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
