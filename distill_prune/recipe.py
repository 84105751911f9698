"""How a network is trained, as data; the learning rate of every step; and recipes of the literature by name.

    constant   lr
    step       lr gamma^m               m milestones lie behind: shares of the whole length, warm-up included
    cosine     lr (1 + cos pi s) / 2    s the share of the steps after the warm-up that are over
    linear     lr (1 - s)               which is 0 at the step after the last

In a warm-up of w steps, step i has lr (i + 1) / w. Weight decay is coupled (in the gradient), except under adamw, which
subtracts lr weight_decay of every weight. sam is sgd down the gradient at w + rho g / |g| (training/sharpness.py).

Label smoothing e turns the probabilities y of K classes into (1 - e) y + e / K. `head_lr` is the lr of the task's head, under
the same schedule. It needs a network that names the tensors of its head.

`preset: NAME` in a recipe stands for the fields of PRESETS[NAME]:

- Fields that are written beside it replace those of the preset.
- Fields of the preset that then change nothing are dropped. The name itself enters no key.
- In a file that extends another, a preset replaces the whole recipe of the other file, unless that names the same preset.
- `--set retrain.recipe.preset=NAME` changes the preset alone: fields that the file writes still replace the preset's.

References:
    | Decoupled Weight Decay Regularization (Loshchilov and Hutter, 2019), for adamw, https://arxiv.org/abs/1711.05101
    | Rethinking the Inception Architecture for Computer Vision (Szegedy et al., 2016), for label smoothing,
      https://arxiv.org/abs/1512.00567
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, field_validator, model_validator

from distill_prune.data.augment import Augment
from distill_prune.duration import NONE, Duration
from distill_prune.errors import Misfit, nearest
from distill_prune.settings import Later, Settings

_DSA = "color_crop_cutout_flip_scale_rotate"
_ON_SYNTHETIC = {
    "lr": 0.01,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "step",
    "milestones": (0.5,),
    "gamma": 0.1,
    "augment": _DSA,
}
_LOTTERY = {
    "length": "63000it",
    "batch": 128,
    "lr": 0.1,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "schedule": "step",
    "milestones": (32 / 63, 48 / 63),
    "gamma": 0.1,
    "augment": "crop+flip",
}

PRESETS: Mapping[str, Mapping[str, object]] = {
    # Distilled Pruning, https://arxiv.org/abs/2307.03364, from its code. Real data, CIFAR-10: of the milestones at epochs
    # 50, 65 and 80 only the first lies within 60 epochs.
    "distilled-pruning-real": {
        "length": "60ep",
        "batch": 256,
        "optimizer": "adam",
        "lr": 8e-4,
        "weight_decay": 8e-4,
        "schedule": "step",
        "milestones": (50 / 60,),
        "gamma": 0.15,
        "augment": "none",
    },
    # The same, real data, CIFAR-100.
    "distilled-pruning-real-cifar100": {
        "length": "120ep",
        "batch": 256,
        "optimizer": "adam",
        "lr": 8e-4,
        "weight_decay": 8e-4,
        "schedule": "step",
        "milestones": (50 / 120, 65 / 120, 80 / 120),
        "gamma": 0.15,
        "augment": "none",
    },
    # The same, distilled CIFAR-10 of 10 images per class; 1000ep for 50. There the optimizer is new after the drop,
    # which comes an epoch or two later; here its momentum is kept.
    "distilled-pruning-synthetic": {**_ON_SYNTHETIC, "length": "3000ep", "batch": 512},
    # Matching training trajectories, https://arxiv.org/abs/2203.11932, from its code: experts.
    "mtt-expert": {"length": "50ep", "batch": 256, "lr": 0.01, "momentum": 0.0, "augment": _DSA},
    # The same: training on a distilled set. There the rate is the one that was distilled; 0.01 stands in for it.
    "mtt-evaluation": {**_ON_SYNTHETIC, "length": "1000ep", "batch": 256},
    # Linear Mode Connectivity in Sparse Neural Networks, https://arxiv.org/abs/2310.18769, from its code and that of IDC,
    # https://arxiv.org/abs/2205.14959: CIFAR, real data; 1000ep on distilled data. Its box of CutMix is a pixel smaller where
    # its side is odd (cutmix.py).
    "idc": {
        "length": "300ep",
        "batch": 64,
        "lr": 0.01,
        "momentum": 0.9,
        "weight_decay": 5e-4,
        "schedule": "step",
        "milestones": (2 / 3, 5 / 6),
        "gamma": 0.2,
        "augment": "flip+color+crop_scale_rotate",
        "cutmix": 0.5,
        "cutmix_beta": 1.0,
    },
    # The Lottery Ticket Hypothesis for Pre-trained BERT Networks, https://arxiv.org/abs/2007.12223, from its code: GLUE,
    # sentences of at most 128 word pieces. It searches with a rate that falls linearly over all rounds together, so within
    # a round by a tenth: schedule constant comes nearest. AdamW's eps there is 1e-8, torch's default.
    "bert-glue": {
        "length": "3ep",
        "batch": 32,
        "optimizer": "adamw",
        "lr": 2e-5,
        "schedule": "linear",
        "clip": 1.0,
    },
    # Linear Mode Connectivity and the Lottery Ticket Hypothesis, https://arxiv.org/abs/1912.05671. Second-hand: batch,
    # optimizer and rate of lenet and of resnet20 are as other papers quote them; lengths, drops, weight decay,
    # augmentation and all of the low, warm-up and VGG rows could not be checked against the paper.
    "lottery-lenet": {"length": "24000it", "batch": 60, "optimizer": "adam", "lr": 12e-4},
    "lottery-resnet20": _LOTTERY,
    "lottery-resnet20-low": {**_LOTTERY, "lr": 0.01},
    "lottery-resnet20-warmup": {**_LOTTERY, "lr": 0.03, "warmup": "30000it"},
    "lottery-vgg16": _LOTTERY,
    "lottery-vgg16-low": {**_LOTTERY, "lr": 0.01},
    "lottery-vgg16-warmup": {**_LOTTERY, "warmup": "30000it"},
}
"""Fields of recipes by name. A recipe that names one has its values, so keys do not depend on the names of this table."""


def _idle(values: Mapping[str, object]) -> dict[str, str]:
    """The fields that change nothing, given the others, each with the setting that makes it so."""
    idle: dict[str, str] = {}
    if values["schedule"] != "step":
        idle |= dict.fromkeys(("milestones", "gamma"), f"schedule '{values['schedule']}'")
    if values["optimizer"] not in ("sgd", "sam"):
        idle |= dict.fromkeys(("momentum", "nesterov"), f"optimizer '{values['optimizer']}'")
    if values["optimizer"] != "sam":
        idle["rho"] = f"optimizer '{values['optimizer']}'"
    if values["cutmix"] == 0:
        idle["cutmix_beta"] = "cutmix 0"
    return idle


Precision = Literal["float32", "bfloat16", "tf32"]


class Recipe(Settings):
    """How a network is trained. Milestones are shares of the whole length; `preset` is written like a field."""

    # `default=` by name: type checkers without the plugin of pydantic know no other defaults.

    length: Duration = Field(default=Duration(30, "ep"), description="in steps or epochs, like 500it or 20ep")
    batch: int = Field(default=128, ge=1, description="examples in a batch")
    optimizer: Literal["sgd", "adam", "adamw", "sam"] = Field(
        default="sgd", description="sgd, adam, adamw, or sam: sharpness-aware sgd, two passes a step"
    )
    lr: float = Field(default=0.1, gt=0, description="learning rate at the start")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of sgd and sam")
    weight_decay: float = Field(default=0.0, ge=0, description="as a share of the weight, a step")
    schedule: Literal["constant", "step", "cosine", "linear"] = Field(
        default="constant", description="how the rate changes over the length"
    )
    milestones: tuple[float, ...] = Field(
        default=(0.5, 0.75), description="where the rate falls in schedule step, as shares of the length"
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="what the rate is multiplied by at each milestone")
    warmup: Duration = Field(default=NONE, description="how long the rate rises from 0, like 500it")
    augment: Augment = Field(default="none", description="augmentation of the images, words joined by + or _")
    nesterov: bool = Later(False, description="Nesterov's form of momentum")
    label_smoothing: float = Later(0.0, ge=0, lt=1, description="share of each label that is spread over all classes")
    cutmix: float = Later(0.0, ge=0, le=1, description="the probability that a batch is mixed")
    cutmix_beta: float = Later(1.0, gt=0, description="CutMix's share of an image is drawn from Beta(b, b)")
    precision: Precision = Later(
        "float32",
        description="of the products in training's forward and backward pass; weights and evaluation are float32. tf32: "
        "float32 with fewer digits on CUDA; the same as float32 on a CPU",
    )
    head_lr: float | None = Later(None, gt=0, description="learning rate of the task's head; null: lr")
    clip: float | None = Later(None, gt=0, description="largest norm of the gradient of all parameters together")
    rho: float = Later(0.05, gt=0, description="of sam: how far up the gradient its second pass is, as a distance of weights")
    batches: Literal["shuffled", "by_length"] = Later(
        "shuffled", description="by_length: sentences of about one length together, so that little of a batch is padding"
    )

    @model_validator(mode="before")
    @classmethod
    def _expand(cls, raw: object) -> object:
        """The preset's fields under those that are written."""
        if not isinstance(raw, Mapping) or "preset" not in raw:
            return raw
        written, name = {k: v for k, v in raw.items() if k != "preset"}, raw["preset"]
        if name is None:  # `preset: null` leaves an inherited one out
            return written
        if str(name) not in PRESETS:
            raise Misfit("no preset has this name", ["preset"], got=name, expected=nearest(str(name), PRESETS))
        values = {**PRESETS[name], **written}
        idle = _idle({n: field.default for n, field in cls.model_fields.items()} | values)
        return {k: v for k, v in values.items() if k in written or k not in idle}

    @field_validator("length")
    @classmethod
    def _some(cls, length: Duration) -> Duration:
        if length.count < 1:
            raise Misfit("a recipe trains for at least one step", got=length)
        return length

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        values = dict(self)
        idle = _idle(values)
        for name in (n for n in values if n in idle and n in self.model_fields_set):
            default = type(self).model_fields[name].default
            if values[name] != default:
                shown = list(default) if isinstance(default, tuple) else default
                raise Misfit(f"it changes nothing under {idle[name]}", [name], fix=f"leave it out, or at {shown}")
        if self.nesterov and not self.momentum:
            raise Misfit("it needs a momentum above 0", ["nesterov"])
        return self

    @property
    def passes(self) -> int:
        """How many times a step goes over its batch."""
        return 2 if self.optimizer == "sam" else 1

    def steps(self, examples: int) -> int:
        """The number of steps on a set of `examples` examples."""
        return Duration.of(self.length).steps(examples, self.batch)  # `model_copy` does not check what it is given

    def lr_at(self, step: int, examples: int) -> float:
        """The learning rate of the step with index `step`."""
        total, warm = self.steps(examples), Duration.of(self.warmup).steps(examples, self.batch)
        if step < warm:
            return self.lr * (step + 1) / warm
        share = step / max(total, 1)
        if self.schedule == "step":
            return self.lr * self.gamma ** sum(share >= m for m in self.milestones)
        if self.schedule == "cosine":
            return self.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))
        if self.schedule == "linear":
            return self.lr * (total - step) / max(total - warm, 1)
        return self.lr
