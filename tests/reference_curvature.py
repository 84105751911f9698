"""Small networks with their whole Hessian, by torch's own routine, for the tests of what is estimated of it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from reference_analyze import examples_of, mask_of, state_of
from torch import nn

from distill_prune.artifacts import Examples, Mask
from distill_prune.data import DATASETS, prepare
from distill_prune.models import MODELS, Model, build_model
from distill_prune.rng import Streams
from distill_prune.training import Recipe, train
from distill_prune.training.hessian import Products
from distill_prune.tree import State

NETS = ["group", "instance", "batch", "lenet", "transformer"]
STREAMS = Streams(3, ("compare",))


class Transformer(nn.Module):
    """One block with one head, on the four 2x2 patches of 4x4 pixels; attention written out."""

    def __init__(self, width: int = 4, classes: int = 3) -> None:
        super().__init__()
        self.embed, self.places = nn.Linear(4, width), nn.Parameter(torch.randn(4, width))
        self.before, self.after = nn.LayerNorm(width), nn.LayerNorm(width)
        self.three, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 6), nn.Linear(6, width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.embed(F.unfold(x, 2, stride=2).mT) + self.places
        q, k, v = self.three(self.before(h)).chunk(3, -1)
        h = h + self.out((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v)
        h = h + self.down(F.gelu(self.up(self.after(h))))
        return self.head(h.mean(1))


def network(kind: str) -> Model:
    """About a hundred prunable weights on (1, 4, 4) inputs, three classes. Group norm takes 4 groups: of one channel of 4
    they would be instances."""
    if kind == "transformer":
        return Model(Transformer, (1, 4, 4), 3, "transformer")
    if kind == "lenet":
        settings = MODELS["lenet"].Settings(hidden=(5, 4))
    else:
        settings = MODELS["convnet"].Settings(depth=1, width=8 if kind == "group" else 4, norm=kind)
    return build_model(settings, (1, 4, 4), 3)


@dataclass(frozen=True)
class Scene:
    """A pruned network on examples. `hessian` (S, S) is that over survivors, `whole` (P, P) that over all prunable weights;
    `kept` (P,) says which survive, `layer` (S,) whose entries are whose, `weights` (S,) what they are."""

    model: Model
    state: State
    mask: Mask
    examples: Examples
    whole: torch.Tensor
    kept: torch.Tensor

    @property
    def hessian(self) -> torch.Tensor:
        return self.whole[self.kept][:, self.kept]

    @property
    def layer(self) -> list[str]:
        return [n for n in self.model.prunable for _ in range(int(self.mask.kept[n].sum()))]

    @property
    def weights(self) -> torch.Tensor:
        return torch.cat([self.state[n][self.mask.kept[n]] for n in self.model.prunable])

    def by_layer(self, entries: torch.Tensor) -> dict[str, float]:
        return {n: sum(float(e) for e, at in zip(entries, self.layer, strict=True) if at == n) for n in self.model.prunable}


@cache
def scene(kind: str, n: int = 14, keep: float = 0.6, seed: int = 0) -> Scene:
    model = network(kind)
    state = state_of(model, seed)
    mask = mask_of(model, state, 5, keep)
    return Scene(
        model,
        mask.apply(state),
        mask,
        examples_of(model, n),
        whole_hessian(model, mask.apply(state), examples_of(model, n)),
        torch.cat([mask.kept[n].flatten() for n in model.prunable]),
    )


def whole_hessian(model: Model, state: State, examples: Examples) -> torch.Tensor:
    """(P, P), of the mean cross-entropy over all prunable weights, by `torch.autograd.functional`."""
    names = list(model.prunable)
    sizes = [state[n].numel() for n in names]

    def loss(flat: torch.Tensor) -> torch.Tensor:
        weights = {n: p.view(state[n].shape) for n, p in zip(names, flat.split(sizes), strict=True)}
        return F.cross_entropy(model({**state, **weights}, examples.x), examples.y)

    found = torch.autograd.functional.hessian(loss, torch.cat([state[n].flatten() for n in names]))
    return (found + found.mT) / 2


@cache
def trained_hessian() -> torch.Tensor:
    """(170, 170), over the larger half of the weights of a ConvNet that has learned the digits. One eigenvalue is two
    fifths of the trace."""
    images = prepare(DATASETS["digits"].Settings())
    examples = images.examples("train").ready()
    model = build_model(MODELS["convnet"].Settings(depth=2, width=4), (1, 8, 8), 10)
    recipe = Recipe(length="20ep", batch=64, lr=0.2)
    found = train(model, model.fresh(0, "i"), examples, recipe, Streams(0, ("x",)), device="cpu").state
    state = {n: t.double() if t.is_floating_point() else t for n, t in found.items()}
    middle = torch.cat([state[n].flatten().abs() for n in model.prunable]).median()
    mask = Mask({n: state[n].abs() >= middle for n in model.prunable})
    # The weights below the middle are left as they are: these are entries of the dense network's matrix, quickly had.
    products = Products(model, state, mask, Examples(examples.x[:128].double(), examples.y[:128]))
    found = products.times(torch.eye(products.survivors, dtype=torch.float64))
    return (found + found.mT) / 2


class Dense:
    """A matrix in the place of `Products`."""

    def __init__(self, matrix: torch.Tensor) -> None:
        self.matrix, self.survivors, self.loss, self.layers = matrix, len(matrix), 0.0, ["all"]

    def times(self, vectors: torch.Tensor) -> torch.Tensor:
        return vectors @ self.matrix

    def by_layer(self, entries: torch.Tensor) -> torch.Tensor:
        return entries.sum(-1, keepdim=True)


def signs(rng: np.random.Generator, *shape: int) -> torch.Tensor:
    return torch.from_numpy(rng.integers(0, 2, shape).astype(np.float64) * 2 - 1)
