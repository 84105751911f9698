"""What networks share: the kinds of norm, and how weights are drawn.

    norm(x) = w (x - m) / sqrt(v + eps) + b,   w, b a channel; m, v over
    batch: examples and pixels, a channel | instance: pixels, a channel | layer: pixels and all channels |
    group: pixels and a quarter of the channels

"Batch" keeps running means for evaluation; the others see one example at a time and have no state. (MTT's layer norm has
a w and b for every pixel; here all kinds share one layout.)

References:
    | Group Normalization (Wu and He, 2018), https://arxiv.org/abs/1803.08494
    | Delving Deep into Rectifiers (He et al., 2015), for `kaiming_*`, https://arxiv.org/abs/1502.01852
    | Understanding the difficulty of training deep feedforward neural networks (Glorot and Bengio, 2010), for `xavier_normal`
    | Exact solutions to the nonlinear dynamics of learning (Saxe et al., 2014), for `orthogonal`,
      https://arxiv.org/abs/1312.6120
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from pydantic import Field, model_validator
from torch import Tensor, nn

from distill_prune.errors import Misfit
from distill_prune.settings import Entry

Norm = Literal["batch", "instance", "layer", "group", "none"]
NormInit = Literal["ones", "uniform"]
Init = Literal["default", "kaiming_normal", "kaiming_uniform", "xavier_normal", "orthogonal"]
"""How weights of convolutions and linear layers are drawn; their biases keep torch's default."""

GROUPS = 4
_DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "kaiming_normal": lambda w: nn.init.kaiming_normal_(w, nonlinearity="relu"),
    "kaiming_uniform": lambda w: nn.init.kaiming_uniform_(w, nonlinearity="relu"),
    "xavier_normal": nn.init.xavier_normal_,
    "orthogonal": nn.init.orthogonal_,
}


class NormedSettings(Entry):
    """Settings of a network whose convolutions are followed by norms; `width` is its smallest number of channels."""

    width: int = Field(64, ge=1, description="channels of the narrowest layers")
    norm: Norm = Field("batch", description="the norm behind each convolution")
    norm_init: NormInit = Field("ones", description="weights of norms: ones, or drawn from U(0, 1) as OpenLTH does")
    init: Init = Field("default", description="weights of convolutions and linear layers; default: torch's")

    @model_validator(mode="after")
    def _norms(self) -> NormedSettings:
        if self.norm == "group" and self.width % GROUPS:
            raise Misfit(f"norm: group makes {GROUPS} groups", ["width"], got=self.width, expected=f"a multiple of {GROUPS}")
        if self.norm == "none" and self.norm_init != "ones":
            raise Misfit("it draws the weights of norms, and norm: none has none", ["norm_init"], fix="leave norm_init out")
        return self


def norm(kind: Norm, channels: int, pixels: int) -> nn.Module:
    """The norm of maps of so many channels and pixels.

    Raises:
        ValueError: each mean would be of one value, and the result zero for every input.
    """
    if kind == "none":
        return nn.Identity()
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    groups = {"instance": channels, "layer": 1, "group": GROUPS}[kind]
    if channels // groups * pixels == 1:
        raise ValueError(f"{kind} norm over a single value (a map of one pixel) is zero for every image")
    return nn.GroupNorm(groups, channels)


def initialised(module: nn.Module, init: Init, norm_init: NormInit = "ones") -> nn.Module:
    """`module` with its weights drawn anew from torch's global generator, layer by layer, where torch's default isn't meant."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and init != "default":
            _DRAWS[init](layer.weight)
        elif isinstance(layer, nn.BatchNorm2d | nn.GroupNorm) and norm_init == "uniform":
            nn.init.uniform_(layer.weight)
    return module
