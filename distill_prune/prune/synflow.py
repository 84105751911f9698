"""SynFlow: what flows through a connection when every weight is its magnitude; no data, nothing trained.

    score = w dR/dw,   R = sum of the outputs at an input of ones, of the network with weights m * |w|

R is the sum over all paths of the product of their |w|, so in a plain feed-forward network the scores of every layer sum to
R, and a layer's last weights carry all of it: with enough rounds they outlive weights elsewhere, and no layer is removed
whole while others have weights to spare. What a level removes goes in `rounds` parts on an exponential schedule, scored
anew before each; one round at high sparsity does lose whole layers. Levels of an arm with `one_shot` have schedules of their
own, so that their masks need not nest.

Only weights make paths: biases and running means are zero. Norms are in evaluation mode: batch norm multiplies a channel by
|w| / sqrt(v + eps), v its running variance (1 at initialisation). Instance, group and layer norm would divide the flow by
its own deviation, after which R no longer sums over paths; of these only the multiplication by |w| is left. (The authors'
code takes the magnitudes of biases and running means, too, and knows batch norm alone.) Everything is in float64 on the
CPU: products over many layers leave the range of float32.

References:
    | Pruning neural networks without any data by iteratively conserving synaptic flow (Tanaka et al., 2020), algorithm 1,
      https://arxiv.org/abs/2006.05467
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from distill_prune.artifacts import Cost
from distill_prune.errors import NonFiniteError, UserError
from distill_prune.prune.inputs import LevelNetwork
from distill_prune.prune.select import Iterative as Base
from distill_prune.training import flops_of_step
from distill_prune.tree import State

NEEDS_TRAINING = False
NEEDS_MODEL = True
WORDS = "SynFlow: weights that carry the flow through the untrained network, without data"


class Settings(Base):
    name: Literal["synflow"] = "synflow"
    rounds: int = Field(100, ge=1, description="parts in which a level's share goes, scored anew before each")


def scores(settings: Settings, level: LevelNetwork) -> State:
    """Scores in float64.

    Raises:
        NonFiniteError: the flow is beyond the range of float64.
    """
    model, mask = level.model, level.mask
    magnitudes = {n: _magnitude(n, t) for n, t in mask.apply(level.state).items()}
    weights = [magnitudes[n].requires_grad_() for n in mask.kept]
    with _linear_norms(model.module):
        flow = model(magnitudes, torch.ones(1, *model.shape, dtype=torch.float64)).sum()
    if not bool(torch.isfinite(flow)):
        raise NonFiniteError("the synaptic flow of the network is not finite", got=float(flow.detach()))
    gradients = torch.autograd.grad(flow, weights)
    return {n: g * w.detach() for n, g, w in zip(mask.kept, gradients, weights, strict=True)}


def cost(settings: Settings, level: LevelNetwork) -> Cost:
    """One pass forward and backward, of one input that is no image.

    Raises:
        UserError: the network takes text.
    """
    model = level.model
    if len(model.shape) != 3:
        raise UserError("synflow sends ones through a network of images, and this one takes text", fix="another criterion")
    return Cost(0, 0, flops_of_step(model, 2, torch.Size(model.shape)) // 2)


def _magnitude(name: str, tensor: Tensor) -> Tensor:
    """What stands in a tensor's place: nothing where it is added, its magnitude where it multiplies."""
    if not tensor.is_floating_point():
        return tensor
    tensor = tensor.detach().cpu().double()
    return torch.zeros_like(tensor) if name.endswith(("bias", "running_mean")) else tensor.abs()


@contextlib.contextmanager
def _linear_norms(module: nn.Module) -> Iterator[None]:
    """Inside, norms that measure their input only multiply it."""
    hooks = [layer.register_forward_hook(_scale) for layer in module.modules() if _measures(layer)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _measures(layer: nn.Module) -> bool:
    """Whether a norm divides by statistics of its input, in evaluation mode, too."""
    if isinstance(layer, nn.modules.batchnorm._NormBase):
        return layer.running_var is None
    return isinstance(layer, nn.GroupNorm | nn.LayerNorm | nn.RMSNorm)


def _scale(layer: Any, inputs: tuple[Tensor, ...], normed: Tensor) -> Tensor:
    """In place of a norm's output: its input (N, C, ...), multiplied by the norm's weights where it has some."""
    x = inputs[0]
    weight: Tensor | None = layer.weight
    if weight is None:
        return x
    return x * (weight if isinstance(layer, nn.LayerNorm | nn.RMSNorm) else weight.view(-1, *[1] * (x.dim() - 2)))
