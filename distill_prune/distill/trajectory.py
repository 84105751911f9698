"""Trajectory matching: synthetic images on which N steps of training go where M epochs on real data went.

    X, eta = argmin E_{expert, t} ||theta_N(X, eta) - theta*_{t+M}||^2 / ||theta*_t - theta*_{t+M}||^2,  theta_0 = theta*_t

The gradient is exact (unroll.py). The rate is learned as log eta, so it stays positive. Every iteration draws its
expert, start epoch, batches and augmentation from streams named by its number: an interrupted run goes on bit by bit.

With `labels: soft` the labels are softmax(Y) of logits Y that begin at an expert's and are learned as the pixels are. The
range of start epochs may grow from `first_max_start` to `max_start`; the result may be a running mean over iterations.
Where experts are convex (artifacts/convex.py), starts may be any points of their lines and not the ends of epochs alone.
With `factor` f every stored image holds f^2 training images (artifacts/formation.py).

References:
    | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), algorithm 1,
      https://arxiv.org/abs/2203.11932
    | Towards Lossless Dataset Distillation via Difficulty-Aligned Trajectory Matching (Guo et al., 2024), for soft labels,
      the growing range and the mean, https://arxiv.org/abs/2310.05773
    | Dataset Condensation with Differentiable Siamese Augmentation (Zhao and Bilen, 2021), for the augmentation
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from pydantic import Field, field_validator, model_validator
from torch import Tensor

from distill_prune.artifacts import Cost, SyntheticSet, Trajectory, decode
from distill_prune.data.augment import Augment
from distill_prune.distill import Distilled, Reads, Source
from distill_prune.distill.derivatives import derivatives, forward_of
from distill_prune.distill.formation import Init, initial
from distill_prune.distill.inner_adam import unrolled_gradient
from distill_prune.distill.kept import SourceSettings
from distill_prune.distill.outer import Run
from distill_prune.distill.unroll import Inner, Matched, drawn, matching_gradient, record_bytes
from distill_prune.errors import DataError, Misfit
from distill_prune.progress import Progress
from distill_prune.rng import Streams
from distill_prune.settings import Later
from distill_prune.training import CountFlops
from distill_prune.tree import clone, to

NEEDS_EXPERTS = True


class Settings(SourceSettings):
    """Defaults are the paper's for CIFAR-10 with 10 images per class, the rate's step translated to log eta."""

    name: Literal["trajectory"] = "trajectory"
    ipc: int = Field(10, ge=1, description="stored images of each class")
    iterations: int = Field(5000, ge=1, description="steps on the pixels")
    inner_steps: int = Field(30, ge=1, description="N, steps on synthetic images")
    expert_epochs: int = Field(2, ge=1, description="M, epochs of the expert to match")
    min_start: int = Field(0, ge=0, description="first start epoch")
    max_start: int = Field(20, ge=1, description="start epochs are drawn below this one")
    inner: Literal["sgd", "adam"] = Field("sgd", description="optimizer of the inner steps")
    inner_momentum: float = Field(0.0, ge=0, lt=1, description="momentum of the inner steps")
    inner_lr: float = Field(0.01, gt=0, description="learning rate of the inner steps at the start; it is learned")
    batch: int | None = Field(None, ge=1, description="synthetic images per inner step; null: all")
    augment: Augment = Field(
        "color_crop_cutout_flip_scale_rotate", description="augmentation in the inner steps, and of training on the set"
    )
    init: Literal["real", "noise", "correct"] = Field(
        "real", description="where pixels begin: real images, noise, or (correct) real images that an expert classifies rightly"
    )
    optimizer: Literal["sgd", "adam"] = Field("sgd", description="optimizer of the pixels")
    lr_pixels: float = Field(100.0, gt=0, description="learning rate of the pixels")
    lr_log_lr: float = Field(0.1, ge=0, description="learning rate of the logarithm of inner_lr; 0: inner_lr stays")
    momentum: float = Field(0.5, ge=0, lt=1, description="of the step on the pixels (sgd)")
    decay: Literal["none", "cosine"] = Field("none", description="cosine: the steps shrink to nothing over the iterations")
    segment: int | Literal["auto"] = Field(
        "auto", description="how many of the last inner steps keep their intermediate results; auto: as memory_gb allows"
    )
    memory_gb: float = Field(1.0, gt=0, description="memory for what inner steps keep, where segment is auto")
    labels: Literal["hard", "soft"] = Later("hard", description="soft: learned, from an expert's logits on")
    lr_labels: float = Later(2.0, ge=0, description="step of the labels' logits")
    first_max_start: int | None = Later(None, ge=1, description="the range of start epochs at the beginning")
    growth: int = Later(1000, ge=1, description="iterations over which the range grows to max_start")
    average: float = Later(0.0, ge=0, lt=1, description="momentum of the running mean that is the result; 0: none")
    factor: int = Later(1, ge=1, description="f x f training images in each stored one")
    starts: Literal["epochs", "continuous"] = Later(
        "epochs", description="continuous: at any time from min_start to max_start; with experts.convex alone"
    )

    @field_validator("inner", mode="before")
    @classmethod
    def _unrolled(cls, inner: object) -> object:
        if inner == "sam":
            raise Misfit("inner steps are differentiated step by step, and sam's are not", expected="sgd or adam")
        return inner

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        if self.min_start >= self.max_start:
            raise Misfit(
                "starts are drawn from a range", ["min_start"], got=self.min_start, expected=f"below max_start {self.max_start}"
            )
        if self.inner == "adam" and (self.inner_momentum or self.segment != "auto"):
            raise Misfit("adam is unrolled whole by `higher`", ["inner"], fix="leave out inner_momentum and segment")
        if self.starts == "continuous" and self.source is not None:
            what = "the real images that are kept are chosen by networks at ends of epochs, which convex experts do not have"
            raise Misfit(what, ["starts"], got=self.starts, fix="leave out starts or source")
        if self.first_max_start is not None and not self.min_start < self.first_max_start <= self.max_start:
            raise Misfit(
                "the range of starts grows from min_start to max_start",
                ["first_max_start"],
                got=self.first_max_start,
                expected=f"above min_start {self.min_start}, and not above max_start {self.max_start}",
            )
        inert = [
            *(["lr_labels"] if self.labels == "hard" else []),
            *(["growth"] if self.first_max_start is None else []),
            *(["memory_gb"] if self.segment != "auto" else []),
        ]
        if written := [name for name in inert if name in self.model_fields_set]:
            raise Misfit("it changes nothing under these settings", [written[0]], fix="leave it out")
        if isinstance(self.segment, int) and self.segment < 1:
            raise Misfit(
                "no segment is so short", ["segment"], got=self.segment, expected="auto, or a whole number of at least 1"
            )
        return self

    @property
    def soft_labels(self) -> bool:
        """Whether labels are probabilities."""
        return self.labels == "soft"

    @property
    def reads(self) -> Reads:
        return "points" if self.starts == "continuous" else super().reads

    @property
    def last_epoch(self) -> int:
        """The last expert epoch that matching can use: continuous starts come as near to max_start as one likes."""
        last_start = self.max_start if self.starts == "continuous" else self.max_start - 1
        return max(last_start + self.expert_epochs, super().last_epoch)


TEACHER_BATCH = 512


def _ends(
    settings: Settings, experts: Sequence[Trajectory], streams: Streams, iteration: int, device: str
) -> tuple[Tensor, Tensor]:
    """The expert's parameters at a random start t and at t + M; t below `max_start`, or what of it has grown yet."""
    generator, most = streams("expert", iteration=iteration), settings.max_start
    if (first := settings.first_max_start) is not None:
        most = first + (most - first) * min(iteration, settings.growth) // settings.growth
    expert = experts[int(torch.randint(len(experts), (), generator=generator))]
    if settings.starts == "continuous":
        share = float(torch.rand((), generator=generator, dtype=torch.float64))
        time = settings.min_start + share * (most - settings.min_start)
        return expert.at(time).to(device), expert.at(time + settings.expert_epochs).to(device)
    t = int(torch.randint(settings.min_start, most, (), generator=generator))
    return expert.checkpoints[t].to(device), expert.checkpoints[t + settings.expert_epochs].to(device)


def _segment(settings: Settings, inner: Inner, theta: Tensor) -> tuple[int, int | None]:
    """s, and the examples of a chunk: as asked, or as many steps as `memory_gb` holds, of a single one as many examples. Read
    off the settings and not off the machine's free memory: chunks decide the order of additions, and equal settings must
    give equal bits."""
    if settings.segment != "auto":
        return settings.segment, None
    needed = max(1, record_bytes(inner, theta))
    memory, derivatives = settings.memory_gb * 1e9, inner.derivatives
    if needed <= memory or derivatives is None or not derivatives.by_example:
        return max(1, min(settings.inner_steps, int(memory // needed))), None
    rows = inner.batches[0].rows
    return 1, max(1, int(memory / needed * len(inner.pixels if rows is None else rows)))


def _flops(inner: Inner, start: Tensor, target: Tensor) -> int:
    """Operations of one iteration: one inner step, differentiated by autograd and counted, times N. What the adjoint computes
    again to save memory (up to a third more) and other forms of the same derivatives do not change the count."""
    with CountFlops() as counter:  # type: ignore[no-untyped-call]
        matching_gradient(replace(inner, batches=inner.batches[:1], derivatives=None), start, target, segment=1)
    return int(counter.total) * len(inner.batches)


def _teacher(settings: Settings, source: Source, inputs: Tensor) -> Tensor:
    """Logits (N, K) of the first expert's last usable epoch on network inputs (N, C, H, W)."""
    model = source.network
    state = to({**dict(model.module.named_buffers()), **source.experts[0].state(settings.last_epoch)}, inputs.device)
    with torch.no_grad():  # with batch statistics: an expert's row has no running ones
        return torch.cat([model(clone(state), x, train=True) for x in torch.split(inputs, TEACHER_BATCH)])


def _begin(settings: Settings, source: Source, streams: Streams, device: str) -> tuple[Run, Tensor]:
    """The run at its beginning, and the classes (N,) of the stored images."""
    train = source.train
    if settings.init == "correct":
        predicted = torch.cat([_teacher(settings, source, train.inputs(i)).argmax(1) for i in _chunks(len(train))])
        train = train.take((predicted == train.y).nonzero().squeeze(1))
        counts = torch.bincount(train.y, minlength=len(source.classes))
        if int(counts.min()) < settings.ipc * settings.factor**2:
            raise DataError(
                f"of class '{source.classes[int(counts.argmin())]}' an expert classifies too few images for init: correct",
                got=int(counts.min()),
                expected=f"at least {settings.ipc * settings.factor**2}",
                fix="init: real, or experts that train longer",
            )
    kind: Init = "noise" if settings.init == "noise" else "real"
    pixels, classes = initial(replace(source, train=train), settings.ipc, settings.factor, kind, streams)
    learned = {"pixels": pixels.to(device), "log_lr": torch.tensor(math.log(settings.inner_lr), device=device)}
    if settings.labels == "soft":
        shown = _teacher(settings, source, decode(pixels, settings.factor))
        learned["labels"] = shown.view(settings.factor**2, len(pixels), -1).mean(0).to(device)
    rates = {"pixels": settings.lr_pixels, "log_lr": settings.lr_log_lr, "labels": settings.lr_labels}
    run = Run.begin(
        learned,
        rates,
        optimizer=settings.optimizer,
        momentum=settings.momentum,
        iterations=settings.iterations,
        averaged=tuple(n for n in learned if n != "log_lr") if settings.average else (),
        columns=("lr",),
    )
    return run, classes.to(device)


def _chunks(n: int) -> list[slice]:
    return [slice(begin, begin + TEACHER_BATCH) for begin in range(0, n, TEACHER_BATCH)]


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    """Distil `source.train` into `ipc` images per class.

    Raises:
        NonFiniteError: loss or gradient stayed non-finite after several returns to the last good state, each with half
            the pixel step; the message names the tensor.
    """
    run, classes = _begin(settings, source, streams, device)
    run.resume(progress)
    model, shapes = source.network, source.experts[0].shapes
    forward = forward_of(model, shapes, device)
    network = derivatives(model, shapes, forward)
    places, rate = None, run.learned["log_lr"]
    while run.iteration < settings.iterations:
        run.keep()
        start, target = _ends(settings, source.experts, streams, run.iteration, device)
        images = decode(run.learned["pixels"], settings.factor)
        labels = run.learned.get("labels", classes)
        noise = streams.under(iteration=run.iteration)
        batches = drawn(tuple(images.shape), settings.inner_steps, settings.batch, settings.augment, noise, device)
        repeats = (settings.factor**2, *(1,) * (labels.dim() - 1))
        inner = Inner(forward, images, labels.repeat(repeats), rate, batches, settings.inner_momentum, network)
        places = places or _segment(settings, inner, start)
        run.flops = run.flops or _flops(inner, start, target)
        matched = (
            unrolled_gradient(model, inner, start, target)
            if settings.inner == "adam"
            else matching_gradient(inner, start, target, segment=places[0], chunk=places[1])
        )
        named = {"matching loss": matched.loss, "pixel gradient": matched.pixels, "gradient of log eta": matched.log_lr}
        if matched.labels is not None:
            named["gradient of the labels"] = matched.labels
        shown = partial(_shown, settings, run)
        loss = run.checked(named, shown, "a smaller lr_pixels, lr_log_lr or inner_lr")
        if math.isnan(loss):
            continue
        run.update(_gradients(settings, run, images, matched), decay=settings.decay, average=settings.average)
        eta = float(rate.detach().exp()) if run.recording else math.nan
        run.advance(loss, progress, {"lr": eta}, f", inner lr {eta:.4f}")
    return _finish(settings, source, run, classes)


def _shown(settings: Settings, run: Run) -> str:
    """The sizes of the steps of now, for a message."""
    return f"eta {float(run.learned['log_lr'].detach().exp()):.3g}, pixel step {settings.lr_pixels * run.shrink:.3g}"


def _gradients(settings: Settings, run: Run, images: Tensor, matched: Matched) -> dict[str, Tensor]:
    """Gradients of the stored images and labels, of which each training image holds a part."""
    pixels = matched.pixels
    if settings.factor > 1:
        (pixels,) = torch.autograd.grad(images, run.learned["pixels"], pixels)
    gradients = {"pixels": pixels, "log_lr": matched.log_lr}
    if matched.labels is not None:
        gradients["labels"] = matched.labels.view(settings.factor**2, -1, matched.labels.shape[1]).sum(0)
    return gradients


def _finish(settings: Settings, source: Source, run: Run, classes: Tensor) -> Distilled:
    soft = settings.labels == "soft"
    synthetic = SyntheticSet(
        run.result("pixels"),
        run.result("labels") if soft else classes.cpu(),
        source.classes,
        source.transform,
        "trajectory",
        float(run.learned["log_lr"].detach().exp()),
        settings.augment,
        settings.factor,
        "logits" if soft else "classes",
    )
    per_step = synthetic.count if settings.batch is None else min(settings.batch, synthetic.count)
    cost = Cost(per_step * settings.inner_steps, settings.inner_steps, run.flops).times(settings.iterations)
    return Distilled(synthetic, cost, {**run.record, "rollbacks": run.tries})
