"""The gradient of trajectory matching, for images and a network of one's own."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from distill_prune.analyze.copies import check_architecture
from distill_prune.api.own import Network, ready
from distill_prune.artifacts import Examples
from distill_prune.distill.derivatives import derivatives, forward_of
from distill_prune.distill.unroll import Inner, Matched, drawn, matching_gradient
from distill_prune.errors import ConfigError, UserError
from distill_prune.models import Model
from distill_prune.rng import Streams
from distill_prune.tree import flatten, select, shapes


def match_trajectory(
    network: Network,
    images: Tensor,
    labels: Tensor,
    start: Mapping[str, Tensor],
    target: Mapping[str, Tensor],
    *,
    steps: int,
    lr: float,
    batch: int | None = None,
    momentum: float = 0.0,
    augment: str = "none",
    seed: int = 0,
    segment: int = 1,
) -> Matched:
    """The matching loss of `steps` SGD steps on synthetic images, and its exact gradient, in bounded memory:

        ||theta_N - target||^2 / ||start - target||^2,   theta_0 = start

    Args:
        network: The network that both states are of. The steps run in training mode.
        images: Synthetic images (N, C, H, W), network input.
        labels: Classes (N,) int64, or logits (N, K) of learned soft labels.
        start: An expert's tensors, by name, at the beginning; only trained ones count.
        target: The same expert's some epochs later.
        steps: N, the number of inner steps.
        lr: The inner learning rate.
        batch: Images in a step: chunks of permutations drawn by `seed`; None takes all.
        momentum: Of the inner steps.
        augment: Augmentation of each step, drawn by `seed`: words joined by + or _, such as "color_crop_flip".
        segment: The last steps that keep what the gradient needs; the others run twice. 1 takes the least memory, `steps` the
            least time. The gradient is the same to rounding.

    Returns:
        `loss`, and its gradients: `pixels` (N, C, H, W), `log_lr` (of log lr), and `labels` (N, K) where they are learned.

    Raises:
        UserError: the images, the states or an option do not fit.

    References:
        | Dataset Distillation by Matching Training Trajectories (Cazenavette et al., 2022), equation 3,
          https://arxiv.org/abs/2203.11932
    """
    if steps < 1 or segment < 1 or (batch is not None and batch < 1):
        got = f"steps {steps}, segment {segment}, batch {batch}"
        raise UserError("counts of inner steps and images", got=got, expected="at least 1 each")
    if not (0 < lr < math.inf and 0 <= momentum < 1):
        raise UserError("the inner optimizer", got=f"lr {lr}, momentum {momentum}", expected="lr above 0, momentum in [0, 1)")
    model, device = ready(network, Examples(images, labels), start, "synthetic images"), images.device
    begin, end = _parameters(model, "start", start, images), _parameters(model, "target", target, images)
    if torch.equal(begin, end):
        raise UserError("start and target are equal, so that there is no way to match", fix="a later epoch as the target")
    try:
        batches = drawn(tuple(images.shape), steps, batch, augment, Streams(seed, ("match",)), device)
    except ValueError as problem:
        raise ConfigError(f"augment '{augment}'", got=problem) from problem
    layout = shapes(select(model.module.state_dict(), model.parameters))
    forward = forward_of(model, layout, device)
    log_lr = torch.tensor(math.log(lr), dtype=images.dtype, device=device)
    inner = Inner(forward, images, labels, log_lr, batches, momentum, derivatives(model, layout, forward))
    return matching_gradient(inner, begin, end, segment=segment)


def _parameters(model: Model, name: str, state: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """The trained tensors of a state as one vector (P,) of the type and on the device of `like`.

    Raises:
        UserError: it is of another network. Tensors that are not trained may be left out.
    """
    check_architecture(model, {name: {**model.module.state_dict(), **state}})
    return flatten(state, model.parameters).to(like)
