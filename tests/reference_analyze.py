"""Slow, obvious twins of the analyses, and small fakes for their tests."""

from __future__ import annotations

import copy
import itertools
import math

import torch
import torch.nn.functional as F
from torch import nn

from distill_prune.artifacts import Examples, Mask, SyntheticSet, Transform
from distill_prune.models import Model


def tiny(kind: str = "instance", classes: int = 3) -> Model:
    """A network of about 60 prunable weights on (1, 4, 4) inputs, smooth enough for second derivatives."""

    def build() -> nn.Module:
        norm = {"instance": [nn.GroupNorm(2, 2)], "batch": [nn.BatchNorm2d(2)], "none": []}[kind]
        return nn.Sequential(
            nn.Conv2d(1, 2, 3, padding=1), *norm, nn.Tanh(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(8, classes)
        )

    return Model(build, (1, 4, 4), classes, f"tiny-{kind}-{classes}")


def linear(features: int = 4, classes: int = 3) -> Model:
    """Multinomial logistic regression: its loss is convex in the weights."""

    def build() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(features, classes))

    return Model(build, (1, 1, features), classes, f"linear-{features}-{classes}")


def state_of(model: Model, seed: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
    """A random float64 state; statistics of norms are made uneven."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, t in model.fresh(seed, "init").items():
        if not t.is_floating_point():
            state[name] = t
        elif name.endswith("running_var"):
            state[name] = 0.5 + torch.rand(t.shape, generator=generator, dtype=torch.float64)
        else:
            state[name] = t.double() + 0.3 * scale * torch.randn(t.shape, generator=generator, dtype=torch.float64)
    return state


def examples_of(model: Model, n: int, seed: int = 0) -> Examples:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, *model.shape, generator=generator, dtype=torch.float64)
    return Examples(x, torch.randint(0, model.classes, (n,), generator=generator))


def mask_of(model: Model, state: dict[str, torch.Tensor], seed: int, keep: float = 0.6) -> Mask:
    generator = torch.Generator().manual_seed(seed)
    return Mask({n: torch.rand(state[n].shape, generator=generator) < keep for n in model.prunable})


def dense_hessian(model: Model, state: dict[str, torch.Tensor], examples: Examples) -> tuple[torch.Tensor, dict[str, slice]]:
    """The whole Hessian (P, P) of the mean cross-entropy over prunable weights, and where each layer lies in it."""
    names = list(model.prunable)
    sizes = [state[n].numel() for n in names]
    ends = list(itertools.accumulate(sizes))

    def loss(flat: torch.Tensor) -> torch.Tensor:
        weights = {n: p.view(state[n].shape) for n, p in zip(names, flat.split(sizes), strict=True)}
        return F.cross_entropy(model({**state, **weights}, examples.x), examples.y)

    flat = torch.cat([state[n].flatten() for n in names])
    # Reverse over reverse: group norm has no forward derivative of its backward pass.
    hessian = torch.func.jacrev(torch.func.jacrev(loss))(flat)
    return hessian, {n: slice(e - s, e) for n, s, e in zip(names, sizes, ends, strict=True)}


def error_on_line(
    model: Model,
    a: dict[str, torch.Tensor],
    b: dict[str, torch.Tensor],
    alpha: float,
    examples: Examples,
    batches: list[torch.Tensor] | None = None,
) -> tuple[float, float]:
    """(error, loss) at one alpha by a module of its own; batch-norm statistics by torch's own routine."""
    module = copy.deepcopy(model.module).double()
    mixed = {n: (1 - alpha) * a[n] + alpha * b[n] if a[n].is_floating_point() else a[n] for n in a}
    module.load_state_dict(mixed)
    if batches is not None:
        torch.optim.swa_utils.update_bn(batches, module)
    module.eval()
    with torch.no_grad():
        wrong, loss = 0, 0.0
        for x, y in zip(examples.x, examples.y, strict=True):
            logits = module(x[None])[0]
            wrong += int(logits.argmax() != y)
            loss += float(-logits.log_softmax(0)[y])
    return wrong / len(examples), loss / len(examples)


def sign_flips(differences: list[float]) -> float:
    """The share of all signings whose sum is at least as far from zero, one by one."""
    observed = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=len(differences))
    ]
    return sum(s >= observed - 1e-9 for s in sums) / len(sums)


def shared_by_chance(total: int, a: int, b: int) -> tuple[float, float]:
    """Mean and sd of the overlap of two random masks, by its probabilities."""
    chance = {
        k: math.comb(a, k) * math.comb(total - a, b - k) / math.comb(total, b)
        for k in range(max(0, a + b - total), min(a, b) + 1)
    }
    mean = sum(k * p for k, p in chance.items())
    return mean, math.sqrt(sum((k - mean) ** 2 * p for k, p in chance.items()))


def synthetic_of(model, lr=None, augment="none"):
    """Images whose class is a bright quadrant: quickly learned."""
    labels = torch.arange(model.classes).repeat_interleave(4)
    images = 0.1 * torch.randn(len(labels), *model.shape, generator=torch.Generator().manual_seed(0))
    for i, label in enumerate(labels.tolist()):
        images[i, 0, 2 * (label // 2) : 2 * (label // 2) + 2, 2 * (label % 2) : 2 * (label % 2) + 2] += 2
    transform = Transform("normalize", {"mean": torch.zeros(1), "std": torch.ones(1)})
    return SyntheticSet(images, labels, tuple("abc"), transform, "subset", lr, augment)


ARMS = [
    {"name": "syn", "images": "synthetic", "recipe": "short", "criterion": "magnitude", "label": "Synthetic IMP"},
    {"name": "real", "images": "real", "recipe": "long", "criterion": "magnitude", "label": "Real IMP"},
]
COSTS = {
    "sets": {
        "synthetic": {
            "distill": {"images": 1000, "steps": 10, "flops": 100},
            "experts": {"images": 5000, "steps": 50, "flops": 500},
        },
    },
    "search": [
        {"arm": arm, "seed": seed, "level": level, "images": 10 * level * (seed + 1), "steps": level, "flops": 7}
        for arm in ("syn", "real")
        for seed in (0, 1)
        for level in (1, 2)
    ],
}


def units_of(seeds, *, gap=0.0, barrier=0.01, levels=(1, 2)):
    """Dense at 0.9 +- small; the real arm equals dense, the synthetic arm lies `gap` above it at level 1."""
    made = []
    for seed in seeds:
        base = 0.9 + 0.001 * (seed % 3)
        made.append({"arm": "real", "seed": seed, "level": 0, "sparsity": 0.0, "accuracy": base, "barrier_test": 0.1})
        for level in levels:
            made.append(
                {
                    "arm": "real",
                    "seed": seed,
                    "level": level,
                    "sparsity": 0.2 * level,
                    "accuracy": base,
                    "barrier_test": 0.05,
                    "trace": 10.0,
                    "trace_per_weight": 0.1,
                }
            )
            made.append(
                {
                    "arm": "syn",
                    "seed": seed,
                    "level": level,
                    "sparsity": 0.2 * level,
                    "accuracy": base + (gap + 0.0001 * seed if level == 1 else -0.1),
                    "barrier_test": barrier,
                    "trace": 5.0,
                    "trace_per_weight": None,
                }
            )
    return made
