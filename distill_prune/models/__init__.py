"""Networks by name. What an entry has is `Network`."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.func import functional_call

from distill_prune.errors import ConfigError, UserError
from distill_prune.fingerprints import Remembered
from distill_prune.models.classes import entry_of
from distill_prune.rng import seed_of, seeded
from distill_prune.settings import Entry, digest
from distill_prune.table import EntryModule, Table
from distill_prune.tree import State, clone, to


class Network(EntryModule, Protocol):
    """An entry of the table. One that begins at pre-trained weights has `resolved` and `pretrained`."""

    Settings: type[Entry]
    STEP_SECONDS: float = 1.5e-3
    """About how long a training step takes on one core, for guesses of a run's length."""
    resolved: Callable[[Entry, Remembered | None], Entry] | None = None
    """Settings that hold all that `build` needs, and what stands for the weights in keys."""
    pretrained: Callable[[Entry, State], State] | None = None
    """The weights by the module's names, for the network whose state is drawn as the second argument is."""

    def build(self, settings: Entry, shape: tuple[int, ...], classes: int, /) -> nn.Module:
        """The network. It may say which weights are `prunable`, and which tensors its task's `head`: tuples of names. By a
        method `units` it may say which of its units are interchangeable (permutations.py)."""


MODELS: Table[Network] = Table(
    "model",
    "models",
    Network,
    {
        "convnet": "distill_prune.models.convnet",
        "alexnet": "distill_prune.models.alexnet",
        "lenet": "distill_prune.models.lenet",
        "lenet5": "distill_prune.models.lenet5",
        "cifar_resnet": "distill_prune.models.cifar_resnet",
        "resnet": "distill_prune.models.resnet",
        "vgg": "distill_prune.models.vgg",
        "bert": "distill_prune.models.bert",
        "minilm": "distill_prune.models.minilm",
        "torchvision": "distill_prune.models.torchvision",
        "timm": "distill_prune.models.timm",
    },
    adapt=entry_of,
)


T = TypeVar("T")


def prunable_names(module: nn.Module) -> tuple[str, ...]:
    """Weights of convolutions and linear layers; never biases, norms or embeddings."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return tuple(f"{name}.weight" for name, layer in module.named_modules() if isinstance(layer, kinds))


def _declared(module: nn.Module, name: str, kind: type[T]) -> tuple[T, ...] | None:
    """The tuple of such things that a network declares as its attribute `name`; a layer of that name declares nothing."""
    value = getattr(module, name, None)
    return value if isinstance(value, tuple) and all(isinstance(part, kind) for part in value) else None


@dataclass(frozen=True)
class Model:
    """A network as a function of its state, for inputs of one shape: (C, H, W), of text (2, L).

    `pretrained` gives the weights that training begins at, where they are not drawn, from a drawn state.
    """

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    classes: int
    identity: str
    pretrained: Callable[[State], State] = dict

    @cached_property
    def module(self) -> nn.Module:
        """The network's layers, in evaluation mode. It is shared: leave its mode and its weights as they are."""
        with seeded(0):
            return self.build().eval()

    @cached_property
    def _training_module(self) -> nn.Module:
        """The same layers in training mode, so that no call changes the mode of a module that others use."""
        return copy.deepcopy(self.module).train()

    @cached_property
    def prunable(self) -> tuple[str, ...]:
        """Names of the prunable weights."""
        prunable = _declared(self.module, "prunable", str)
        return prunable_names(self.module) if prunable is None else prunable

    @property
    def head(self) -> tuple[str, ...]:
        """Names of the tensors of the task's head; empty where the network does not say."""
        return _declared(self.module, "head", str) or ()

    @property
    def heads(self) -> tuple[int, ...]:
        """The number of classes of each task, where the network has a head for each of several; else empty."""
        return _declared(self.module, "heads", int) or ()

    def drawn(self, seed: int, *names: str, **parts: int) -> State:
        """A new state from the stream (seed, *names, **parts), drawn as the model's settings say, on the CPU."""
        with seeded(seed_of(seed, *names, **parts)):
            return clone(self.build().state_dict())

    def fresh(self, seed: int, *names: str, **parts: int) -> State:
        """The state that training begins at: `drawn`, and where there are pre-trained weights, these in their places."""
        drawn = self.drawn(seed, *names, **parts)
        return {**drawn, **self.pretrained(drawn)}

    @cached_property
    def _constants(self) -> dict[torch.device, State]:
        """The buffers that no state holds, on each device that the network was called on."""
        saved = self.module.state_dict()
        return {torch.device("cpu"): {n: t for n, t in self.module.named_buffers() if n not in saved}}

    def __call__(self, state: Mapping[str, Tensor], x: Tensor, *, train: bool = False) -> Tensor:
        """Outputs (N, K) for inputs `x` (N, C, H, W) at `state`; with `train`, batch statistics, updated in `state`."""
        module = self._training_module if train else self.module
        return functional_call(module, {**self._constants_on(x.device), **state}, (x,))  # type: ignore[no-any-return]

    def _constants_on(self, device: torch.device) -> State:
        """The buffers that no state holds, on a device."""
        if device not in self._constants:
            self._constants[device] = to(self._constants[torch.device("cpu")], device)
        return self._constants[device]

    def instance(self, state: Mapping[str, Tensor], device: str | torch.device = "cpu") -> nn.Module:
        """A new module that holds a copy of `state`, in evaluation mode."""
        module = copy.deepcopy(self.module)
        first = next(t for t in state.values() if t.is_floating_point())
        module.to(device=device, dtype=first.dtype)
        module.load_state_dict(dict(state), strict=True)
        return module

    @property
    def parameters(self) -> tuple[str, ...]:
        """Names of the trained tensors, in order; the others are frozen, or buffers."""
        return tuple(n for n, p in self.module.named_parameters() if p.requires_grad)

    @property
    def frozen(self) -> tuple[str, ...]:
        """Names of the parameters that no training changes."""
        return tuple(n for n, p in self.module.named_parameters() if not p.requires_grad)

    @property
    def batch_norms(self) -> bool:
        """Whether some layer keeps batch statistics."""
        return any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in self.module.modules())


def build_model(settings: Entry, shape: tuple[int, ...], classes: int) -> Model:
    """The model that `settings` (of a `MODELS` entry, with its `name`) describes, for inputs (C, H, W).

    Raises:
        ConfigError: the network cannot be built for inputs of this shape.
    """
    entry = MODELS[settings.name]
    pretrained = entry.pretrained
    begin = dict if pretrained is None else lambda drawn: pretrained(settings, drawn)
    identity = digest([settings, list(shape), classes])
    model = Model(lambda: entry.build(settings, shape, classes), tuple(shape), classes, identity, begin)
    try:
        model.module  # noqa: B018  built here, so that a shape that does not fit is refused here
    except (ValueError, RuntimeError) as problem:
        raise ConfigError(
            f"model '{settings.name}' cannot take inputs of shape {tuple(shape)}",
            got=problem,
            fix="larger images, a smaller depth, or another norm" if len(shape) == 3 else "another network, or shorter text",
        ) from problem
    return model


def predicting(settings: Entry) -> Entry:
    """The settings of the same network with its head of masked language modelling.

    Raises:
        UserError: it is of a kind that has none.
    """
    if "masked" not in type(settings).model_fields:
        raise UserError(
            f"model '{settings.name}' has no masked-language-model head, which the data ask for", fix="model: {name: bert}"
        )
    return settings.model_copy(update={"masked": True})


def resolved(settings: Entry, remembered: Remembered | None = None) -> Entry:
    """`settings`, completed with the hash of their pre-trained weights where they name some.

    Hashes of files are looked up in `remembered` and added to it.

    Raises:
        DataError: the weights are missing, or do not hold what they should.
    """
    resolve = MODELS[settings.name].resolved
    return settings if resolve is None else resolve(settings, remembered)
