"""Gradient matching: synthetic images on which the loss's gradients are those on real images, all along a training.

    X = argmin E_{theta_0} sum_t sum_c D( grad_theta CE(theta_t; A_c(R_c)), grad_theta CE(theta_t; A_c(X_c)) )

theta_0 is a new random initialisation at every iteration. An iteration takes `inner_loop` steps on the pixels, and
between them trains the network by `net_steps` steps of SGD on the synthetic images (DC, DSA) or on real ones (IDC).
R_c and the siamese augmentation A_c are siamese.py's. D is a sum over weights of two or more dimensions; biases and the
affine maps of norms do not enter:

    cosine    sum over output channels o of 1 - <g_o, s_o> / (|g_o| |s_o| + 1e-6)
    mse       |g - s|^2, without the last linear layer

References:
    | Dataset Condensation with Gradient Matching (Zhao et al., 2021), https://arxiv.org/abs/2006.05929
    | Dataset Condensation with Differentiable Siamese Augmentation (Zhao and Bilen, 2021), https://arxiv.org/abs/2102.08259
    | Dataset Condensation via Efficient Synthetic-Data Parameterization (Kim et al., 2022), https://arxiv.org/abs/2205.14959
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from distill_prune.artifacts import Cost, Examples, SyntheticSet, decode
from distill_prune.data.augment import Augment
from distill_prune.distill import Distilled, Source
from distill_prune.distill.distribution import last_linear
from distill_prune.distill.formation import Init, initial
from distill_prune.distill.kept import SourceSettings
from distill_prune.distill.outer import Run
from distill_prune.distill.siamese import Siamese, counting
from distill_prune.errors import ConfigError, NonFiniteError
from distill_prune.models import Model
from distill_prune.progress import Progress
from distill_prune.rng import Streams
from distill_prune.training import Recipe, train, training_cost
from distill_prune.tree import State

NEEDS_EXPERTS = False
NEEDS_MODEL = True

Metric = Literal["cosine", "mse"]
EPS = 1e-6


class Settings(SourceSettings):
    """Defaults are those of DSA's code for CIFAR-10 with 10 images per class, where an epoch of the network is one step.

    DC: augment none. Both: inner_loop 1 for 1 image per class, inner_loop 50 and net_steps 20 for 50. IDC's code for
    CIFAR-10: factor 2, metric mse, clamp true, iterations 2000, inner_loop 100, batch_real 64, augment color+crop+cutout,
    net_on real, net_steps 32, net_batch 64, net_momentum 0.9, net_weight_decay 0.0005, and lr_pixels 0.005 for pixels in
    [0, 1], which is 0.005 / std^2, about 0.1, for normalized ones. There the network's real images are mixed by CutMix,
    its momentum lasts for an iteration, and one class's pixels take their step before the next class is matched.
    """

    name: Literal["gradient"] = "gradient"
    ipc: int = Field(10, ge=1, description="stored images of each class")
    iterations: int = Field(1000, ge=1, description="networks, one after the other")
    inner_loop: int = Field(10, ge=1, description="matching steps with each network")
    metric: Metric = Field("cosine", description="distance of gradients")
    batch_real: int = Field(256, ge=1, description="real images of a class per matching step")
    lr_pixels: float = Field(0.1, gt=0, description="learning rate of the pixels")
    momentum: float = Field(0.5, ge=0, lt=1, description="of the step on the pixels")
    clamp: bool = Field(False, description="hold the pixels within [0, 1] after every step")
    augment: Augment = Field(
        "color_crop_cutout_flip_scale_rotate",
        description="augmentation of real and synthetic images alike, and of training on the set",
    )
    init: Init = Field("real", description="where pixels begin: real images, or noise")
    factor: int = Field(1, ge=1, description="f x f training images in each stored one")
    net_on: Literal["synthetic", "real"] = Field("synthetic", description="what the network is trained on")
    net_steps: int = Field(50, ge=1, description="steps of the network between two matching steps")
    net_batch: int = Field(256, ge=1, description="examples in a batch of the network's training")
    net_lr: float = Field(0.01, gt=0, description="learning rate of the network")
    net_momentum: float = Field(0.0, ge=0, lt=1, description="momentum of the network's training")
    net_weight_decay: float = Field(0.0, ge=0, description="weight decay of the network's training")

    @property
    def recipe(self) -> Recipe:
        """How the network is trained between two matching steps; every image with an augmentation of its own."""
        return Recipe(
            length=f"{self.net_steps}it",
            batch=self.net_batch,
            lr=self.net_lr,
            momentum=self.net_momentum,
            weight_decay=self.net_weight_decay,
            augment=self.augment,
        )


def matched_names(model: Model, metric: Metric) -> tuple[str, ...]:
    """The weights whose gradients `metric` compares.

    Raises:
        ConfigError: there are none.
    """
    left_out = f"{last_linear(model)}.weight" if metric == "mse" else ""
    names = tuple(n for n in model.parameters if model.module.get_parameter(n).dim() > 1 and n != left_out)
    if not names:
        raise ConfigError("metric mse leaves out the last linear layer, and this network has nothing else", fix="metric cosine")
    return names


def distance(real: Sequence[Tensor], synthetic: Sequence[Tensor], metric: Metric) -> Tensor:
    """D of the gradients on real and on synthetic images, a scalar."""
    total = real[0].new_zeros(())
    for g, s in zip(real, synthetic, strict=True):
        if metric == "mse":
            total = total + (g - s).square().sum()
        else:
            g, s = g.flatten(1), s.flatten(1)
            total = total + (1 - (g * s).sum(1) / (g.norm(dim=1) * s.norm(dim=1) + EPS)).sum()
    return total


def gradient_distance(
    model: Model, state: State, names: Sequence[str], metric: Metric, real: Tensor, synthetic: Tensor, label: int
) -> Tensor:
    """D for two batches (B, C, H, W) of the class `label`, in evaluation mode; differentiable in `synthetic` alone."""
    leaves = {n: state[n].detach().requires_grad_() for n in names}

    def gradients(x: Tensor, *, graph: bool) -> tuple[Tensor, ...]:
        loss = F.cross_entropy(model({**state, **leaves}, x), torch.full((len(x),), label, device=x.device))
        return torch.autograd.grad(loss, list(leaves.values()), create_graph=graph)

    return distance(gradients(real, graph=False), gradients(synthetic, graph=True), metric)


def _step(
    settings: Settings, names: Sequence[str], source: Source, pairs: Siamese, run: Run, state: State, inner: int
) -> float:
    """One matching step with the network at `state`: the loss, after the pixels have moved; NaN where the run went back."""
    model, at = source.network, {"iteration": run.iteration, "inner": inner}
    with counting(run):
        settled = pairs.settled(model, state, **at)
        match = partial(gradient_distance, model, settled, names, settings.metric)
        loss, gradient = pairs.gradient(run.learned["pixels"], match, **at)
    about = f"pixel step {settings.lr_pixels * run.shrink:.3g}"
    value = run.checked({"matching loss": loss, "pixel gradient": gradient}, about, "a smaller lr_pixels")
    if math.isnan(value):
        return math.nan
    run.update({"pixels": gradient})
    if settings.clamp:
        with torch.no_grad():
            pixels, transform = run.learned["pixels"], source.transform
            pixels.copy_(transform.apply(transform.invert(pixels).clamp(0, 1)))
    return value


def _iterate(settings: Settings, names: Sequence[str], source: Source, pairs: Siamese, run: Run, labels: Tensor) -> float:
    """One iteration: the mean loss of its matching steps, or NaN where the run went back to a good state."""
    model, streams, device = source.network, pairs.streams, labels.device
    state = model.fresh(streams.seed, *streams.names, "network", **dict(streams.parts), iteration=run.iteration)
    total = 0.0
    for inner in range(settings.inner_loop):
        if inner:
            on = pairs.train
            if settings.net_on == "synthetic":
                on = Examples(decode(run.learned["pixels"].detach(), settings.factor), labels.repeat(settings.factor**2))
            noise = streams.under("training", iteration=run.iteration, inner=inner)
            try:
                state = train(model, state, on, settings.recipe, noise, device=device).state
            except NonFiniteError:
                named = {"training loss of the network": torch.tensor(math.nan)}
                about = f"pixel step {settings.lr_pixels * run.shrink:.3g}, net_lr {settings.net_lr:.3g}"
                return run.checked(named, about, "a smaller lr_pixels or net_lr")
        total += _step(settings, names, source, pairs, run, state, inner)
        if math.isnan(total):
            return math.nan
    return total / settings.inner_loop


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    """Distil `source.train` into `ipc` stored images per class.

    Raises:
        ConfigError: the metric leaves no weight of the network, or the images are too small for the factor.
        DataError: a class has too few examples.
        NonFiniteError: a loss or gradient stayed non-finite after several returns to the last good state, each with half
            the pixel step; the message names the tensor.
    """
    model = source.network
    names = matched_names(model, settings.metric)
    images, labels = initial(source, settings.ipc, settings.factor, settings.init, streams)
    pairs = Siamese.of(source, device, settings.batch_real, settings.augment, settings.factor, streams)
    run = Run.begin(
        {"pixels": images.to(device)},
        {"pixels": settings.lr_pixels},
        optimizer="sgd",
        momentum=settings.momentum,
        iterations=settings.iterations,
    )
    run.resume(progress)
    while run.iteration < settings.iterations:
        run.keep()
        loss = _iterate(settings, names, source, pairs, run, labels.to(device))
        if not math.isnan(loss):
            run.advance(loss, progress, {})
    synthetic = SyntheticSet(
        run.result("pixels"),
        labels,
        source.classes,
        source.transform,
        "gradient",
        None,
        settings.augment,
        settings.factor,
    )
    matching = Cost(pairs.images(model, len(labels)), 1, run.flops).times(settings.inner_loop)
    trains_on = len(pairs.train) if settings.net_on == "real" else synthetic.count
    training = training_cost(model, trains_on, source.train.shape, settings.net_batch, 0, settings.net_steps)
    cost = (matching + training.times(settings.inner_loop - 1)).times(settings.iterations)
    return Distilled(synthetic, cost, {**run.record, "rollbacks": run.tries})
