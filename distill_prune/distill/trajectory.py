"""Trajectory matching: synthetic images on which N steps of training go where M epochs on real data went.

    X, eta = argmin E_{expert, t} ||theta_N(X, eta) - theta*_{t+M}||^2 / ||theta*_t - theta*_{t+M}||^2,  theta_0 = theta*_t

The gradient is exact (unroll.py). The rate is learned as log eta, so it stays positive. Every iteration draws its
expert, start epoch, batches and augmentation from streams named by its number: an interrupted run goes on bit by bit.

References:
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), algorithm 1
    | Dataset Condensation with Differentiable Siamese Augmentation (Zhao and Bilen, 2021), for the augmentation
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor

from distill_prune.artifacts import Cost, SyntheticSet, Trajectory
from distill_prune.data.augment import Augment, draw
from distill_prune.distill import Distilled, Source
from distill_prune.distill.inner_adam import unrolled_gradient
from distill_prune.distill.subset import real_images
from distill_prune.distill.unroll import Batch, Inner, Matched, graph_bytes, matching_gradient
from distill_prune.errors import NonFiniteError
from distill_prune.progress import Progress
from distill_prune.rng import Streams
from distill_prune.settings import Entry as Base
from distill_prune.training import CountFlops
from distill_prune.tree import unflatten

NEEDS_EXPERTS = True


class Settings(Base):
    """Defaults are the paper's for CIFAR-10 with 10 images per class, the rate's step translated to log eta."""

    name: Literal["trajectory"] = "trajectory"
    ipc: int = Field(10, ge=1)
    iterations: int = Field(5000, ge=1)
    inner_steps: int = Field(30, ge=1, description="N, steps on synthetic images")
    expert_epochs: int = Field(2, ge=1, description="M, epochs of the expert to match")
    min_start: int = Field(0, ge=0, description="first start epoch")
    max_start: int = Field(20, ge=1, description="start epochs are drawn below this one")
    inner: Literal["sgd", "adam"] = "sgd"
    inner_momentum: float = Field(0.0, ge=0, lt=1)
    inner_lr: float = Field(0.01, gt=0, description="eta at the start; learned")
    batch: int | None = Field(None, ge=1, description="synthetic images per inner step; null: all")
    augment: Augment = "color_crop_cutout_flip_scale_rotate"
    init: Literal["real", "noise"] = "real"
    optimizer: Literal["sgd", "adam"] = "sgd"
    lr_pixels: float = Field(100.0, gt=0)
    lr_log_lr: float = Field(0.1, ge=0)
    momentum: float = Field(0.5, ge=0, lt=1)
    decay: Literal["none", "cosine"] = "none"
    segment: int | Literal["auto"] = Field("auto", description="s of the adjoint; auto: what memory_gb holds")
    memory_gb: float = Field(1.0, gt=0, description="memory for the graphs of the inner steps, where segment is auto")

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.min_start >= self.max_start:
            raise ValueError(f"min_start {self.min_start} must be below max_start {self.max_start}")
        if self.inner == "adam" and (self.inner_momentum or self.segment != "auto"):
            raise ValueError("inner: adam is unrolled whole by `higher`: leave out inner_momentum and segment")
        if isinstance(self.segment, int) and self.segment < 1:
            raise ValueError("segment must be at least 1")
        return self

    @property
    def last_epoch(self) -> int:
        """The last expert epoch that matching can use."""
        return self.max_start - 1 + self.expert_epochs


RECORD_EVERY = 10
KEEP_EVERY = 20  # a multiple of RECORD_EVERY, so that a return to a good state starts a new span
TRIES = 6


@dataclass
class _Run:
    """All state of an unfinished run: pixels, log eta, their optimizer, and what the guards remember."""

    pixels: Tensor
    log_lr: Tensor
    optimizer: torch.optim.Optimizer
    iteration: int = 0
    shrink: float = 1.0
    tries: int = 0
    record: dict[str, list[float]] = field(default_factory=lambda: {"iteration": [], "loss": [], "lr": []})
    flops: int = 0
    total: float = 0.0

    def tensors(self) -> dict[str, Tensor]:
        out = {"pixels": self.pixels.detach().clone(), "log_lr": self.log_lr.detach().clone()}
        for index, slots in self.optimizer.state_dict()["state"].items():
            out |= {f"optimizer/{index}/{n}": v.clone() for n, v in slots.items() if isinstance(v, Tensor)}
        return out

    def restore(self, tensors: dict[str, Tensor]) -> None:
        slots: dict[int, dict[str, Tensor]] = {}
        with torch.no_grad():
            self.pixels.copy_(tensors["pixels"])
            self.log_lr.copy_(tensors["log_lr"])
        for name, tensor in tensors.items():
            if name.startswith("optimizer/"):
                _, index, slot = name.split("/")
                slots.setdefault(int(index), {})[slot] = tensor.clone()
        self.optimizer.load_state_dict({"state": slots, "param_groups": self.optimizer.state_dict()["param_groups"]})

    def numbers(self) -> dict[str, Any]:
        return {
            "iteration": self.iteration,
            "shrink": self.shrink,
            "tries": self.tries,
            "record": self.record,
            "flops": self.flops,
            "total": self.total,
        }


def _begin(settings: Settings, source: Source, streams: Streams, device: str) -> tuple[_Run, Tensor]:
    pixels, labels = real_images(source.train, source.classes, settings.ipc, streams.under("init"))
    if settings.init == "noise":
        pixels = torch.randn(pixels.shape, generator=streams("init", "noise"))
    pixels = pixels.to(device).requires_grad_()
    log_lr = torch.tensor(math.log(settings.inner_lr), device=device, requires_grad=True)
    groups = [{"params": [pixels], "lr": settings.lr_pixels}, {"params": [log_lr], "lr": settings.lr_log_lr}]
    optimizer: torch.optim.Optimizer = (
        torch.optim.SGD(groups, momentum=settings.momentum)
        if settings.optimizer == "sgd"
        else torch.optim.Adam(groups, betas=(settings.momentum, 0.999))
    )
    return _Run(pixels, log_lr, optimizer), labels.to(device)


def _batches(settings: Settings, shape: torch.Size, streams: Streams, iteration: int, device: str) -> list[Batch]:
    """The inner steps' rows (chunks of permutations) and augmentation draws of one iteration."""
    n, batch = shape[0], settings.batch
    out: list[Batch] = []
    queue: list[Tensor] = []
    generator = streams("batches", iteration=iteration)
    for i in range(settings.inner_steps):
        rows = None
        if batch is not None and batch < n:
            queue = queue or list(torch.split(torch.randperm(n, generator=generator), batch))
            rows = queue.pop(0).to(device)
        size = (n if rows is None else len(rows), *shape[1:])
        drawn = (
            None
            if settings.augment == "none"
            else draw(settings.augment, torch.Size(size), streams("augment", iteration=iteration, step=i))
        )
        out.append(Batch(rows, drawn))
    return out


def _ends(
    settings: Settings, experts: Sequence[Trajectory], streams: Streams, iteration: int, device: str
) -> tuple[Tensor, Tensor]:
    """The expert's checkpoints at a random start epoch t and at t + M."""
    generator = streams("expert", iteration=iteration)
    expert = experts[int(torch.randint(len(experts), (), generator=generator))]
    t = int(torch.randint(settings.min_start, settings.max_start, (), generator=generator))
    return expert.checkpoints[t].to(device), expert.checkpoints[t + settings.expert_epochs].to(device)


def _segment(settings: Settings, inner: Inner, theta: Tensor) -> int:
    """s: as asked, or as many steps as fit into `memory_gb`. Read off the settings and not off the machine's free memory:
    the segments decide the order of additions, and equal settings must give equal bits."""
    if settings.segment != "auto":
        return settings.segment
    return max(1, min(settings.inner_steps, int(settings.memory_gb * 1e9) // max(1, graph_bytes(inner, theta))))


def _flops(inner: Inner, start: Tensor, target: Tensor) -> int:
    """Operations of one iteration: one differentiated inner step, counted, times N. What the adjoint computes again to
    save memory (up to a third more) is left out, so that the count does not depend on the segment length."""
    with CountFlops() as counter:  # type: ignore[no-untyped-call]
        matching_gradient(replace(inner, batches=inner.batches[:1]), start, target, segment=1)
    return int(counter.total) * len(inner.batches)


def _bad(matched: Matched) -> str | None:
    """The name of the first tensor that is not finite."""
    named = {"matching loss": matched.loss, "pixel gradient": matched.pixels, "gradient of log eta": matched.log_lr}
    return next((n for n, t in named.items() if not bool(torch.isfinite(t).all())), None)


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    """Distil `source.train` into `ipc` images per class.

    Raises:
        NonFiniteError: loss or gradient stayed non-finite after several returns to the last good state, each with half
            the pixel step; the message names the tensor.
    """
    run, labels = _begin(settings, source, streams, device)
    if (snapshot := progress.load()) is not None:
        run.restore({n: t for n, t in snapshot.tensors.items() if not n.startswith("good/")})
        for name, value in snapshot.numbers.items():
            setattr(run, name, value)
    good = (run.iteration, run.tensors())
    if snapshot is not None:
        good = (
            snapshot.numbers["iteration"] // KEEP_EVERY * KEEP_EVERY,
            {n.removeprefix("good/"): t for n, t in snapshot.tensors.items() if n.startswith("good/")},
        )
    model, shapes = source.model, source.experts[0].shapes
    assert model is not None
    buffers = {n: t.to(device, copy=True) for n, t in model.module.named_buffers()}  # in training written, never read

    def forward(theta: Tensor, x: Tensor) -> Tensor:
        return model({**buffers, **unflatten(theta, shapes)}, x, train=True)

    segment = 0
    while run.iteration < settings.iterations:
        i = run.iteration
        if i % KEEP_EVERY == 0:
            good = (i, run.tensors())
        start, target = _ends(settings, source.experts, streams, i, device)
        inner = Inner(
            forward,
            run.pixels,
            labels,
            run.log_lr,
            _batches(settings, run.pixels.shape, streams, i, device),
            settings.inner_momentum,
        )
        segment = segment or _segment(settings, inner, start)
        run.flops = run.flops or _flops(inner, start, target)
        matched = (
            unrolled_gradient(model, inner, start, target)
            if settings.inner == "adam"
            else matching_gradient(inner, start, target, segment=segment)
        )
        if (bad := _bad(matched)) is not None:
            if run.tries >= TRIES:
                raise NonFiniteError(
                    f"the {bad} is not finite at iteration {i}, after {TRIES} returns to a good state",
                    got=f"eta {float(run.log_lr.detach().exp()):.3g}, pixel step {settings.lr_pixels * run.shrink:.3g}",
                    mend="a smaller lr_pixels, lr_log_lr or inner_lr",
                )
            run.restore(good[1])
            run.iteration, run.shrink, run.tries, run.total = good[0], run.shrink / 2, run.tries + 1, 0.0
            keep = sum(at <= run.iteration for at in run.record["iteration"])
            run.record = {name: values[:keep] for name, values in run.record.items()}
            continue
        _update(settings, run, matched)
        run.total += float(matched.loss)
        run.iteration += 1
        if run.iteration % RECORD_EVERY == 0 or run.iteration == settings.iterations:
            span = (run.iteration - 1) % RECORD_EVERY + 1
            run.record["iteration"].append(run.iteration)
            run.record["loss"].append(run.total / span)
            run.record["lr"].append(float(run.log_lr.detach().exp()))
            progress.tick(run.iteration, settings.iterations, f"loss {run.total / span:.3f}, eta {run.record['lr'][-1]:.4f}")
            run.total = 0.0
        if run.iteration < settings.iterations and progress.due():
            progress.save(run.tensors() | {f"good/{n}": t for n, t in good[1].items()}, run.numbers())
    return _finish(settings, source, run, labels)


def _update(settings: Settings, run: _Run, matched: Matched) -> None:
    """One step of the outer optimizer, the pixel step shrunk by the guards and the schedule."""
    share = run.iteration / settings.iterations
    anneal = 0.5 * (1 + math.cos(math.pi * share)) if settings.decay == "cosine" else 1.0
    run.optimizer.param_groups[0]["lr"] = settings.lr_pixels * run.shrink * anneal
    run.optimizer.param_groups[1]["lr"] = settings.lr_log_lr * run.shrink * anneal
    run.pixels.grad, run.log_lr.grad = matched.pixels, matched.log_lr
    run.optimizer.step()


def _finish(settings: Settings, source: Source, run: _Run, labels: Tensor) -> Distilled:
    made = SyntheticSet(
        run.pixels.detach().cpu().clone(),
        labels.cpu(),
        source.classes,
        source.transform,
        "trajectory",
        float(run.log_lr.detach().exp()),
        settings.augment,
    )
    per_step = len(labels) if settings.batch is None else min(settings.batch, len(labels))
    cost = Cost(per_step * settings.inner_steps, settings.inner_steps, run.flops).times(settings.iterations)
    return Distilled(made, cost, {**run.record, "rollbacks": run.tries})
