"""Linear mode connectivity: the error barrier between copies of one ticket, trained under different SGD noise.

On the line W(alpha) = (1 - alpha) W_1 + alpha W_2, alpha in linspace(0, 1, 30),

    barrier = sup_alpha E(W(alpha)) - (E(W_1) + E(W_2)) / 2
    excess  = sup_alpha [ E(W(alpha)) - ((1 - alpha) E(W_1) + alpha E(W_2)) ]

E is the test error, the train error on recorded rows, or the loss on either. The barrier (Frankle's instability) cannot
fall below half the endpoints' difference; the excess over the chord can.

References:
    | Linear Mode Connectivity and the Lottery Ticket Hypothesis, section 2 (Frankle et al., 2020),
      https://arxiv.org/abs/1912.05671
    | REPAIR: renormalizing permuted activations for interpolation repair (Jordan et al., 2023), on why batch-norm
      statistics are measured anew on the line, https://arxiv.org/abs/2211.08403
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from distill_prune.analyze.estimate import dependent
from distill_prune.analyze.rows import RecordedRows, draw_rows
from distill_prune.artifacts import Examples, Mask, Measurements
from distill_prune.errors import UserError
from distill_prune.models import Model
from distill_prune.progress import SILENT, Progress
from distill_prune.rng import Streams
from distill_prune.settings import Entry as Base
from distill_prune.training import evaluate
from distill_prune.tree import State, lerp, to

TAKES: Literal["copies"] = "copies"
CURVES = ("test_error", "train_error", "test_loss", "train_loss")


class Settings(Base):
    name: Literal["connectivity"] = "connectivity"
    points: int = Field(30, ge=2)
    train_rows: int = Field(10_000, ge=1)
    norm_rows: int = Field(2048, ge=2, description="train examples that batch-norm statistics are measured on anew")
    norm_batch: int = Field(256, ge=2)
    allow_different_masks: bool = False


def measure(
    settings: Settings,
    model: Model,
    copies: Sequence[State],
    masks: Sequence[Mask],
    train: Examples,
    test: Examples,
    streams: Streams,
    progress: Progress = SILENT,
) -> Measurements:
    """Barriers and excesses of all pairs of copies and their means, on the device that the examples live on.

    Pairs share copies, so their mean comes with its spread (`sd`) and count but no standard error: the unit is the
    initialisation. Numbers: `barrier` and `excess` {curve: estimate}, `distance` (Euclidean, over all parameters),
    `curves` (means over pairs at `alphas`), `pairs`, and `rows`, the recorded rows. Curves are those of `CURVES`.

    Raises:
        UserError: fewer than two copies, different masks, or counters that cannot be interpolated.
    """
    _check(settings, model, copies, masks)
    device = train.x.device
    rows = draw_rows(len(train), settings.train_rows, streams("connectivity", "rows"))
    parts = {"train": train.take(rows.index.to(device)).ready(), "test": test.ready()}
    record = {"train": rows.record(), "test": {"count": len(test)}}
    renew: Callable[[State], State] = dict
    if model.batch_norms:
        norm = draw_rows(len(train), settings.norm_rows, streams("connectivity", "norm"))
        # Equal batches only: a short one would weigh as much as a full one.
        batch = min(settings.norm_batch, len(norm.index))
        norm = RecordedRows(norm.index[: len(norm.index) // batch * batch])
        inputs = train.take(norm.index.to(device)).ready().x
        renew = _renewer(model, to(copies[0], device), torch.split(inputs, batch))
        record["norm"] = norm.record() | {"batch": batch}
    alphas = torch.linspace(0, 1, settings.points, dtype=torch.float64).tolist()
    placed = [to(c, device) for c in copies]
    chosen = list(combinations(range(len(copies)), 2))
    pairs = []
    for done, (i, j) in enumerate(chosen):
        curves: dict[str, list[float]] = {name: [] for name in CURVES}
        for k, alpha in enumerate(alphas):
            state = renew(lerp(placed[i], placed[j], alpha))
            for part, examples in parts.items():
                score = evaluate(model, state, examples)
                curves[f"{part}_error"].append(score.error)
                curves[f"{part}_loss"].append(score.loss)
            progress.tick(done * len(alphas) + k + 1, len(chosen) * len(alphas), f"copies {i} and {j}")
        pairs.append(
            {
                "copies": [i, j],
                "distance": distance(placed[i], placed[j], model.parameters),
                "curves": curves,
                "barrier": {name: barrier(c) for name, c in curves.items()},
                "excess": {name: excess(c, alphas) for name, c in curves.items()},
            }
        )
    return Measurements(
        "connectivity", {"copies": len(copies), "alphas": alphas, **_mean(pairs), "pairs": pairs, "rows": record}
    )


def barrier(curve: Sequence[float]) -> float:
    """The largest value on the line minus the mean of its ends."""
    return max(curve) - (curve[0] + curve[-1]) / 2


def excess(curve: Sequence[float], alphas: Sequence[float]) -> float:
    """The largest height of the line's values over the chord between its ends; zero or more."""
    return max(0.0, *(v - ((1 - a) * curve[0] + a * curve[-1]) for v, a in zip(curve, alphas, strict=True)))


def distance(a: Mapping[str, Tensor], b: Mapping[str, Tensor], names: Sequence[str]) -> float:
    """Euclidean distance over the tensors of `names`."""
    return float(torch.stack([(a[n].double() - b[n].double()).square().sum() for n in names]).sum().sqrt())


def _mean(pairs: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Estimates over pairs, and the curves averaged point by point."""

    def over(key: str) -> dict[str, object]:
        return {name: dependent([p[key][name] for p in pairs]) for name in CURVES}  # type: ignore[index]

    columns = {name: zip(*(p["curves"][name] for p in pairs), strict=True) for name in CURVES}  # type: ignore[index]
    return {
        "barrier": over("barrier"),
        "excess": over("excess"),
        "distance": dependent([p["distance"] for p in pairs]),  # type: ignore[misc]
        "curves": {name: [sum(point) / len(point) for point in points] for name, points in columns.items()},
    }


def _norms(module: nn.Module) -> dict[str, nn.modules.batchnorm._BatchNorm]:
    return {n: m for n, m in module.named_modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)}


def _renewer(model: Model, like: State, batches: Sequence[Tensor]) -> Callable[[State], State]:
    """A function that measures a state's batch-norm statistics anew: the average over `batches`, each counted once."""
    module = model.instance(like, batches[0].device).eval()
    norms = _norms(module).values()
    for norm in norms:
        norm.momentum = None  # torch's cumulative average
        norm.train()

    @torch.no_grad()
    def renew(state: State) -> State:
        module.load_state_dict(state)
        for norm in norms:
            norm.reset_running_stats()
        for x in batches:
            module(x)
        return module.state_dict()

    return renew


def _check(settings: Settings, model: Model, copies: Sequence[State], masks: Sequence[Mask]) -> None:
    if len(copies) < 2:
        raise UserError(
            "a barrier needs two copies of a ticket",
            got=f"{len(copies)} copies",
            expected="at least 2",
            mend="retrain more copies: retrain.copies: 2",
        )
    if not settings.allow_different_masks:
        for i, mask in enumerate(masks[1:], 1):
            differing = [n for n, kept in masks[0].kept.items() if not torch.equal(kept, mask.kept[n])]
            if differing:
                raise UserError(
                    f"copies 0 and {i} have different masks: between them lie denser networks",
                    got=f"they differ in {', '.join(differing)}",
                    expected="copies of one ticket",
                    mend="compare copies of one ticket, or set allow_different_masks: true",
                )
    counters = {f"{name}.num_batches_tracked".lstrip(".") for name in _norms(model.module)}
    for name, tensor in copies[0].items():
        if tensor.is_floating_point() or name in counters:
            continue
        if any(not torch.equal(tensor, other[name]) for other in copies[1:]):
            raise UserError(
                f"buffer '{name}' holds {tensor.dtype} values that differ between copies",
                expected="equal values: integers cannot be interpolated",
            )
