"""Distribution matching: synthetic images whose mean features are those of real images, in many random networks.

    X = argmin E_theta sum_c || mean_{x in R_c} f_theta(A_c(x)) - mean_{x in X_c} f_theta(A_c(x)) ||^2

f_theta are the features that enter the network's last linear layer; theta is a new random initialisation at every
iteration and is never trained. R_c and the siamese augmentation A_c are siamese.py's.

References:
    | Dataset Condensation with Distribution Matching (Zhao and Bilen, 2023), https://arxiv.org/abs/2110.04181
"""

from __future__ import annotations

import math
from functools import partial
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from distill_prune.artifacts import Cost, SyntheticSet
from distill_prune.data.augment import Augment
from distill_prune.distill import Distilled, Source
from distill_prune.distill.formation import Init, initial
from distill_prune.distill.kept import SourceSettings
from distill_prune.distill.outer import Run
from distill_prune.distill.siamese import Siamese, counting
from distill_prune.errors import ConfigError
from distill_prune.models import Model
from distill_prune.progress import Progress
from distill_prune.rng import Streams
from distill_prune.tree import State

NEEDS_EXPERTS = False
NEEDS_MODEL = True


class Settings(SourceSettings):
    """Defaults are those of the paper's code for CIFAR-10. `ipc` counts stored images."""

    name: Literal["distribution"] = "distribution"
    ipc: int = Field(10, ge=1, description="stored images of each class")
    iterations: int = Field(20000, ge=1, description="steps on the pixels, each with a new network")
    batch_real: int = Field(256, ge=1, description="real images of a class per iteration")
    lr_pixels: float = Field(1.0, gt=0, description="learning rate of the pixels")
    momentum: float = Field(0.5, ge=0, lt=1, description="of the step on the pixels")
    augment: Augment = Field(
        "color_crop_cutout_flip_scale_rotate",
        description="augmentation of real and synthetic images alike, and of training on the set",
    )
    init: Init = Field("real", description="where pixels begin: real images, or noise")
    factor: int = Field(1, ge=1, description="f x f training images in each stored one")


def last_linear(model: Model) -> str:
    """The name of the network's last linear layer.

    Raises:
        ConfigError: it has none.
    """
    linear: list[str] = [name for name, layer in model.module.named_modules() if isinstance(layer, nn.Linear)]
    if not linear:
        raise ConfigError(
            "matching tells a network's features from its classifier by its last linear layer, and this network has none",
            expected="a network that ends in a linear layer",
        )
    return linear[-1]


def features(model: Model, state: State, x: Tensor) -> Tensor:
    """What enters the last linear layer (N, D) for inputs `x` (N, C, H, W), in evaluation mode."""
    caught: list[Tensor] = []
    layer = model.module.get_submodule(last_linear(model))
    hook = layer.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0]))
    try:
        model(state, x)
    finally:
        hook.remove()
    return caught[-1].flatten(1)


def feature_distance(model: Model, state: State, real: Tensor, synthetic: Tensor, label: int) -> Tensor:
    """The squared distance, a scalar, of the mean features of two batches (B, C, H, W) of one class; differentiable in
    `synthetic` alone. The class itself, `label`, is not used."""
    with torch.no_grad():
        target = features(model, state, real).mean(0)
    return (features(model, state, synthetic).mean(0) - target).square().sum()


def distill(settings: Settings, source: Source, streams: Streams, device: str, progress: Progress) -> Distilled:
    """Distil `source.train` into `ipc` stored images per class.

    Raises:
        ConfigError: the network has no linear layer, or the images are too small for the factor.
        DataError: a class has too few examples.
        NonFiniteError: loss or gradient stayed non-finite after several returns to the last good state, each with half
            the pixel step; the message names the tensor.
    """
    model = source.network
    last_linear(model)
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
        fresh = model.fresh(streams.seed, *streams.names, "network", **dict(streams.parts), iteration=run.iteration)
        with counting(run):
            distance = partial(feature_distance, model, pairs.settled(model, fresh, iteration=run.iteration))
            loss, gradient = pairs.gradient(run.learned["pixels"], distance, iteration=run.iteration)
        about = f"pixel step {settings.lr_pixels * run.shrink:.3g}"
        value = run.checked({"matching loss": loss, "pixel gradient": gradient}, about, "a smaller lr_pixels")
        if math.isnan(value):
            continue
        run.update({"pixels": gradient})
        run.advance(value, progress, {})
    synthetic = SyntheticSet(
        run.result("pixels"),
        labels,
        source.classes,
        source.transform,
        "distribution",
        None,
        settings.augment,
        settings.factor,
    )
    cost = Cost(pairs.images(model, len(labels)), 1, run.flops).times(settings.iterations)
    return Distilled(synthetic, cost, {**run.record, "rollbacks": run.tries})
