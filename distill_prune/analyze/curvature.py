"""Hessian trace over surviving weights, by Hutchinson's estimator.

H is the Hessian of the mean cross-entropy over a fixed, recorded set of unaugmented training examples, in evaluation
mode and without the weight-decay term, restricted to surviving prunable weights. For Rademacher probes v on these,

    tr H = E[v' H v],   tr H_ll = E[v_l' (H v)_l] of layer l,   sum_i w_i^2 H_ii = E[sum_i w_i^2 v_i (H v)_i],

all from the same products. The last is invariant under rescaling of layers. Raw traces of networks with different
survivors or norms are not comparable; trace per survivor, weight norm and loss stand beside them.

References:
    | A stochastic estimator of the trace of the influence matrix (Hutchinson, 1989)
    | Fast exact multiplication by the Hessian (Pearlmutter, 1994)
    | Relative flatness and generalization (Petzka et al., 2021), https://arxiv.org/abs/2001.00939
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor

from distill_prune.analyze.estimate import Estimate, combined, estimate
from distill_prune.analyze.rows import draw_rows
from distill_prune.artifacts import Examples, Mask, Measurements
from distill_prune.errors import NonFiniteError, UserError
from distill_prune.models import Model
from distill_prune.progress import SILENT, Progress
from distill_prune.rng import Streams
from distill_prune.settings import Entry as Base
from distill_prune.tree import State, select, shapes, to, unflatten

TAKES: Literal["copies"] = "copies"

GRAPH_BYTES = 512 * 2**20
"""What one chunk's graph may hold. Fixed, not read from the machine: the chunks decide the order of summation."""


class Settings(Base):
    name: Literal["curvature"] = "curvature"
    rows: int = Field(1024, ge=1)
    probes_min: int = Field(16, ge=16)
    probes_max: int = Field(200, ge=16)
    relative_error: float = Field(0.05, gt=0, description="stop where standard error / |trace| is at most this")
    check_every: int = Field(8, ge=1)

    @model_validator(mode="after")
    def _ordered(self) -> Settings:
        if self.probes_min > self.probes_max:
            raise ValueError(f"probes_min {self.probes_min} is above probes_max {self.probes_max}")
        return self


def measure(
    settings: Settings,
    model: Model,
    copies: Sequence[State],
    masks: Sequence[Mask],
    train: Examples,
    streams: Streams,
    progress: Progress = SILENT,
) -> Measurements:
    """The trace of each copy and their mean, on the device that `train` lives on; `masks` has one mask a copy.

    Copies have probes of their own, so that their errors are independent; `se` of a mean over copies is the probes'
    error and `sd` the spread between copies. Stopping by the error seen so far narrows intervals slightly.

    Numbers: `trace`, `trace_per_weight`, `invariant`, `weight_norm`, `train_loss` (estimates over copies), `layers`
    {name: {remaining, trace, trace_per_weight}}, `copies` (each with its estimates over probes, their count and which
    rule stopped them: "relative error" or "cap"), `rows` (recorded).

    Raises:
        UserError: there are no examples or no copies.
        NonFiniteError: the loss or a product is not finite.
    """
    if not len(train) or not copies:
        raise UserError(
            "curvature needs training examples and a retrained copy",
            got=f"{len(train)} examples, {len(copies)} copies",
            expected="at least one of each",
        )
    device = train.x.device
    rows = draw_rows(len(train), settings.rows, streams("curvature", "rows"))
    examples = train.take(rows.index.to(device)).ready()
    measured: list[dict[str, Any]] = []
    for c, (copy, mask) in enumerate(zip(copies, masks, strict=True)):

        def tick(done: int, c: int = c) -> None:
            progress.tick(c * settings.probes_max + done, len(copies) * settings.probes_max, f"copy {c}")

        measured.append(_one(settings, model, to(copy, device), mask.to(device), examples, streams, c, tick))
    layers = {
        name: {key: _over([m["layers"][name][key] for m in measured]) for key in ("trace", "trace_per_weight")}
        | {"remaining": [m["layers"][name]["remaining"] for m in measured]}
        for name in model.prunable
    }
    over = {key: combined([m[key] for m in measured]) for key in ("trace", "trace_per_weight", "invariant")}
    plain = {key: estimate([m[key] for m in measured]) for key in ("weight_norm", "train_loss")}
    return Measurements("curvature", {**over, **plain, "layers": layers, "copies": measured, "rows": rows.record()})


def _over(parts: Sequence[Estimate | None]) -> Estimate | None:
    known = [p for p in parts if p is not None]
    return combined(known) if known else None


def _one(
    settings: Settings,
    model: Model,
    state: State,
    mask: Mask,
    examples: Examples,
    streams: Streams,
    copy: int,
    tick: Callable[[int], None],
) -> dict[str, Any]:
    """Trace, its parts and company of one state."""
    products = Products(model, state, mask, examples)
    samples: list[Tensor] = []
    block, stopped = settings.probes_min, "cap"
    while block:
        indices = range(len(samples), len(samples) + block)
        probes = [products.probe(streams("curvature", "probe", copy=copy, index=i)) for i in indices]
        samples += products.quadratics(probes).unbind()
        tick(len(samples))
        if not all(bool(torch.isfinite(s).all()) for s in samples[-block:]):
            raise NonFiniteError(f"the curvature of copy {copy} is not finite", got=f"training loss {products.loss:g}")
        trace = estimate([float(s[:-1].sum()) for s in samples])
        if _enough(trace, settings.relative_error):
            stopped = "relative error"
            break
        block = min(settings.check_every, settings.probes_max - len(samples))
    table = torch.stack(samples)
    layers = {}
    for column, name in zip(table.T, model.prunable, strict=False):
        layer, remaining = estimate(column.tolist()), int(mask.kept[name].sum())
        layers[name] = {"remaining": remaining, "trace": layer, "trace_per_weight": _divided(layer, remaining)}
    return {
        "trace": trace,
        "trace_per_weight": _divided(trace, mask.remaining),
        "invariant": estimate(table[:, -1].tolist()),
        "probes": len(samples),
        "stopped": stopped,
        "survivors": mask.remaining,
        "layers": layers,
        "weight_norm": products.weight_norm(),
        "train_loss": products.loss,
    }


def _enough(trace: Estimate, relative_error: float) -> bool:
    return trace["se"] is not None and trace["mean"] is not None and trace["se"] <= relative_error * abs(trace["mean"])


def _divided(whole: Estimate, count: int) -> Estimate | None:
    """The estimate for one of `count` equal shares; None where there are none."""
    if count == 0:
        return None
    return {k: v if k == "n" or v is None else v / count for k, v in whole.items()}


class Products:
    """Products of H with probes at one state, by double backward, chunk by chunk of examples.

    One gradient with a graph serves many probes; it is kept for all of them where one chunk holds every example.
    """

    def __init__(self, model: Model, state: State, mask: Mask, examples: Examples) -> None:
        self._model, self._examples = model, examples
        # In the network's order: a mask read from a file may list its tensors in another, and probes are drawn flat.
        self._kept = {n: mask.kept[n].to(state[n].dtype) for n in model.prunable}
        self._weights = {n: state[n].detach().clone().requires_grad_() for n in model.prunable}
        self._state = {**state, **self._weights}
        self._shapes = shapes(select(state, model.prunable))
        n = len(examples)
        self.chunk = min(n, max(1, GRAPH_BYTES // max(1, self._bytes_per_example())))
        self._only = self._gradient(slice(0, n)) if self.chunk == n else None
        self.loss = sum(float(loss) for loss, _ in self._gradients())

    def probe(self, generator: torch.Generator) -> State:
        """A Rademacher vector on the survivors, zero elsewhere; drawn flat over all prunable weights, on the CPU."""
        signs = torch.randint(0, 2, (sum(s.numel() for s in self._shapes.values()),), generator=generator) * 2 - 1
        return {n: part.to(self._kept[n]) * self._kept[n] for n, part in unflatten(signs, self._shapes).items()}

    def quadratics(self, probes: Sequence[State]) -> Tensor:
        """Per probe v: v_l' (H v)_l of every layer l, then sum_i w_i^2 v_i (H v)_i; (probes, L + 1), float64."""
        total = torch.zeros(len(probes), len(self._weights) + 1, dtype=torch.float64)
        for _, gradient in self._gradients():
            for row, probe in enumerate(probes):
                product = torch.autograd.grad(
                    gradient, list(self._weights.values()), list(probe.values()), retain_graph=True, materialize_grads=True
                )
                terms = [v * hv for v, hv in zip(probe.values(), product, strict=True)]
                layers = [t.sum(dtype=torch.float64) for t in terms]
                weighted = [
                    (w.detach().square() * t).sum(dtype=torch.float64)
                    for w, t in zip(self._weights.values(), terms, strict=True)
                ]
                total[row] += torch.stack([*layers, torch.stack(weighted).sum()]).cpu()
        return total

    def weight_norm(self) -> float:
        """Euclidean norm of the surviving weights."""
        squares = [(w.detach() * self._kept[n]).square().sum(dtype=torch.float64) for n, w in self._weights.items()]
        return float(torch.stack(squares).sum().sqrt())

    def _gradients(self) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        if self._only is not None:
            yield self._only
            return
        for begin in range(0, len(self._examples), self.chunk):
            yield self._gradient(slice(begin, begin + self.chunk))

    def _gradient(self, rows: slice) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The rows' share of the mean loss, and its gradient with a graph."""
        logits = self._model(self._state, self._examples.inputs(rows))
        loss = F.cross_entropy(logits, self._examples.y[rows], reduction="sum") / len(self._examples)
        return loss.detach(), torch.autograd.grad(loss, list(self._weights.values()), create_graph=True)

    def _bytes_per_example(self) -> int:
        """What one more example adds to the graph; tensors saved by two operations count twice, on the safe side."""

        def saved(rows: int) -> int:
            sizes: list[int] = []

            def pack(t: Tensor) -> Tensor:
                sizes.append(t.numel() * t.element_size())
                return t

            with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
                self._gradient(slice(0, rows))
            return sum(sizes)

        return saved(2) - saved(1) if len(self._examples) > 1 else 0
