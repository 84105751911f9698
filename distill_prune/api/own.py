"""A network and examples of one's own, as the rooms below take them: checked once, here.

A network is an `nn.Module` as it stands: its weights are those that everything begins at, and it is never changed. Every
result is a state, all tensors by name, for `network.load_state_dict`.
"""

from __future__ import annotations

import copy
import secrets
from collections.abc import Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from distill_prune import objective
from distill_prune.artifacts import Examples
from distill_prune.errors import DataError, UserError
from distill_prune.models import Model, prunable_names
from distill_prune.plan.places import ARGUMENTS, locator
from distill_prune.plan.validate import entry, validated
from distill_prune.recipe import Recipe
from distill_prune.settings import Entry
from distill_prune.table import EntryModule, Table
from distill_prune.tree import clone

Network = nn.Module | Model
RecipeLike = Recipe | Mapping[str, object]
"""A recipe, or its fields as a pipeline file has them: {"length": "500it", "lr": 0.1}, {"preset": "idc"}."""

E = TypeVar("E", bound=EntryModule, covariant=True)


def as_model(network: Network, shape: tuple[int, ...]) -> Model:
    """A network as a function of its state, for inputs of one shape.

    Prunable are the weights of its convolutions and linear layers, or what its attribute `prunable` (a tuple of names) says.

    Args:
        network: Takes a batch (N, *shape), gives outputs (N, K): logits of K classes, or one number (K = 1).
        shape: (C, H, W) of images, (F,) of vectors; without the batch.

    Raises:
        UserError: it cannot take such inputs, gives something else, has no prunable weights, or shares one of them.
    """
    if isinstance(network, Model):
        return network
    if not isinstance(network, nn.Module):
        raise UserError("the network", got=type(network).__name__, expected="an nn.Module: an instance, not a class or a state")
    module = copy.deepcopy(network).to("cpu")
    weight = next((p for p in module.parameters() if p.is_floating_point()), None)
    if weight is None:
        raise UserError("the network has no parameters", got=type(network).__name__)
    try:
        with torch.no_grad():
            outputs = module.eval()(torch.zeros(2, *shape, dtype=weight.dtype))
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError) as problem:
        raise UserError(
            f"the network cannot take inputs of shape {('N', *shape)}".replace("'", ""),
            got=problem,
            fix="other layers, or examples",
        ) from problem
    if not isinstance(outputs, Tensor) or outputs.dim() != 2 or len(outputs) != 2:
        got = tuple(outputs.shape) if isinstance(outputs, Tensor) else type(outputs).__name__
        raise UserError("the network's outputs for 2 examples", got=got, expected="one tensor (2, K), K the number of classes")
    state = clone(module.state_dict())
    module.float()  # the shape of it, as of every `Model`: a network computes in the type of its state
    model = Model(
        lambda: copy.deepcopy(module), tuple(shape), outputs.shape[1], f"own {secrets.token_hex(16)}", lambda _: clone(state)
    )
    _check_prunable(model)
    return model


def _check_prunable(model: Model) -> None:
    """The prunable weights are there, and each is one tensor.

    Raises:
        UserError: there are none, one has no name in the state, or two names stand for one tensor.
    """
    names, state = model.prunable, model.module.state_dict()
    if not names:
        raise UserError(
            "the network has no prunable weights",
            got="no convolution and no linear layer",
            fix="an attribute `prunable` of the module: a tuple of names of weights",
        )
    if unknown := [name for name in names if name not in state]:
        weights = ", ".join(prunable_names(model.module)) or "none"
        raise UserError(
            f"the network declares '{unknown[0]}' as prunable, and has no such tensor", expected=f"such as {weights}"
        )
    places: dict[int, str] = {}
    for name in names:
        first = places.setdefault(state[name].data_ptr(), name)
        if first != name:
            raise UserError(
                f"two layers share the weight '{first}'",
                got=f"'{name}' is the same tensor",
                fix="an attribute `prunable` of the module: a tuple that names it once",
            )


def ready(network: Network, examples: Examples, state: Mapping[str, Tensor] | None = None, what: str = "examples") -> Model:
    """The model of a network for `examples`, which fit it, and the type of `state`: by default, of its own weights.

    Raises:
        UserError: the network cannot take them.
        DataError: there are none, or their type or labels do not fit the network.
    """
    if not len(examples):
        raise DataError(f"the {what} are empty", got="0 examples", expected="at least 1")
    model = as_model(network, tuple(examples.shape))
    if tuple(examples.shape) != model.shape:
        raise DataError(f"the {what} do not fit the network", got=tuple(examples.shape), expected=model.shape)
    begun = model.module.state_dict()
    weights = {**begun, **model.pretrained(begun)} if state is None else state
    weight = next((t for t in weights.values() if t.is_floating_point()), None)
    kind = examples.inputs(slice(0, 1)).dtype
    if weight is not None and not examples.tokens and kind != weight.dtype:
        fix = "x.float() / 255 of bytes, normalised as the network expects"
        raise DataError(f"the {what} are of another type than the network's weights", got=kind, expected=weight.dtype, fix=fix)
    y = examples.y
    if not y.is_floating_point() and not objective.is_asked(y):
        low, high = int(y.min()), int(y.max())
        if low < 0 or high >= model.classes:
            expected = f"0..{model.classes - 1}, as the network has {model.classes} outputs"
            raise DataError(f"labels of the {what}", got=f"{low}..{high}", expected=expected)
    elif y.dim() == 2 and y.is_floating_point() and y.shape[1] != model.classes:
        raise DataError(f"soft labels of the {what}", got=tuple(y.shape), expected=f"(N, {model.classes})")
    return model


def recipe_of(recipe: RecipeLike) -> Recipe:
    """A recipe, of itself or of its fields.

    Raises:
        ConfigError: a field is unknown, or its value cannot be used.
    """
    return recipe if isinstance(recipe, Recipe) else validated(Recipe, dict(recipe), (), locator("the recipe"))


def entry_of(table: Table[E], what: str | Mapping[str, object] | Entry) -> Entry:
    """The settings of an entry: of its name, or of its fields with its `name` among them.

    Raises:
        ConfigError: there is no such entry, or a field cannot be used.
    """
    if isinstance(what, Entry):
        return what
    return entry(table, {"name": what} if isinstance(what, str) else dict(what), [table.kind], ARGUMENTS)
